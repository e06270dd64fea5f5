/** Follows the server's log of events for conversations: in order, each once, also across a lost connection. */

/**
 * Events: "message" and "conversation" with the log's entry as detail; "anew" when all is to be fetched: at the beginning,
 * and when the log does not reach back to where the connection was lost.
 */
export class TalkFeed extends EventTarget {
  /** @type {number|null} */ #last = null;

  /** @param {import("./socket.js").Socket} socket */
  constructor(socket) {
    super();
    this.socket = socket;
    socket.on("events.entry", ({ entry }) => this.#take(entry));
    socket.on("events.gap", ({ dropped_to: to }) => {
      this.#last = to;
      this.#tell("anew", null);
    });
    socket.on("welcome", () => this.#follow());
  }

  /** @param {string} type @param {(entry: any) => void} listener */
  on(type, listener) {
    this.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }

  async #follow() {
    const first = this.#last === null;
    try {
      const { after } = await this.socket.request("events.follow", { after: this.#last });
      this.#last ??= after;
    } catch (error) {
      if (error.code === "disconnected") return; // the next connection follows
      this.#last = null; // a log from before a restore of the server: what it holds is another
      return setTimeout(() => this.#follow(), 1000);
    }
    if (first) this.#tell("anew", null);
  }

  #take(entry) {
    if (this.#last !== null && entry.id <= this.#last) return;
    this.#last = entry.id;
    if (entry.type.startsWith("message.")) this.#tell("message", entry);
    else if (/^(conversation|member)\./.test(entry.type)) this.#tell("conversation", entry);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Who of the people in my conversations is here, as far as they show it: told by the server when it changes. */

import { dayAndTime, serverNow, timeOfDay } from "./clock.js";

const MOST = 200; // that the server tells one page of
const DAY_MS = 86_400_000;

/** Event "changed" when somebody came or went. */
export class Presence extends EventTarget {
  /** @type {Map<string, {online: boolean, last_seen: number|null}>} */ #known = new Map();
  #watched = "";

  /** @param {import("./socket.js").Socket} socket */
  constructor(socket) {
    super();
    this.socket = socket;
    socket.on("presence", ({ people }) => this.#take(people));
    socket.on("welcome", () => {
      const again = this.#watched;
      this.#watched = "";
      if (again) this.watch(JSON.parse(again));
    });
  }

  /** Be told of these people alone. @param {string[]} accounts */
  async watch(accounts) {
    const wanted = JSON.stringify([...new Set(accounts)].slice(0, MOST));
    if (wanted === this.#watched) return;
    this.#watched = wanted;
    try {
      const { people } = await this.socket.request("presence.watch", { accounts: JSON.parse(wanted) });
      this.#take(people);
    } catch {
      if (this.#watched === wanted) this.#watched = ""; // asked again with the next look at the list
    }
  }

  /** @param {string} account */
  isHere(account) {
    return this.#known.get(account)?.online ?? false;
  }

  /** What can be said of somebody, "" for nothing. @param {string} account */
  words(account) {
    const { online, last_seen: at } = this.#known.get(account) ?? { online: false, last_seen: null };
    if (online) return "Here now";
    return at === null ? "" : `Last here ${serverNow() - at < DAY_MS ? timeOfDay(at) : dayAndTime(at)}`;
  }

  #take(people) {
    for (const { account, online, last_seen } of people) this.#known.set(account, { online, last_seen });
    this.dispatchEvent(new CustomEvent("changed"));
  }
}

/** The chat beside a stream: shows what is said, sends each message once, also across a lost connection. */

import { newKey } from "./api.js";
import { byId, hueOf, make, show } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";

const KEPT = 200; // messages on the page; who reads further back than that is not in a live chat

export class Chat {
  #list = byId("chat-list");
  #form = byId("chat-form");
  #input = byId("chat-input");
  #fault = byId("chat-fault");
  #seen = new Set();
  /** @type {{text: string, client_txn: string}[]} */ #unsent = [];
  #sending = false;

  /** @param {import("./socket.js").Socket} socket @param {string} stream @param {string} me */
  constructor(socket, stream, me) {
    this.socket = socket;
    this.stream = stream;
    this.me = me;
    socket.on("stream.state", (event) => event.stream === stream && event.chat.forEach((message) => this.#show(message)));
    socket.on("chat.message", (message) => message.stream === stream && this.#show(message));
    socket.on("tip", (tip) => tip.stream === stream && this.#showTip(tip));
    socket.on("tip.reversed", ({ tip }) => this.#strike(tip));
    socket.on("connection", (state) => state === "open" && this.#sendAll());
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.#submit(event);
    });
  }

  /** Whether one may write. @param {boolean} allowed @param {string} hint */
  allow(allowed, hint) {
    this.#input.disabled = byId("chat-send").disabled = !allowed;
    this.#input.placeholder = hint;
  }

  /** The next one-to-one starts with an empty circle. */
  forgetPrivate() {
    for (const element of this.#list.querySelectorAll(".private")) element.remove();
    for (const key of [...this.#seen]) if (key.startsWith("one_to_one")) this.#seen.delete(key);
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#input.value.trim();
    if (!text) return;
    this.#input.value = "";
    show(this.#fault, false);
    this.#unsent.push({ text, client_txn: newKey() });
    this.#sendAll();
  }

  async #sendAll() {
    if (this.#sending) return;
    this.#sending = true;
    while (this.#unsent.length) {
      try {
        await this.socket.request("chat", { stream: this.stream, ...this.#unsent[0] });
        this.#unsent.shift();
      } catch (error) {
        if (error.code === "disconnected") break; // sent again under the same client_txn: said once
        const { text } = this.#unsent.shift();
        this.#fault.textContent = error.message;
        show(this.#fault, true);
        if (!this.#input.value) this.#input.value = text;
      }
    }
    this.#sending = false;
  }

  /** @param {import("./wire.js").ChatMessage} message */
  #show(message) {
    if (!this.#isNew(`${message.circle} ${message.seq}`)) return;
    const name = this.#named(message.from);
    const privately = message.circle === "one_to_one";
    const mark = privately ? make("span", { class: "chip" }, "only you two") : null;
    this.#append(make("li", { class: privately ? "private" : "" }, name, " ", mark, mark ? " " : null, make("span", {}, message.text)));
  }

  /** Of an anonymous tip only the two know by whom it is. @param {any} tip of the wire */
  async #showTip({ tip, from, amount, menu_item, message, anonymous }) {
    if (!this.#isNew(`tip ${tip}`)) return;
    await learnAssets().catch(() => {}); // without them the amount is said in smallest units
    const who = from === null ? make("b", {}, "Somebody") : this.#named(from);
    const secret = anonymous && from !== null ? make("span", { class: "chip" }, "not shown to others") : null;
    const what = menu_item ? ` for “${menu_item}”` : "";
    this.#append(make("li", { class: "tip", data: { tip } }, who, " tipped ", make("strong", {}, inMoney(amount)), what, message ? `: ${message}` : "", secret ? " " : null, secret));
  }

  /** Show that a tip was taken back; only the two are told. @param {string} tip */
  #strike(tip) {
    const line = [...this.#list.querySelectorAll(".tip")].find((each) => each.dataset.tip === tip);
    line?.append(" ", make("span", { class: "chip" }, "taken back"));
  }

  #isNew(key) {
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    return true;
  }

  #named(person) {
    const page = () => make("a", { href: `/u/${encodeURIComponent(person.name)}`, target: "_blank", rel: "noopener", title: "Their page, where you can block and report" }, person.name);
    const name = make("b", {}, person.id === this.me ? "You" : page());
    name.style.setProperty("--hue", String(hueOf(person.name)));
    return name;
  }

  #append(line) {
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 60;
    this.#list.append(line);
    while (this.#list.childElementCount > KEPT) this.#list.firstElementChild.remove();
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

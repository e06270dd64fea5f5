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
    const key = `${message.circle} ${message.seq}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    const name = this.#name(message.from);
    const privately = message.circle === "one_to_one";
    const mark = privately ? make("span", { class: "chip" }, "only you two") : null;
    this.#append(make("li", { class: privately ? "private" : "" }, name, " ", mark, mark ? " " : null, make("span", {}, message.text)));
  }

  /** @param {any} tip of the wire; of an anonymous one only the two know by whom it is */
  async #showTip(tip) {
    if (this.#seen.has(tip.tip)) return;
    this.#seen.add(tip.tip);
    await learnAssets().catch(() => {}); // it is shown in smallest units then
    const from = tip.from ? this.#name(tip.from) : make("b", {}, "Somebody");
    const secret = tip.anonymous && tip.from ? " (anonymously)" : "";
    const what = tip.menu_item ? ` for “${tip.menu_item}”` : "";
    this.#append(make("li", { class: "tip", data: { tip: tip.tip } }, from, `${secret} tipped `, make("span", { class: "chip" }, inMoney(tip.amount)), what, tip.message ? make("span", {}, `: ${tip.message}`) : null));
  }

  /** Show that a tip was taken back; only the two are told. @param {string} tip */
  #strike(tip) {
    const element = [...this.#list.querySelectorAll(".tip")].find((each) => each.dataset.tip === tip);
    element?.append(" ", make("span", { class: "chip" }, "taken back"));
  }

  #name({ id, name }) {
    const element = make("b", {}, id === this.me ? "You" : name);
    element.style.setProperty("--hue", String(hueOf(name)));
    return element;
  }

  #append(line) {
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 60;
    this.#list.append(line);
    while (this.#list.childElementCount > KEPT) this.#list.firstElementChild.remove();
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

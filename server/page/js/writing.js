/** What is written in a conversation: each message is sent once, also across a lost connection; drafts are kept. */

import { ask, newKey } from "./api.js";
import { byId, say, show } from "./dom.js";
import { shortly } from "./message_row.js";
import { Outgoing } from "./outgoing.js";

const TYPING_MS = 4000; // the server shows it for ten seconds
const DRAFT_MS = 1500;

/** @typedef {{conversation: string, text: string, client_txn: string, reply_to: number|null, attachments: string[], failed?: string}} Unsent */

export class Writing {
  #form = byId("write-form");
  #field = byId("write-text");
  #fault = byId("write-fault");
  /** @type {Unsent[]} */ #unsent = [];
  #sending = false;
  #talk = "";
  #typedAt = -TYPING_MS;
  #draftTimer = 0;
  /** @type {any} */ #about = null;
  #edits = false;

  /** @param {import("./socket.js").Socket} socket @param {string} me @param {any} told */
  constructor(socket, me, told) {
    this.socket = socket;
    this.told = told;
    this.files = new Outgoing(me, (conversation, wish, attachments) => this.#push({ ...wish, conversation, attachments }));
    socket.on("connection", (state) => state === "open" && this.#sendAll());
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.#submit(event);
      if (event.key === "Escape" && this.#about) this.#forget();
    });
    this.#field.addEventListener("input", () => this.#note());
    byId("write-about-cancel").onclick = () => this.#forget();
  }

  /** @param {any} talk */
  open(talk) {
    this.#saveDraft();
    this.#talk = talk.id;
    this.#forget();
    this.#field.value = talk.mine.draft;
    this.files.open(talk.id);
    show(this.#fault, false);
  }

  /** @param {boolean} allowed @param {string} hint */
  allow(allowed, hint) {
    this.#field.disabled = byId("write-send").disabled = !allowed;
    this.#field.placeholder = hint;
    this.files.allow(allowed);
  }

  /** Messages of a conversation that are on their way. @param {string} id */
  waiting(id) {
    const unsent = this.#unsent.filter(({ conversation }) => conversation === id);
    const known = new Set(unsent.map(({ client_txn: txn }) => txn));
    return [...this.files.waiting(id).filter(({ client_txn: txn }) => !known.has(txn)), ...unsent];
  }

  /** @param {any} message */
  reply(message) {
    this.#aboutTo(message, false, `Reply to ${message.from.name}: ${shortly(message, "")}`);
  }

  /** @param {any} message */
  edit(message) {
    this.#aboutTo(message, true, "Change your message");
    this.#field.value = message.text;
  }

  #aboutTo(message, edits, words) {
    this.#about = message;
    this.#edits = edits;
    say(byId("write-about-text"), words);
    show(byId("write-about"), true);
    this.#field.focus();
  }

  #forget() {
    if (this.#edits) this.#field.value = "";
    this.#about = null;
    this.#edits = false;
    show(byId("write-about"), false);
  }

  #submit(event) {
    event.preventDefault();
    const text = this.#field.value.trim();
    const files = this.files.any && !this.#edits;
    if ((!text && !files) || this.#field.disabled) return;
    show(this.#fault, false);
    clearTimeout(this.#draftTimer);
    this.#typedAt = -TYPING_MS;
    if (this.#edits) this.told.edited(this.#about.seq, text);
    else this.#write({ text, client_txn: newKey(), reply_to: this.#about?.seq ?? null }, files);
    this.#forget();
    this.#field.value = "";
    this.told.changed();
  }

  #write(message, files) {
    if (files) this.files.send(message);
    else this.#push({ ...message, conversation: this.#talk, attachments: [] });
  }

  #push(message) {
    this.#unsent.push(message);
    this.#sendAll();
  }

  async #sendAll() {
    if (this.#sending) return;
    this.#sending = true;
    while (this.#unsent.length) {
      const [first] = this.#unsent;
      const { failed, ...message } = first;
      try {
        const { seq } = await this.socket.request("message.send", message);
        this.#unsent.shift();
        this.files.written(first.client_txn);
        this.told.sent(first.conversation, seq, first.text);
      } catch (error) {
        if (error.code === "disconnected") break; // the next connection sends it
        const wait = error.extra?.retry_after_ms;
        if (error.code === "too_fast" && wait) {
          await new Promise((resolve) => setTimeout(resolve, wait));
          continue;
        }
        this.#unsent.shift();
        this.files.giveBack(first.client_txn);
        this.#tell(error, first);
      }
    }
    this.#sending = false;
    this.told.changed();
  }

  /** Say why it was refused, and give the words back. */
  #tell(error, { conversation, text }) {
    if (conversation === this.#talk && !this.#field.value) this.#field.value = text;
    say(this.#fault, error.message);
    show(this.#fault, true);
  }

  #note() {
    if (this.#edits) return;
    if (this.#field.value && performance.now() - this.#typedAt > TYPING_MS) {
      this.#typedAt = performance.now();
      this.socket.request("conversation.type", { conversation: this.#talk }).catch(() => {}); // it matters to nobody later
    }
    clearTimeout(this.#draftTimer);
    this.#draftTimer = setTimeout(() => this.#saveDraft(), DRAFT_MS);
  }

  #saveDraft() {
    if (!this.#draftTimer || !this.#talk) return;
    clearTimeout(this.#draftTimer);
    this.#draftTimer = 0;
    ask("PUT", `/conversations/${encodeURIComponent(this.#talk)}/mine`, { draft: this.#field.value }).catch(() => {}); // it is kept here still
  }
}

/** Keeps one signalling connection open: requests with answers, events in order, resumed after a loss. */

import { Problem } from "./api.js";
import { noteServerTime } from "./clock.js";

const PROTOCOL = "mesi.v1.json";
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 10_000;
const PING_EVERY_MS = 20_000; // finds out about a dead network sooner than TCP
const ANSWER_WITHIN_MS = 15_000;
const BAD_TOKEN = 4401;
const SUSPENDED = 4403;

/**
 * Events are dispatched as CustomEvents by their wire type, with the message as detail; besides:
 * "connection" (detail: "open" or "lost"), "no_session" (log in again) and "suspended". After `welcome` with `resumed: false`
 * nothing is joined: who listens to it joins.
 */
export class Socket extends EventTarget {
  /** @type {WebSocket|null} */ #socket = null;
  /** @type {Map<number, {resolve: Function, reject: Function, timer: number}>} */ #asked = new Map();
  #number = 0;
  #session = null;
  #last = 0;
  #wait = FIRST_WAIT_MS;
  #timer = 0;
  #closed = false;
  #open = false;
  /** @type {any} */ ringing = null;

  /** @param {string} token */
  constructor(token) {
    super();
    this.token = token;
    addEventListener("online", () => this.#retryNow());
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.open());
    setInterval(() => this.#open && this.request("ping").catch(() => this.#socket?.close()), PING_EVERY_MS);
  }

  open() {
    this.#closed = false;
    this.#connect();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  /** @param {string} type @param {(message: any) => void} listener */
  on(type, listener) {
    this.addEventListener(type, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }

  /**
   * @param {string} type
   * @param {object} [fields]
   * @returns {Promise<any>} the answer's result; throws Problem, code "disconnected" when no answer can come
   */
  request(type, fields = {}) {
    if (!this.#open) return Promise.reject(lost());
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(id, (asked) => asked.reject(lost())), ANSWER_WITHIN_MS);
      this.#asked.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ type, id, ...fields }));
    });
  }

  #connect() {
    clearTimeout(this.#timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.#socket = new WebSocket(`${scheme}://${location.host}/ws`, PROTOCOL));
    socket.onopen = () => {
      const resume = this.#session && { session: this.#session, after: this.#last };
      socket.send(JSON.stringify({ type: "hello", token: this.token, resume }));
    };
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(JSON.parse(data));
    socket.onclose = ({ code }) => socket === this.#socket && this.#lose(code);
  }

  #take(message) {
    if (message.server_now !== undefined) noteServerTime(message.server_now);
    if (message.type === "ok") return this.#answer(message.id, (asked) => asked.resolve(message.result));
    if (message.type === "error") return this.#answer(message.id, (asked) => asked.reject(new Problem(message)));
    if (message.event !== undefined) this.#last = message.event;
    if (message.type === "welcome") {
      this.#session = message.session;
      this.#open = true;
      this.#wait = FIRST_WAIT_MS;
      this.#tell("connection", "open");
    }
    return this.#tell(message.type, message);
  }

  #answer(id, settle) {
    const asked = this.#asked.get(id);
    if (!asked) return;
    this.#asked.delete(id);
    clearTimeout(asked.timer);
    settle(asked);
  }

  #lose(code) {
    const wasOpen = this.#open;
    this.#open = false;
    this.#socket = null;
    for (const id of [...this.#asked.keys()]) this.#answer(id, (asked) => asked.reject(lost()));
    if (this.#closed) return;
    if (code === BAD_TOKEN) return this.#tell("no_session", null);
    if (code === SUSPENDED) return this.#tell("suspended", null);
    if (wasOpen) this.#tell("connection", "lost");
    this.#timer = setTimeout(() => this.#connect(), this.#wait * (0.5 + Math.random()));
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }

  #retryNow() {
    if (!this.#socket && !this.#closed) this.#connect();
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function lost() {
  return new Problem({ code: "disconnected", detail: "The connection was lost; it comes back by itself" });
}

/** Sets, extends and clears the time after which a stream ends by itself. */

import { countDown, secondsLeft } from "./clock.js";
import { busy, byId, show } from "./dom.js";
import { complain } from "./notices.js";

const MORE_S = 600;

export class TimeLimit {
  #endsAt = null;

  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    this.socket = socket;
    this.stream = stream;
    byId("limit-form").onsubmit = (event) => {
      event.preventDefault();
      this.#set(byId("limit-set"), Math.round(Number(byId("limit-minutes").value) * 60));
    };
    byId("limit-more").onclick = () => this.#set(byId("limit-more"), secondsLeft(this.#endsAt) + MORE_S);
    byId("limit-clear").onclick = () => this.#set(byId("limit-clear"), null);
  }

  /** @param {number|null} endsAt */
  show(endsAt) {
    this.#endsAt = endsAt;
    show(byId("limit-none"), endsAt === null);
    show(byId("limit-running"), endsAt !== null);
    countDown(byId("limit-time"), endsAt);
  }

  #set(button, seconds) {
    return busy(button, () => this.socket.request("set_time_limit", { stream: this.stream, seconds }).catch((error) => complain(error)));
  }
}

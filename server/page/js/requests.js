/** The streamer's list of those who ask for a one-to-one. */

import { busy, byId, make, say, show } from "./dom.js";
import { complain } from "./notices.js";
import { counted } from "./words.js";

const USUAL_MINUTES = 10;
const [LEAST, MOST] = [5, 30];

export class Requests {
  #list = byId("requests");
  /** @type {Map<string, HTMLElement>} */ #shown = new Map();

  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    this.socket = socket;
    this.stream = stream;
  }

  /** @param {import("./wire.js").WaitingGuest[]} waiting @param {boolean} canAccept */
  show(waiting, canAccept) {
    const ids = new Set(waiting.map((guest) => guest.id));
    for (const [id, element] of this.#shown) {
      if (ids.has(id)) continue;
      if (element.contains(document.activeElement)) byId("requests-heading").focus();
      element.remove();
      this.#shown.delete(id);
    }
    for (const guest of waiting) {
      if (!this.#shown.has(guest.id)) this.#shown.set(guest.id, this.#list.appendChild(this.#row(guest)));
      this.#shown.get(guest.id).querySelector(".accept").disabled = !canAccept;
    }
    say(byId("requests-count"), waiting.length ? String(waiting.length) : "");
    show(byId("no-requests"), waiting.length === 0);
  }

  #row(guest) {
    const minutes = make("input", { type: "number", min: LEAST, max: MOST, step: 1, inputmode: "numeric", value: guest.seconds ? Math.round(guest.seconds / 60) : USUAL_MINUTES, "aria-label": `Minutes with ${guest.name}` });
    const accept = make("button", { type: "submit", class: "small strong accept" }, "Accept");
    const decline = make("button", { type: "button", class: "small quiet" }, "Decline");
    const fields = { stream: this.stream, account: guest.id };
    const form = make("form", { class: "row" }, make("label", { class: "row" }, minutes, " min"), accept, decline);
    form.onsubmit = (event) => {
      event.preventDefault();
      return this.#ask(accept, "accept_one_to_one", { ...fields, seconds: Math.round(Number(minutes.value) * 60) });
    };
    decline.onclick = () => this.#ask(decline, "decline_one_to_one", fields);
    const wish = guest.seconds ? `asks for ${counted(Math.round(guest.seconds / 60), "minute")}` : "asks, for any length";
    return make("li", {}, make("span", {}, make("b", {}, guest.name), ` ${wish}`), form);
  }

  #ask(button, type, fields) {
    return busy(button, () => this.socket.request(type, fields).catch((error) => complain(error)));
  }
}

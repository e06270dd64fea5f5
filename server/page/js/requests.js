/** The streamer's list of those who ask for a one-to-one. */

import { ask } from "./api.js";
import { countDown, inWords } from "./clock.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";
import { complain } from "./notices.js";

const USUAL_MINUTES = 10;
const [LEAST, MOST] = [5, 30];

export class Requests {
  #list = byId("requests");
  /** @type {Map<string, HTMLElement>} */ #shown = new Map();
  /** What was agreed on, by who asked. @type {Map<string, any>} */ #agreed = new Map();

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
      this.#agreed.delete(id);
    }
    if (waiting.some(({ id }) => !this.#shown.has(id))) this.#learn();
    const isTaken = waiting.some(({ confirm_by }) => confirm_by);
    for (const guest of waiting) {
      if (!this.#shown.has(guest.id)) this.#shown.set(guest.id, this.#list.appendChild(this.#row(guest)));
      this.#turn(this.#shown.get(guest.id), guest.confirm_by ?? null, canAccept && !isTaken);
    }
    say(byId("requests-count"), waiting.length ? String(waiting.length) : "");
    show(byId("no-requests"), waiting.length === 0);
  }

  /** Who is asked to come has until `comeBy`; nobody else can be meanwhile. */
  #turn(element, comeBy, canAccept) {
    show(element.querySelector(".turn"), comeBy !== null);
    countDown(element.querySelector(".turn time"), comeBy);
    show(element.querySelector(".accept"), comeBy === null);
    element.querySelector(".accept").disabled = !canAccept;
    say(element.querySelector(".no"), comeBy === null ? "Decline" : "Take it back");
  }

  /** Find out under what terms each one waits. */
  async #learn() {
    try {
      const path = `/streams/${encodeURIComponent(this.stream)}/one_to_one/requests`;
      const [{ one_to_ones: found }] = await Promise.all([ask("GET", path), learnAssets().catch(() => {})]);
      this.#agreed = new Map(found.map((one) => [one.viewer, one]));
      for (const [id, element] of this.#shown) this.#tell(id, element);
    } catch (error) {
      complain(error, "What is held could not be found out");
    }
  }

  /** With terms the length is fixed, and it is said what is held. */
  #tell(id, element) {
    const one = this.#agreed.get(id);
    if (!one) return;
    show(element.querySelector("label"), false);
    element.querySelector("input").disabled = true; // nobody can correct what is not shown, so nothing of it is checked
    say(element.querySelector(".held"), one.held ? `${inMoney(one.held)} held` : "free");
    show(element.querySelector(".held"), true);
  }

  #row(guest) {
    const minutes = make("input", { type: "number", min: LEAST, max: MOST, step: 1, inputmode: "numeric", value: guest.seconds ? Math.round(guest.seconds / 60) : USUAL_MINUTES, "aria-label": `Minutes with ${guest.name}` });
    const accept = make("button", { type: "submit", class: "small strong accept" }, "Accept");
    const decline = make("button", { type: "button", class: "small quiet no" }, "Decline");
    const fields = { stream: this.stream, account: guest.id };
    const form = make("form", { class: "row" }, make("label", { class: "row" }, minutes, " min"), accept, decline);
    form.onsubmit = (event) => {
      event.preventDefault();
      const agreed = this.#agreed.get(guest.id)?.seconds;
      return this.#ask(accept, "accept_one_to_one", { ...fields, seconds: agreed ?? Math.round(Number(minutes.value) * 60) });
    };
    decline.onclick = () => this.#ask(decline, "decline_one_to_one", fields);
    const wish = guest.seconds ? `asks for ${inWords(guest.seconds)}` : "asks, for any length";
    const turn = make("span", { class: "turn", role: "status", hidden: true }, "is asked to come, within ", make("time", { class: "count" }));
    return make("li", {}, make("span", {}, make("b", {}, guest.name), ` ${wish} `, make("span", { class: "chip held", hidden: true })), turn, form);
  }

  #ask(button, type, fields) {
    return busy(button, () => this.socket.request(type, fields).catch((error) => complain(error)));
  }
}

/** Tells viewers that the stream will soon be for others: how long until then, and whether they will stay. */

import { countDown } from "./clock.js";
import { byId, say, show } from "./dom.js";
import { notice } from "./notices.js";
import { MODES } from "./words.js";

export class ComingSwitch {
  /** @type {import("./wire.js").Mode|null} */ #mode = null;

  /** @param {() => void} buy offers a ticket */
  constructor(buy) {
    byId("coming-buy").onclick = buy;
  }

  /**
   * @param {import("./wire.js").Card|null} card null once the stream is over
   * @param {boolean} hasTicket
   * @param {boolean} mayBuy
   */
  show(card, hasTicket, mayBuy) {
    const mode = card?.next_mode ?? null;
    if (card !== null && this.#mode !== null && mode === null && card.mode !== this.#mode) notice(`The switch was called off. ${MODES[card.mode].long}, as before.`, { key: "coming" });
    this.#mode = mode;
    show(byId("coming"), mode !== null);
    if (mode === null) return;
    say(byId("coming-what"), `${MODES[mode].long}, in`);
    countDown(byId("coming-time"), card.switches_at);
    say(byId("coming-then"), then(mode, hasTicket, mayBuy));
    show(byId("coming-buy"), mode === "paid" && !hasTicket && mayBuy);
  }
}

function then(mode, hasTicket, mayBuy) {
  if (mode === "public") return "";
  if (mode === "private") return "Whom the streamer did not choose will be out then.";
  if (hasTicket) return "You have a ticket: you simply go on watching.";
  return mayBuy ? "Without a ticket you will be out then." : "Without a ticket you will be out then. None are sold just now.";
}

/** Where a viewer stands in the queue for a one-to-one: the place, when it would begin, and what is held for it. */

import { ask } from "./api.js";
import { secondsLeft, timeOfDay } from "./clock.js";
import { byId, say } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";
import { complain } from "./notices.js";

export class QueuePlace {
  /** @type {import("./money.js").Amount|null} */ #held = null;
  #known = false;
  /** @type {import("./stream_model.js").Model["asked"]} */ #shown = null;

  /** @param {string} stream @param {(asked: import("./stream_model.js").Model["asked"]) => void} told */
  constructor(stream, told) {
    this.path = `/streams/${encodeURIComponent(stream)}/one_to_one/place`;
    this.told = told;
  }

  /** Ask the server where one stands, as after a reload. */
  async refresh() {
    this.#known = true;
    const before = this.#shown;
    try {
      const [place] = await Promise.all([ask("GET", this.path), learnAssets().catch(() => {})]);
      this.#held = place.held;
      this.told({ position: place.position, waiting: place.waiting, startsAt: place.estimated_start, comeBy: place.confirm_by });
    } catch (error) {
      if (error.code === "request_unknown") {
        if (before === this.#shown) this.told(null); // else it was asked for meanwhile
      } else if (!["stream_ended", "stream_unknown", "unreachable"].includes(error.code)) complain(error);
    }
  }

  /** @param {import("./stream_model.js").Model["asked"]} asked */
  show(asked) {
    this.#shown = asked;
    if (asked === null) {
      this.#known = false;
      this.#held = null;
      return;
    }
    if (!this.#known) this.refresh(); // the event does not say what is held
    const words = ["You asked for a one-to-one."];
    if (asked.comeBy) words.push("It is your turn.");
    else if (asked.position) words.push(`You are number ${asked.position}${asked.waiting > 1 ? ` of ${asked.waiting}` : ""} in line.`);
    if (asked.startsAt && !asked.comeBy) words.push(starts(asked.startsAt));
    if (this.#held) words.push(`${inMoney(this.#held)} are held, and come back if it does not begin.`);
    say(byId("asked-text"), words.join(" "));
  }
}

function starts(at) {
  return secondsLeft(at) < 30 ? "It can begin as soon as the streamer accepts." : `If all before you take their whole time it begins at about ${timeOfDay(at)}.`;
}

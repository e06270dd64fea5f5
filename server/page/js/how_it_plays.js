/** Says over what the picture comes, and lets the viewer choose. */

import { make, say } from "./dom.js";
import { canWatchOverWebTransport } from "./moq_viewing.js";

const NAMES = { webtransport: "WebTransport", webrtc: "WebRTC" };
const CHOICES = { automatic: "Automatic", ...NAMES };

export class HowItPlays {
  #now = make("span", { id: "way", role: "status" });
  #choice = make("select", { id: "way-choice", "aria-label": "How it plays" }, ...Object.entries(CHOICES).map(option));

  /** @param {import("./viewing_ways.js").ViewingWays} viewing @param {HTMLElement} place */
  constructor(viewing, place) {
    place.append(make("p", { class: "row soft small way" }, this.#choice, this.#now));
    this.#choice.addEventListener("change", () => (viewing.choice = this.#choice.value));
    viewing.addEventListener("way", () => this.#render(viewing));
    this.#render(viewing);
  }

  #render({ way, choice }) {
    say(this.#now, way === null ? "" : `Plays over ${NAMES[way]}`);
    this.#choice.value = choice;
  }
}

function option([value, name]) {
  return make("option", { value, disabled: value === "webtransport" && !canWatchOverWebTransport() }, name);
}

/** Says over what the picture comes, and lets the viewer choose that and how good it is. */

import { make, say } from "./dom.js";
import { canWatchOverWebTransport } from "./moq_viewing.js";
import { QUALITIES } from "./viewing_ways.js";

const NAMES = { webtransport: "WebTransport", webrtc: "WebRTC" };
const CHOICES = { automatic: "Automatic", ...NAMES };
const QUALITY_NAMES = { automatic: "Best picture", medium: "Medium picture", low: "Small picture" };

export class HowItPlays {
  #now = make("span", { id: "way", role: "status" });
  #choice = make("select", { id: "way-choice", "aria-label": "How it plays" }, ...Object.entries(CHOICES).map(option));

  #quality = make("select", { id: "quality", "aria-label": "Picture quality" }, ...QUALITIES.map((name) => make("option", { value: name }, QUALITY_NAMES[name])));

  /** @param {import("./viewing_ways.js").ViewingWays} viewing @param {HTMLElement} place */
  constructor(viewing, place) {
    place.append(make("p", { class: "row soft small way" }, this.#choice, this.#quality, this.#now));
    this.#quality.value = viewing.quality;
    this.#quality.addEventListener("change", () => (viewing.quality = this.#quality.value));
    this.#choice.addEventListener("change", () => (viewing.choice = this.#choice.value));
    viewing.addEventListener("way", () => this.#render(viewing));
    this.#render(viewing);
  }

  #render({ way, choice }) {
    say(this.#now, way === null ? "" : `Plays over ${NAMES[way]}`);
    this.#choice.value = choice;
    this.#quality.hidden = way !== "webrtc";
  }
}

function option([value, name]) {
  return make("option", { value, disabled: value === "webtransport" && !canWatchOverWebTransport() }, name);
}

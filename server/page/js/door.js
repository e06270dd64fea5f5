/** The viewer's side of a closed door: what is missing, what would help, and doing it from here. */

import { ask } from "./api.js";
import { busy, byId, make, say, show } from "./dom.js";
import { openRedeem } from "./invite_code.js";
import { learnAssets } from "./money.js";
import { complain } from "./notices.js";
import { openProof } from "./proof.js";
import { TO_BEST, TO_WATCH, helpFor, waysOf } from "./rules.js";

const BEST = "best_picture"; // what is missing to one who may watch
const KEPT = "The streamer keeps the best picture for some people. All others see the next best.";

/** Reasons that something the viewer does could change. */
const HELPED = ["not_entitled", "ticket_required", "ticket_revoked", "kyf_required"];

export class Door {
  #shut = "";
  #turn = 0;

  /**
   * @param {string} stream
   * @param {{tip?: ((amount: any) => void), buy?: () => void}} ways what the page can do besides
   */
  constructor(stream, ways) {
    this.stream = stream;
    this.ways = ways;
  }

  /**
   * Show what would help to come in, or to the best picture; nothing while all is well.
   * @param {import("./stream_model.js").Model} model
   */
  show({ card, you, ended }) {
    const reason = ended === null && card && you ? missingTo(card, you) : "";
    if (reason === this.#shut) return;
    this.#shut = reason;
    this.streamer = card?.streamer.name;
    this.look();
  }

  /** Ask anew what is missing. */
  async look() {
    const turn = ++this.#turn;
    if (!this.#shut) return show(byId("door"), false);
    try {
      const [found] = await Promise.all([ask("GET", `/streams/${encodeURIComponent(this.stream)}/entitlement`), learnAssets().catch(() => {})]);
      if (turn === this.#turn) this.#render(found);
    } catch (error) {
      if (error.code !== "stream_unknown") complain(error); // the slate says that
    }
    return undefined;
  }

  #render({ ways, missing, denied }) {
    const all = [...(denied === "kyf_required" ? missing : []), ...(ways ? [ways] : [])];
    const groups = all.length > 1 ? { head: "All of these are needed:", lines: all.map((each) => (each.type === "lacking" ? each : waysOf(each))) } : all.length ? waysOf(all[0]) : null;
    show(byId("door"), groups !== null);
    if (groups === null) return;
    const best = this.#shut === BEST;
    say(byId("door-heading"), best ? "The best picture" : "What would help");
    say(byId("door-head"), best ? `${KEPT} ${groups.head}` : groups.head);
    byId("door-ways").replaceChildren(...groups.lines.map((each) => this.#line(each)));
  }

  #line(each) {
    if (each.lines) return make("li", { class: "group" }, make("span", {}, each.head), make("ul", {}, ...each.lines.map((inner) => this.#line(inner))));
    const { text, act, label, amount } = helpFor(each, this.streamer, this.#shut === BEST ? TO_BEST : TO_WATCH);
    const possible = act && (this.ways[act] || !["tip", "buy"].includes(act)); // no button that does nothing
    const button = possible ? make("button", { type: "button", class: "small strong", data: { act } }, label) : null;
    if (button) button.onclick = () => busy(button, () => this.#do(act, each, amount));
    return make("li", {}, make("span", {}, text), button);
  }

  async #do(act, lacking, amount) {
    try {
      if (act === "follow") await ask("PUT", `/follows/${encodeURIComponent(this.streamer)}`);
      else if (act === "tip") this.ways.tip(amount);
      else if (act === "buy") this.ways.buy();
      else if (act === "invite") openRedeem();
      else openProof(helpFor(lacking, this.streamer).text, () => this.look());
      if (act === "follow") await this.look();
    } catch (error) {
      complain(error);
    }
  }
}

/** The reason why somebody may not watch, or has not the best picture, as far as something could be done about it. */
function missingTo(card, you) {
  if (you.admitted) return card.kind === "video" && card.best_picture === "entitled" && !you.best_picture ? BEST : "";
  return HELPED.includes(you.reason) ? you.reason : "";
}

/** The viewer's side of a closed door: what is missing, what would help, and doing it from here. */

import { ask } from "./api.js";
import { busy, byId, make, say, show } from "./dom.js";
import { openRedeem } from "./invite_code.js";
import { learnAssets } from "./money.js";
import { complain } from "./notices.js";
import { openProof } from "./proof.js";
import { helpFor, waysOf } from "./rules.js";

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
   * Show what would help, or nothing while the door is open.
   * @param {import("./stream_model.js").Model} model
   */
  show({ card, you, ended }) {
    const reason = ended === null && card && you && !you.admitted && HELPED.includes(you.reason) ? you.reason : "";
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
    say(byId("door-head"), groups.head);
    byId("door-ways").replaceChildren(...groups.lines.map((each) => this.#line(each)));
  }

  #line(each) {
    if (each.lines) return make("li", { class: "group" }, make("span", {}, each.head), make("ul", {}, ...each.lines.map((inner) => this.#line(inner))));
    const { text, act, label, amount } = helpFor(each, this.streamer);
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

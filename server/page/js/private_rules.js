/** The streamer's rules of a private stream: a form for the usual ones, and every rule in plain words. */

import { ask } from "./api.js";
import { busy, byId, say, show } from "./dom.js";
import { assetOf, inField, learnAssets, offerAssets, payable, read } from "./money.js";
import { complain, notice } from "./notices.js";
import { ruleInWords } from "./rules.js";

const DAY_S = 86_400;
const KINDS = ["follows", "sub_tier", "invite", "ticket", "tips_total", "single_tip"];

export class PrivateRules {
  #form = byId("rules-form");
  #version = 0;
  #kyf = [];

  /** @param {string} stream */
  constructor(stream) {
    this.path = `/streams/${encodeURIComponent(stream)}/rules`;
    this.#form.oninput = () => this.#describe();
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      return busy(byId("rules-save"), () => this.#save());
    };
  }

  /** Fetch the rules that hold, and fill the form. */
  async refresh() {
    try {
      await learnAssets().catch(() => {}); // rules about tips can't be written without
      for (const kind of ["tips_total", "single_tip"]) offerAssets(this.#field(`${kind}_asset`));
      for (const element of this.#form.querySelectorAll(".needs-assets")) show(element, payable().length > 0);
      this.#take(await ask("GET", this.path));
    } catch (error) {
      complain(error);
    }
  }

  #field(name) {
    return this.#form.elements[name];
  }

  #take({ version, rules }) {
    this.#version = version;
    this.#kyf = rules.kyf;
    const { watch } = rules;
    const parts = watch.of ?? [watch];
    const simple = new Set(parts.map(({ type }) => type)).size === parts.length && parts.every(({ type, within_s }) => KINDS.includes(type) && !within_s);
    say(byId("rules-now"), `While private, it is for whoever ${ruleInWords(watch)}.${rules.kyf.length ? ` In every mode only for whoever ${ruleInWords({ type: "all_of", of: rules.kyf })}.` : ""}`);
    show(byId("rules-complex"), !simple);
    for (const kind of KINDS) this.#field(kind).checked = simple && parts.some(({ type }) => type === kind);
    if (simple) for (const part of parts) this.#fill(part);
    this.#field("join").value = watch.type === "all_of" ? "all_of" : "any_of";
    const adult = rules.kyf.find(({ type }) => type === "kyf:age_over");
    this.#field("age").value = adult ? String(adult.years) : "";
    this.#field("verified").checked = rules.kyf.some(({ type }) => type === "kyf:verified");
    this.#describe();
  }

  #fill(part) {
    if (part.type === "follows") this.#field("follows_days").value = String(Math.round(part.min_age_s / DAY_S));
    if (part.type === "sub_tier") this.#field("sub_tier_least").value = String(part.at_least);
    if (!part.at_least?.asset || !assetOf(part.at_least.asset)) return;
    this.#field(`${part.type}_amount`).value = inField(part.at_least);
    offerAssets(this.#field(`${part.type}_asset`), part.at_least.asset);
  }

  /** What the form says as rules; throws Error in plain words. */
  #written() {
    const parts = KINDS.filter((kind) => this.#field(kind).checked).map((kind) => this.#clause(kind));
    if (!parts.length) throw new Error("Choose at least one kind of people");
    const age = Number(this.#field("age").value);
    // What the form does not show (regions, tiers) is kept as it is.
    const others = this.#kyf.filter(({ type }) => type !== "kyf:age_over" && type !== "kyf:verified");
    const kyf = [...others, ...(age ? [{ type: "kyf:age_over", years: age }] : []), ...(this.#field("verified").checked ? [{ type: "kyf:verified" }] : [])];
    return { watch: parts.length === 1 ? parts[0] : { type: this.#field("join").value, of: parts }, kyf };
  }

  #clause(kind) {
    switch (kind) {
      case "follows":
        return { type: kind, min_age_s: Number(this.#field("follows_days").value) * DAY_S };
      case "sub_tier":
        return { type: kind, at_least: Number(this.#field("sub_tier_least").value) };
      case "tips_total":
      case "single_tip":
        return { type: kind, at_least: read(this.#field(`${kind}_amount`).value, this.#field(`${kind}_asset`).value) };
      default:
        return { type: kind };
    }
  }

  #describe() {
    try {
      const { watch } = this.#written();
      say(byId("rules-words"), `Then it is for whoever ${ruleInWords(watch)}.`);
      byId("rules-words").classList.remove("fault");
    } catch (error) {
      say(byId("rules-words"), error.message);
    }
  }

  async #save() {
    try {
      const rules = this.#written();
      this.#take(await ask("PUT", this.path, rules, { "If-Match": `"${this.#version}"` }));
      notice("The rules hold. While the stream is private, whoever does not meet them is out.", { key: "rules" });
    } catch (error) {
      if (error.code === "precondition_failed") {
        await this.refresh();
        notice("The rules were changed elsewhere meanwhile. Here they are; please look again.", { kind: "warn", key: "rules" });
      } else complain(error);
    }
  }
}

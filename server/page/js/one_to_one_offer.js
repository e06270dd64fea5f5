/** The streamer's terms for a one-to-one: lengths with prices, conditions, and how many may wait. */

import { ask } from "./api.js";
import { inWords } from "./clock.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inField, inMoney, learnAssets, offerAssets, read } from "./money.js";
import { complain, notice } from "./notices.js";
import { ruleInWords } from "./rules.js";

const MOST_CHOICES = 8;
const [LEAST, MOST] = [5, 30]; // minutes
const USUAL = { choices: [{ seconds: 600, price: null }], conditions: [], needs: "all", cooldown_s: 60, max_waiting: 100, calls_next: true };
const SIMPLE = ["follows", "sub_tier", "ticket"];

export class OneToOneOffer {
  #form = byId("offer-form");
  #rows = byId("offer-choices");
  /** @type {any} */ #offer = null;

  /** @param {string} stream */
  constructor(stream) {
    this.path = `/streams/${encodeURIComponent(stream)}/one_to_one/offer`;
    byId("offer-add").onclick = () => this.#add();
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      return busy(byId("offer-save"), () => this.#save());
    };
  }

  /** Fetch what is asked for, and fill the form. */
  async refresh() {
    try {
      const [{ offer }] = await Promise.all([ask("GET", this.path), learnAssets().catch(() => {})]);
      this.#take(offer);
    } catch (error) {
      complain(error);
    }
  }

  #take(offer) {
    this.#offer = offer;
    say(byId("offer-now"), offer ? offerInWords(offer) : "Whoever watches may ask, for nothing and any length.");
    const { choices, conditions, needs, cooldown_s, max_waiting, calls_next } = offer ?? USUAL;
    const priced = choices.find(({ price }) => price)?.price.asset ?? "USD";
    offerAssets(this.#form.elements.asset, priced);
    this.#rows.replaceChildren(...choices.map((choice) => this.#row(choice)));
    this.#count();
    for (const kind of SIMPLE) this.#form.elements[`offer_${kind}`].checked = conditions.some(({ type }) => type === kind);
    Object.assign(this.#form.elements.needs, { value: needs });
    this.#form.elements.cooldown.value = String(Math.round(cooldown_s / 60));
    this.#form.elements.max_waiting.value = String(max_waiting);
    this.#form.elements.calls_next.checked = calls_next;
    show(byId("offer-finer"), conditions.some(({ type }) => !SIMPLE.includes(type)));
  }

  #row({ seconds, price }) {
    const minutes = make("input", { type: "number", class: "minutes", min: LEAST, max: MOST, step: "any", required: true, inputmode: "numeric", value: seconds / 60, "aria-label": "Minutes" });
    const cost = make("input", { class: "price", inputmode: "decimal", autocomplete: "off", placeholder: "free", value: price ? inField(price) : "", "aria-label": "Price" });
    const remove = make("button", { type: "button", class: "small quiet", "aria-label": "Remove this length" }, "×");
    const row = make("li", { class: "row" }, minutes, "min for", cost, remove);
    remove.onclick = () => {
      row.remove();
      this.#count();
      byId("offer-add").focus();
    };
    return row;
  }

  #add() {
    const taken = [...this.#rows.querySelectorAll(".minutes")].map(({ value }) => Number(value));
    const free = [5, 10, 15, 20, 25, 30].find((minutes) => !taken.includes(minutes)) ?? LEAST;
    const row = this.#rows.appendChild(this.#row({ seconds: free * 60, price: null }));
    row.querySelector(".minutes").focus();
    this.#count();
  }

  #count() {
    show(byId("offer-add"), this.#rows.childElementCount < MOST_CHOICES);
    for (const button of this.#rows.querySelectorAll("button")) show(button, this.#rows.childElementCount > 1);
  }

  /** What the form says; throws Error in plain words. */
  #written() {
    const fields = this.#form.elements;
    const choices = [...this.#rows.children].map((row) => {
      const price = row.querySelector(".price").value.trim();
      const free = price === "" || /^0+([.,]0*)?$/.test(price);
      return { seconds: Math.round(Number(row.querySelector(".minutes").value) * 60), price: free ? null : read(price, fields.asset.value) };
    });
    if (new Set(choices.map(({ seconds }) => seconds)).size < choices.length) throw new Error("Each length can stand there once");
    const before = this.#offer?.conditions ?? [];
    const added = SIMPLE.filter((kind) => fields[`offer_${kind}`].checked).map((kind) => before.find(({ type }) => type === kind) ?? fresh(kind));
    return {
      choices,
      conditions: [...added, ...before.filter(({ type }) => !SIMPLE.includes(type))], // what this form does not show is kept
      needs: fields.needs.value,
      cooldown_s: Math.round(Number(fields.cooldown.value) * 60),
      max_waiting: Number(fields.max_waiting.value),
      calls_next: fields.calls_next.checked,
    };
  }

  async #save() {
    const fault = byId("offer-fault");
    show(fault, false);
    try {
      const { offer } = await ask("PUT", this.path, this.#written());
      this.#take(offer);
      notice("Your terms hold. Who waits already keeps what was agreed.", { key: "offer" });
    } catch (error) {
      fault.textContent = error.message;
      show(fault, true);
    }
  }
}

/** @param {any} offer */
function offerInWords({ choices, conditions, needs }) {
  const priced = choices.some(({ price }) => price);
  const lengths = choices.map(({ seconds, price }) => `${inWords(seconds)} for ${price ? inMoney(price) : "nothing"}`).join(", ");
  if (!conditions.length) return `You offer ${lengths}.`;
  const who = ruleInWords({ type: "all_of", of: conditions });
  return needs === "any" && priced ? `You offer ${lengths}; whoever ${who} pays nothing.` : `You offer ${lengths}, only to whoever ${who}.`;
}

function fresh(kind) {
  if (kind === "follows") return { type: kind, min_age_s: 0 };
  return kind === "sub_tier" ? { type: kind, at_least: 1 } : { type: kind };
}

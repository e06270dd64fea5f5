/** The terms of a one-to-one as a viewer meets them: lengths and prices to choose from, and asking under them. */

import { ask, newKey, order } from "./api.js";
import { inWords } from "./clock.js";
import { byId, make, say, show } from "./dom.js";
import { inMoney, learnAssets, read, sum } from "./money.js";
import { helpFor, ruleInWords, waysOf } from "./rules.js";

/**
 * @typedef {import("./money.js").Amount} Amount
 * @typedef {{seconds: number, price: Amount|null}} Choice
 * @typedef {{choices: Choice[], conditions: any[], needs: "all"|"any"}} Offer
 */

export class Terms {
  /** @type {Offer|null} */ #offer = null;
  #form = byId("ask-form");
  #fault = byId("ask-fault");
  #help = byId("ask-help");
  /** One key for one wish, kept while its answer may be lost. */
  #wish = { body: "", key: "" };

  /** @param {string} stream */
  constructor(stream) {
    this.path = `/streams/${encodeURIComponent(stream)}/one_to_one`;
    this.streamer = "the streamer";
    this.#form.addEventListener("input", () => {
      for (const element of [this.#fault, this.#help]) show(element, false); // it was about what stood there before
      this.#price();
    });
  }

  /** Whether something is asked in return, so that a request goes through `order`. */
  get asked() {
    return this.#offer !== null;
  }

  /** Fetch the terms and show them in the form. Throws Problem. */
  async load() {
    const [{ offer }] = await Promise.all([ask("GET", `${this.path}/offer`), learnAssets().catch(() => {})]);
    this.#offer = offer;
    show(byId("ask-minutes"), offer === null);
    show(byId("ask-terms"), offer !== null);
    show(this.#help, false);
    if (offer) this.#list(offer);
    this.#price();
  }

  /** @param {Offer} offer */
  #list({ choices, conditions, needs }) {
    const kept = this.#choice()?.seconds ?? choices[0].seconds;
    const option = ({ seconds, price }) => make("label", { class: "tick choice" },
      make("input", { type: "radio", name: "seconds", value: seconds, checked: seconds === kept }), make("span", {}, inWords(seconds)), make("b", {}, price ? inMoney(price) : "free"));
    const list = byId("ask-choices");
    const focused = list.contains(document.activeElement);
    list.replaceChildren(...choices.map(option));
    if (!list.querySelector(":checked")) list.querySelector("input").checked = true;
    if (focused) list.querySelector(":checked").focus();
    const who = conditions.length ? ruleInWords({ type: "all_of", of: conditions }).replace(/\byou\b/g, this.streamer) : "";
    const free = needs === "any" && choices.some(({ price }) => price);
    say(byId("ask-conditions"), !who ? "" : free ? `Free for whoever ${who}.` : `Only for whoever ${who}.`);
  }

  /** @returns {Choice|undefined} */
  #choice() {
    const chosen = Number(byId("ask-choices").querySelector(":checked")?.value);
    return this.#offer?.choices.find(({ seconds }) => seconds === chosen);
  }

  #price() {
    const price = this.#choice()?.price ?? null;
    show(byId("ask-tip"), price !== null);
    let most = price;
    try {
      most = price && this.#most(price);
    } catch {
      // It is said when it is sent.
    }
    say(byId("ask-hold"), most ? holding(most) : "");
    say(byId("ask-send"), most ? `Ask, and hold ${inMoney(most)}` : "Ask");
  }

  /** The price with what is given on top. @param {Amount} price @returns {Amount} */
  #most(price) {
    const more = this.#form.elements.more.value.trim();
    return more ? sum([price, read(more, price.asset)]) : price;
  }

  /** Ask under these terms. Throws what is to be told; `request_exists` means that it waits already. */
  async order() {
    const choice = this.#choice();
    if (!choice) throw new Error("Choose how long it should be");
    const body = { seconds: choice.seconds };
    if (choice.price) {
      const most = this.#most(choice.price);
      body.max_price = choice.price;
      if (most.units !== choice.price.units) body.tip = most;
    }
    const expires = Number(this.#form.elements.expires.value);
    if (expires) body.expires_s = expires;
    const written = JSON.stringify(body);
    if (this.#wish.body !== written) this.#wish = { body: written, key: newKey() };
    try {
      const answer = await order("POST", `${this.path}/requests`, body, this.#wish.key);
      this.#wish.body = "";
      this.#form.elements.more.value = "";
      return answer;
    } catch (error) {
      if (error.code !== "unreachable" && error.code !== "idempotency_in_flight") this.#wish.body = ""; // it was refused: nothing is held
      throw error;
    }
  }

  /** Say why a request was refused, and what would help. @param {Error & {code?: string, extra?: any}} error */
  async explain(error) {
    let text = error.message;
    const lines = [];
    if (error.code === "price_changed") {
      await this.load().catch(() => {});
      text = error.extra.price ? `It costs ${inMoney(error.extra.price)} now. Nothing is held. Ask again if you agree.` : text;
    } else if (error.code === "duration_out_of_range") {
      await this.load().catch(() => {});
      text = "This length is not offered any more. Choose another; nothing is held.";
    } else if (error.code === "insufficient_funds" || error.code === "in_debt") {
      text = error.code === "in_debt" ? "Your wallet owes something. Once that is paid you can ask." : `${await this.#short()} Nothing is held.`;
      lines.push(toWallet());
    }
    else if (error.code === "unreachable") text = "No answer came. Ask again: it is held only once.";
    else if (error.code === "request_too_soon" && error.retryAfterMs) text = `You asked a short while ago. Ask again in ${inWords(Math.ceil(error.retryAfterMs / 1000))}.`;
    else if (error.code === "conditions_not_met" && error.extra.missing) {
      text = "Something is missing before you can ask:";
      lines.push(...this.#lines(waysOf(error.extra.missing).lines));
    }
    this.#fault.textContent = text;
    show(this.#fault, true);
    this.#help.replaceChildren(...lines);
    show(this.#help, lines.length > 0);
    this.#form.lastElementChild.scrollIntoView({ block: "end" });
  }

  #lines(lines) {
    return lines.flatMap((each) => {
      if (each.lines) return [make("li", {}, each.head), ...this.#lines(each.lines)];
      const { text, act, label } = helpFor(each, this.streamer);
      const follow = act === "follow" ? make("button", { type: "button", class: "small strong" }, label) : null;
      if (follow) follow.onclick = () => this.#follow();
      return [make("li", {}, make("span", {}, text.replaceAll("to watch", "for this")), follow)];
    });
  }

  async #follow() {
    try {
      await ask("PUT", `/follows/${encodeURIComponent(this.streamer)}`);
      show(this.#fault, false);
      this.#help.replaceChildren(make("li", { role: "status" }, `You follow ${this.streamer} now. Ask again.`));
      byId("ask-send").focus();
    } catch (error) {
      await this.explain(error);
    }
  }

  /** How much is missing, as far as it can be known. */
  async #short() {
    const price = this.#choice()?.price;
    try {
      const most = this.#most(price);
      const { balances, bonus } = await ask("GET", "/me/wallet");
      const has = [...balances, ...bonus].find(({ asset }) => asset === most.asset)?.available ?? "0";
      const lacks = BigInt(most.units) - BigInt(has);
      if (lacks > 0n) return `You have ${inMoney({ asset: most.asset, units: has })}: ${inMoney({ asset: most.asset, units: String(lacks) })} more are needed in your wallet.`;
    } catch {
      // What is missing is said without figures.
    }
    return "There is not enough money in your wallet.";
  }
}

/** The stream goes on in its own window meanwhile. */
function toWallet() {
  return make("li", {}, make("span", {}, "Pay something into your wallet, then ask again."), make("a", { href: "/wallet", target: "_blank", class: "button small strong" }, "Open the wallet"));
}

function holding(price) {
  return `${inMoney(price)} are held when you ask. You pay only for the part that takes place; the rest comes back, and all of it if it never begins.`;
}

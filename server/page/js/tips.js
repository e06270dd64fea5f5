/** Tips somebody: a usual amount by one tap, another one through a dialog; never charged twice. */

import { ask } from "./api.js";
import { busy, make, say, show } from "./dom.js";
import { leaveForLogIn } from "./identity.js";
import { assetOf, inMoney, isSame } from "./money.js";
import { Orders, isOpen, rest } from "./orders.js";
import { Purse, walletLink } from "./purse.js";
import { openTip } from "./tip_dialog.js";

const USUAL = [1n, 3n, 5n, 10n]; // whole ones, to whoever has no menu
const LARGE_PART = 10n; // of what a session may give within a day: from there on it is asked about

/** @typedef {import("./money.js").Amount} Amount */

export class TipBar {
  #orders = new Orders();
  #purse = new Purse();
  #items = [];
  #offered = "";
  /** @type {Promise<void>|null} */ #loaded = null;

  /**
   * @param {HTMLElement} place an empty section
   * @param {string} to whose name
   * @param {{stream?: string, link?: string, suggested?: Amount|null, done?: () => void, gone?: () => void}} [how] a tip
   *   that a `link` led to is always asked about first; `done` is called after each, `gone` where nobody has that name
   */
  constructor(place, to, { stream, link, suggested = null, done, gone } = {}) {
    Object.assign(this, { place, to, link, suggested, done, gone, context: stream ? { kind: "stream", id: stream } : { kind: "profile" } });
    this.has = make("p", { class: "soft small" }, "Looking into your wallet …");
    this.other = make("button", { type: "button", class: "tip-choice", onclick: () => this.open() }, make("strong", {}, "Another amount"), make("span", {}, "or with a message"));
    this.choices = make("div", { class: "row choices-row", role: "group", "aria-label": `Amounts for ${to}` });
    this.fault = make("div", { class: "fault", role: "alert", hidden: true });
    this.said = make("p", { class: "tip-done", role: "status" });
    place.setAttribute("aria-label", `Tip ${to}`);
    place.replaceChildren(make("div", { class: "row spread" }, make("h2", {}, `Tip ${to}`), this.has), this.choices, this.said, this.fault);
  }

  /** Show it, or not; what it offers is fetched when it is first shown. @param {boolean} visible */
  show(visible) {
    if (visible) this.#loaded ??= this.load();
    show(this.place, visible);
  }

  /** Fetch the menu and one's own wallet. */
  async load() {
    try {
      const [{ items }] = await Promise.all([ask("GET", `/accounts/${encodeURIComponent(this.to)}/tip_menu`), this.#purse.look()]);
      this.#items = items;
      this.#render();
    } catch (error) {
      this.#loaded = null; // it is tried again when it is shown again
      if (error.code !== "account_unknown") return this.#tell(error);
      show(this.place, false);
      this.gone?.();
    }
    return undefined;
  }

  /** Ask how much, or about that much. @param {Amount|null} [amount] @param {any} [item] of the menu */
  async open(amount = null, item = null) {
    await (this.#loaded ??= this.load());
    this.#quiet();
    openTip(this.to, { purse: this.#purse, amount, item, give: (tip, beside) => this.#send(tip, beside) });
  }

  #render() {
    show(this.fault, false);
    const money = this.#purse.inWords();
    this.has.replaceChildren(money ? `You have ${money}. ` : "Your wallet is empty. ", walletLink(money ? "Wallet" : "Add money"));
    const [code] = this.#purse.codes();
    if (code === undefined) return show(this.place, false); // nothing can be given here
    const { suggested } = this;
    const others = this.#items.length ? this.#items : usual(code).filter(({ amount }) => !suggested || !isSame(amount, suggested));
    const offered = suggested ? [{ amount: suggested, suggested: true }, ...others] : others;
    if (JSON.stringify(offered) === this.#offered) return undefined; // the buttons, and the focus on one, stay
    this.#offered = JSON.stringify(offered);
    this.choices.replaceChildren(...offered.map((item) => this.#choice(item)), this.other);
    return undefined;
  }

  #choice({ id = null, label = "", amount, suggested = false }) {
    const button = make("button", { type: "button", class: suggested ? "tip-choice strong" : "tip-choice" }, make("strong", {}, inMoney(amount)), label ? make("span", {}, label) : null);
    button.onclick = () => (this.link || isLarge(amount) ? this.open(amount, id ? { id, label } : null) : busy(this.choices, () => this.#oneTap(amount, id)));
    return button;
  }

  async #oneTap(amount, item) {
    this.#quiet();
    say(this.said, "Giving it …");
    try {
      await this.#send({ amount, menu_item: item });
      await rest();
    } catch (error) {
      this.#quiet();
      this.#tell(error);
    }
  }

  /** Give it. What it throws says why nothing was given, with what would help as `help`. */
  async #send(wish, beside = {}) {
    const body = { to: this.to, context: this.context, ...wish };
    if (this.link) body.link = this.link;
    let tip;
    try {
      tip = await this.#orders.send("/tips", body, beside);
    } catch (error) {
      throw await this.#explained(error, wish.amount);
    }
    say(this.said, `You gave ${inMoney(tip.amount)} to ${tip.to.name}${tip.anonymous ? ", anonymously" : ""}. Thank you!`);
    this.done?.();
    await this.load();
  }

  async #explained(error, amount) {
    const because = (text, help = null) => Object.assign(new Error(text), { code: error.code, extra: error.extra, help });
    if (isOpen(error)) return because("No answer came. Press again: it is given only once.");
    switch (error.code) {
      case "insufficient_funds":
        await this.load();
        return because(`${this.#purse.lack(amount)} Nothing was given.`, walletLink("Go to your wallet"));
      case "in_debt":
        return because("Your wallet owes something, which has to be paid first. Nothing was given.", walletLink("Go to your wallet"));
      case "step_up_required":
        return because("For so much you must have logged in within the last ten minutes. Nothing was given.", make("button", { type: "button", class: "small", onclick: leaveForLogIn }, "Log in anew"));
      case "price_changed":
      case "menu_item_unknown":
        await this.load();
        return because(error.extra.price ? `That is for ${inMoney(error.extra.price)} now. Nothing was given; press again if you agree.` : "The menu is a new one. Nothing was given; choose again.");
      case "recipient_not_eligible":
        return because(`${this.to} can't receive ${amount.asset}. Nothing was given; choose another asset.`);
      case "quote_expired":
        return because("The rate is a new one. Look at what arrives now; nothing was given yet.");
      case "tip_link_unknown":
        return because("The link leads nowhere any more. Nothing was given.", make("a", { href: `/u/${encodeURIComponent(this.to)}`, class: "button small" }, `See ${this.to}'s page`));
      default:
        return because(`${error.message}. Nothing was given.`);
    }
  }

  #quiet() {
    show(this.fault, false);
    say(this.said, "");
  }

  #tell({ message, help = null }) {
    this.fault.replaceChildren(message, ...(help ? [help] : []));
    show(this.fault, true);
  }
}

function usual(code) {
  const { scale } = assetOf(code);
  return USUAL.map((whole) => ({ amount: { asset: code, units: String(whole * 10n ** BigInt(scale)) } }));
}

/** @param {Amount} amount */
function isLarge({ asset, units }) {
  const limit = assetOf(asset)?.step_up_above ?? null;
  return limit !== null && BigInt(units) * LARGE_PART >= BigInt(limit);
}

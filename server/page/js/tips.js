/** Tips somebody: by one tap, or an amount of one's own; a large one, or one that a link suggests, is asked about first. */

import { ask } from "./api.js";
import { openDialog } from "./dialogs.js";
import { busy, make, say, show } from "./dom.js";
import { leaveForLogIn } from "./identity.js";
import { allAssets, inField, inMoney, read } from "./money.js";
import { Orders, isOpen, rest } from "./orders.js";
import { inUse, lookIntoPurse, offerAssets, payable, spendable } from "./purse.js";

const USUAL = [1n, 3n, 5n, 10n]; // whole ones, to whoever has no menu
const LARGE_PART = 10n; // of what a session may give within a day: from there on it is asked about

/** @typedef {import("./money.js").Amount} Amount */

export class TipBar {
  #orders = new Orders();
  #wallet = { balances: [], bonus: [] };
  #turn = 0;
  #loading = Promise.resolve();

  /**
   * @param {HTMLElement} place an empty section
   * @param {string} to whose name
   * @param {{stream?: string, link?: string, done?: () => void}} [how]
   */
  constructor(place, to, { stream, link, done } = {}) {
    Object.assign(this, { place, to, link, done, context: stream ? { kind: "stream", id: stream } : { kind: "profile" } });
    this.has = make("p", { class: "row spread soft small" });
    this.choices = make("div", { class: "row choices-row", role: "group", "aria-label": `Amounts for ${to}` });
    this.amount = make("input", { name: "tip_amount", inputmode: "decimal", autocomplete: "off", required: true, placeholder: "5.00" });
    this.asset = make("select", { name: "tip_asset" });
    this.message = make("input", { name: "tip_message", maxlength: 500, autocomplete: "off" });
    this.anonymous = make("input", { name: "tip_anonymous", type: "checkbox" });
    this.submit = make("button", { type: "submit", class: "small strong" }, "Tip");
    this.fault = make("div", { class: "fault", role: "alert", hidden: true });
    this.said = make("p", { class: "tip-done", role: "status" });
    const form = make("form", { class: "form" },
      make("div", { class: "amount" }, make("label", {}, "Amount ", this.amount), make("label", {}, "of ", this.asset)),
      make("label", {}, "Message ", make("span", { class: "soft" }, "(if you like)"), " ", this.message),
      make("label", { class: "tick" }, this.anonymous, `Anonymous: only ${to} learns that it is from you`),
      make("div", { class: "row" }, this.submit));
    form.onsubmit = (event) => {
      event.preventDefault();
      return this.#once(() => this.#own());
    };
    this.more = make("details", {}, make("summary", {}, "Another amount, a message, or anonymously"), form);
    place.setAttribute("aria-label", `Tip ${to}`);
    place.replaceChildren(make("h2", {}, `Tip ${to}`), this.has, this.choices, this.more, this.said, this.fault);
  }

  /** Fetch the menu and one's own wallet. */
  load() {
    return (this.#loading = this.#load());
  }

  async #load() {
    const turn = ++this.#turn;
    try {
      const [wallet, { items }] = await Promise.all([lookIntoPurse(), ask("GET", `/accounts/${encodeURIComponent(this.to)}/tip_menu`)]);
      if (turn !== this.#turn) return;
      this.#wallet = wallet;
      this.#render(items);
      show(this.place, true);
    } catch (error) {
      if (error.code !== "account_unknown") this.#tell(error.message);
    }
  }

  /** Put an amount into the form, and lead there. @param {Amount|null} amount */
  async suggest(amount) {
    await this.#loading;
    this.more.open = true;
    if (amount && this.asset.length) {
      this.amount.value = inField(amount);
      this.asset.value = amount.asset;
    }
    this.amount.focus();
    this.place.scrollIntoView({ block: "nearest" });
  }

  #render(items) {
    const money = spendable(this.#wallet);
    this.has.replaceChildren(money ? `You have ${money}. ` : "There is nothing in your wallet yet. ", make("a", { href: "/wallet", class: "button small" }, money ? "Wallet" : "Add money"));
    const mine = [...this.#wallet.balances, ...this.#wallet.bonus].filter(({ available }) => available !== "0").map(({ asset }) => asset);
    offerAssets(this.asset, [...new Set([...mine, ...payable()])]);
    const suggestions = items.length ? items : usual(mine[0] ?? payable()[0]);
    const had = this.choices.contains(document.activeElement) ? [...this.choices.children].indexOf(document.activeElement) : -1;
    this.choices.replaceChildren(...suggestions.map((item) => this.#button(item)));
    if (had >= 0) this.choices.children[had]?.focus();
  }

  #button({ id = null, label = "", amount }) {
    const button = make("button", { type: "button", class: "tip-choice" }, make("strong", {}, inMoney(amount)), label ? make("span", {}, label) : null);
    button.onclick = () => this.#once(() => this.#give(amount, id));
    return button;
  }

  /** Nothing of the bar can be pressed while a tip is given: its buttons are made anew meanwhile. */
  #once(work) {
    return busy(this.choices, () => busy(this.submit, work));
  }

  async #own() {
    let amount;
    try {
      amount = read(this.amount.value, this.asset.value);
    } catch (error) {
      return this.#tell(error.message);
    }
    return this.#give(amount, null);
  }

  /** @param {Amount} amount @param {string|null} item of the menu */
  async #give(amount, item) {
    this.#quiet();
    const body = { to: this.to, amount, context: this.context, message: this.message.value.trim(), anonymous: this.anonymous.checked };
    if (this.link) body.link = this.link;
    if (item) body.menu_item = item;
    try {
      if (this.link || isLarge(amount)) await this.#askFirst(body);
      else {
        await this.#send(body);
        await rest();
      }
    } catch (error) {
      await this.#explain(error, amount);
    }
  }

  async #send(body) {
    say(this.said, "Giving it …");
    const tip = await this.#orders.send("/tips", body).catch((error) => {
      this.#quiet();
      throw error;
    });
    this.message.value = this.amount.value = "";
    this.more.open = false;
    say(this.said, `You gave ${inMoney(tip.amount)} to ${tip.to.name}${tip.anonymous ? ", anonymously" : ""}. Thank you!`);
    this.done?.();
    await this.load();
  }

  async #askFirst(body) {
    const arrives = make("p", { role: "status" });
    const tellQuote = (quote) => {
      body.quote = quote.quote;
      say(arrives, `${this.to} gets ${inMoney(quote.arrives)} of it; this site keeps ${inMoney(quote.fee)}.`);
    };
    const quote = await quoteFor(body.amount);
    if (quote) tellQuote(quote);
    const amount = inMoney(body.amount);
    const message = make("p", { class: "soft" }, body.message ? `“${body.message}”` : "");
    openDialog(`Give ${amount} to ${this.to}?`, [message, arrives], {
      yes: `Give ${amount}`,
      no: "Don't",
      run: async () => {
        try {
          await this.#send(body);
        } catch (error) {
          if (isOpen(error)) throw new Error("No answer came. Press again: it is given only once.");
          if (error.code === "quote_expired" && error.extra.quote) {
            tellQuote(error.extra.quote);
            throw new Error("The rate is a new one. Look at what arrives now; nothing was given yet.");
          }
          await this.#explain(error, body.amount); // on the page, where what helps is a link
        }
      },
    });
  }

  /** Say why nothing was given, and what would help. @param {Error & {code?: string, extra?: any}} error @param {Amount} amount */
  async #explain(error, amount) {
    const wallet = make("a", { href: "/wallet", class: "button small" }, "Go to your wallet");
    switch (error.code) {
      case "insufficient_funds":
        await this.load();
        return this.#tell(`${this.#lack(amount)} Nothing was given. `, wallet);
      case "in_debt":
        return this.#tell("Your wallet owes something, which has to be paid first. Nothing was given. ", wallet);
      case "step_up_required":
        return this.#tell("For so much you must have logged in within the last ten minutes. Nothing was given. ", make("button", { type: "button", class: "small", onclick: leaveForLogIn }, "Log in anew"));
      case "price_changed":
      case "menu_item_unknown":
        await this.load();
        return this.#tell(error.extra.price ? `That is for ${inMoney(error.extra.price)} now. Nothing was given; press again if you agree.` : "The menu is a new one. Nothing was given; choose again.");
      case "recipient_not_eligible":
        return this.#tell(`${this.to} can't receive ${amount.asset}. Nothing was given; choose another asset.`);
      case "tip_link_unknown":
        return this.#tell("The link leads nowhere any more. Nothing was given. ", make("a", { href: `/u/${encodeURIComponent(this.to)}`, class: "button small" }, `Tip ${this.to} on the profile`));
      default:
        return this.#tell(isOpen(error) ? "No answer came. Press again: it is given only once." : `${error.message}. Nothing was given.`);
    }
  }

  #lack({ asset, units }) {
    const has = [...this.#wallet.balances, ...this.#wallet.bonus].find((each) => each.asset === asset) ?? { asset, available: "0" };
    const short = BigInt(units) - BigInt(has.available);
    return short > 0n ? `You have ${inUse(has)}: ${inMoney({ asset, units: String(short) })} more are needed.` : "There is not enough in your wallet.";
  }

  #quiet() {
    show(this.fault, false);
    say(this.said, "");
  }

  #tell(text, help = null) {
    this.fault.replaceChildren(text, ...(help ? [help] : []));
    show(this.fault, true);
    show(this.place, true);
  }
}

function usual(code) {
  const { scale } = allAssets().find(({ asset }) => asset === code);
  return USUAL.map((whole) => ({ amount: { asset: code, units: String(whole * 10n ** BigInt(scale)) } }));
}

/** @param {Amount} amount */
function isLarge({ asset, units }) {
  const limit = allAssets().find((each) => each.asset === asset)?.step_up_above ?? null;
  return limit === null ? false : BigInt(units) * LARGE_PART >= BigInt(limit);
}

/** What would arrive; null where it arrives as it is. */
async function quoteFor(amount) {
  try {
    return await ask("POST", "/quotes", { amount });
  } catch (error) {
    if (error.code === "nothing_to_convert") return null;
    throw error;
  }
}

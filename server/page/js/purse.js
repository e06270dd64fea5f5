/** What somebody may spend, as far as the page was told. */

import { ask } from "./api.js";
import { make } from "./dom.js";
import { inMoney, learnAssets, payable } from "./money.js";

/**
 * @typedef {{asset: string, available: string, withdrawable: string, held: string, owed: string}} Balance
 * @typedef {{balances: Balance[], bonus: Balance[], providers: string[]}} Wallet
 */
export class Purse {
  /** @type {Wallet} */ #wallet = { balances: [], bonus: [], providers: [] };

  /** Fetch the wallet anew, and the assets. @returns {Promise<Wallet>} */
  async look() {
    const [wallet] = await Promise.all([ask("GET", "/me/wallet"), learnAssets()]);
    this.#wallet = wallet;
    return wallet;
  }

  /** What may be spent: 20.00 USD and 3.50 EUR; "" for nothing. */
  inWords() {
    return this.#full().map(available).join(" and ");
  }

  /** The assets that may be given here, those of which there is something first. */
  codes() {
    const spendable = payable();
    const mine = this.#full().map(({ asset }) => asset).filter((asset) => spendable.includes(asset) || this.#isBonus(asset));
    return [...new Set([...mine, ...spendable])];
  }

  /** You have 20.00 USD. @param {string} asset */
  has(asset) {
    return `You have ${available(this.#find(asset))}.`;
  }

  /** How much is missing for an amount. @param {import("./money.js").Amount} amount */
  lack({ asset, units }) {
    const short = BigInt(units) - BigInt(this.#find(asset).available);
    if (short <= 0n) return "There is not enough in your wallet.";
    return `You have ${available(this.#find(asset))}: ${inMoney({ asset, units: String(short) })} more are needed.`;
  }

  /** The same, looked at anew. @param {import("./money.js").Amount} amount */
  async lackNow(amount) {
    await this.look().catch(() => {}); // then it is said as of before
    return this.lack(amount);
  }

  #full() {
    return [...this.#wallet.balances, ...this.#wallet.bonus].filter((each) => each.available !== "0");
  }

  #isBonus(code) {
    return this.#wallet.bonus.some(({ asset }) => asset === code);
  }

  #find(code) {
    return [...this.#wallet.balances, ...this.#wallet.bonus].find(({ asset }) => asset === code) ?? { asset: code, available: "0" };
  }
}

/** @param {{asset: string, available: string}} balance */
export function available({ asset, available: units }) {
  return inMoney({ asset, units });
}

/** A way to the wallet that leaves this page open: a stream may play on it. */
export function walletLink(text = "Wallet") {
  return make("a", { href: "/wallet", target: "_blank", class: "to-wallet" }, text);
}

/** What somebody may spend, as far as the page was told. */

import { ask } from "./api.js";
import { make } from "./dom.js";
import { allAssets, inMoney, learnAssets } from "./money.js";

/**
 * @typedef {{asset: string, available: string, withdrawable: string, held: string, owed: string}} Balance
 * @returns {Promise<{balances: Balance[], bonus: Balance[], providers: string[]}>}
 */
export async function lookIntoPurse() {
  const [wallet] = await Promise.all([ask("GET", "/me/wallet"), learnAssets()]);
  return wallet;
}

/** What may be spent: 20.00 USD and 3.50 EUR; "" for nothing. @param {{balances: Balance[], bonus: Balance[]}} wallet */
export function spendable({ balances, bonus }) {
  return [...balances, ...bonus].filter(({ available }) => available !== "0").map(inUse).join(" and ");
}

/** @param {Balance} balance */
export function inUse({ asset, available }) {
  return inMoney({ asset, units: available });
}

/** Fill a choice with assets that may be spent here; what was chosen stays. @param {any} select @param {string[]} [codes] */
export function offerAssets(select, codes = payable()) {
  const chosen = select.value;
  select.replaceChildren(...codes.map((code) => make("option", { value: code }, code)));
  if (codes.includes(chosen)) select.value = chosen;
}

/** The assets that anybody may give here. */
export function payable() {
  return allAssets().filter(({ surfaces, recipient_tier }) => surfaces.includes("web") && recipient_tier === 0).map(({ asset }) => asset);
}

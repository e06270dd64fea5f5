/** Reads and writes amounts of money: whole minor units, text on the wire and BigInt here, never a float. */

import { ask } from "./api.js";
import { make } from "./dom.js";

/**
 * @typedef {{asset: string, units: string}} Amount
 * @typedef {{asset: string, scale: number, surfaces: string[], settles_in: string, recipient_tier: number,
 *   step_up_above: string|null}} Asset
 */

/** @type {Map<string, Asset>} */
const known = new Map();
/** @type {Promise<void>|null} */
let loading = null;

/** Learn the server's assets, once; amounts can be written and read after that. */
export function learnAssets() {
  loading ??= ask("GET", "/assets").then(({ assets }) => assets.forEach((asset) => known.set(asset.asset, asset)), (error) => {
    loading = null;
    throw error;
  });
  return loading;
}

/** @param {string} code @returns {Asset|undefined} */
export function assetOf(code) {
  return known.get(code);
}

/** The codes of the assets that anybody may give and be given here, in the order of the server. */
export function payable() {
  return [...known.values()].filter(({ surfaces, recipient_tier }) => surfaces.includes("web") && !recipient_tier).map(({ asset }) => asset);
}

/**
 * Fill a choice of assets.
 * @param {any} select
 * @param {string} [chosen] is in it in any case; without it what was chosen stays
 * @param {string[]} [codes]
 */
export function offerAssets(select, chosen = select.value, codes = payable()) {
  const offered = known.has(chosen) && !codes.includes(chosen) ? [...codes, chosen] : codes;
  select.replaceChildren(...offered.map((code) => make("option", { value: code, selected: code === chosen }, code)));
}

/** 5.00 USD. @param {Amount} amount @returns {string} */
export function inMoney({ asset, units }) {
  const scale = known.get(asset)?.scale;
  if (scale === undefined) return `${units} smallest units of ${asset}`;
  return `${decimal(BigInt(units), scale, true)} ${asset}`;
}

/** What recipients are told who get another asset than was paid: how it reaches them. @param {string} asset */
export function paidOutAs(asset) {
  const target = known.get(asset)?.settles_in ?? asset;
  return target === asset ? "" : `, paid out in ${target}`;
}

/** 5.00, as it stands in a field. @param {Amount} amount @returns {string} */
export function inField({ asset, units }) {
  return decimal(BigInt(units), known.get(asset).scale, false);
}

/**
 * @param {string} text as people write: 5, 5.00 or 5,00
 * @param {string} asset
 * @returns {Amount} throws Error in plain words
 */
export function read(text, asset) {
  const { scale } = known.get(asset);
  const found = /^(\d{1,30})(?:[.,](\d+))?$/.exec(text.trim());
  if (!found) throw new Error("Write the amount in figures, like 12.50");
  const [, whole, part = ""] = found;
  // 1,000 is a thousand to some and one to others.
  if (part.length === 3 && text.includes(",")) throw new Error("Write the amount without a comma between thousands");
  if (part.length > scale) throw new Error(`${asset} has ${scale} ${scale === 1 ? "decimal" : "decimals"} at most`);
  const units = BigInt(whole + part.padEnd(scale, "0"));
  if (units === 0n) throw new Error("The amount must be more than nothing");
  return { asset, units: String(units) };
}

/** @param {Amount} one @param {Amount} other */
export function isSame(one, other) {
  return one.asset === other.asset && one.units === other.units;
}

/** The sum of amounts of one asset. @param {Amount[]} amounts */
export function sum(amounts) {
  return { asset: amounts[0].asset, units: String(amounts.reduce((total, { units }) => total + BigInt(units), 0n)) };
}

/** @param {bigint} units @param {number} scale @param {boolean} grouped */
function decimal(units, scale, grouped) {
  const digits = String(units < 0n ? -units : units).padStart(scale + 1, "0");
  const whole = digits.slice(0, digits.length - scale);
  // A token with many decimals is written with as many as it has, two at least.
  const part = digits.slice(digits.length - scale).replace(/0+$/, "").padEnd(Math.min(scale, 2), "0");
  const written = grouped ? BigInt(whole).toLocaleString("en") : whole;
  return `${units < 0n ? "−" : ""}${written}${part ? `.${part}` : ""}`;
}

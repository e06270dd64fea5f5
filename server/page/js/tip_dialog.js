/** The dialog of one tip: how much, what is said with it, and what arrives of it, before anything is given. */

import { ask } from "./api.js";
import { openDialog } from "./dialogs.js";
import { make, say } from "./dom.js";
import { inField, inMoney, isSame, offerAssets, read } from "./money.js";
import { walletLink } from "./purse.js";

const PAUSE_MS = 400; // in the writing of an amount, before it is asked what arrives of it

/**
 * @typedef {import("./money.js").Amount} Amount
 * @param {string} to whose name
 * @param {{purse: import("./purse.js").Purse, amount: Amount|null, item: {id: string, label: string}|null,
 *   give: (tip: object, beside: object) => Promise<void>}} how what is on the menu has its price
 */
export function openTip(to, { purse, amount, item, give }) {
  const field = make("input", { name: "amount", inputmode: "decimal", autocomplete: "off", required: true, placeholder: "5.00", value: amount ? inField(amount) : "", readonly: item !== null });
  const asset = make("select", { name: "asset", disabled: item !== null });
  offerAssets(asset, amount?.asset ?? purse.codes()[0], purse.codes());
  const message = make("input", { name: "message", maxlength: 500, autocomplete: "off" });
  const anonymous = make("input", { name: "anonymous", type: "checkbox" });
  const has = make("span", {});
  const arrives = make("p", { class: "soft small", role: "status" });
  const written = () => read(field.value, asset.value);
  let quote = null;
  const tellQuote = (found) => {
    quote = found;
    say(arrives, found ? `${to} gets ${inMoney(found.arrives)} of it; this site keeps ${inMoney(found.fee)}.` : "");
  };
  const dialog = openDialog(`Tip ${to}`, [
    item ? make("p", {}, `For “${item.label}”.`) : "",
    make("div", { class: "amount" }, make("label", {}, "Amount ", field), make("label", {}, "In ", asset)),
    make("label", {}, "Message ", make("span", { class: "soft" }, "(if you like)"), " ", message),
    make("label", { class: "tick" }, anonymous, `Anonymous: only ${to} learns that it is from you`),
    make("p", { class: "soft small" }, has, " ", walletLink()),
    arrives,
  ], {
    yes: "Give it",
    run: async () => {
      const wish = { amount: written(), message: message.value.trim(), anonymous: anonymous.checked, menu_item: item?.id ?? null };
      const promised = quote && isSame(quote.amount, wish.amount) ? { quote: quote.quote } : {};
      try {
        await give(wish, promised);
      } catch (error) {
        if (error.code === "quote_expired") tellQuote(error.extra.quote ?? null);
        if (item && error.code === "price_changed" && error.extra.price) {
          field.value = inField(error.extra.price);
          offerAssets(asset, error.extra.price.asset);
          follow(0);
        }
        if (error.code === "insufficient_funds") say(has, purse.has(asset.value));
        throw error;
      }
    },
  });
  const yes = dialog.element.querySelector(".yes");
  let turn = 0;
  const follow = async (pause) => {
    const mine = ++turn;
    say(has, purse.has(asset.value));
    let wanted = null;
    try {
      wanted = written();
    } catch {
      // What is wrong with it is said when it is sent.
    }
    say(yes, wanted ? `Give ${inMoney(wanted)}` : "Give it");
    tellQuote(null);
    if (wanted === null) return;
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (mine !== turn || !dialog.element.isConnected) return;
    const found = await quoteFor(wanted);
    if (mine === turn) tellQuote(found);
  };
  for (const part of [field, asset]) part.oninput = () => follow(PAUSE_MS);
  follow(0);
  purse.look().then(() => say(has, purse.has(asset.value)), () => {}); // what it said before may be old
}

/** What would arrive; null where that is not known, or all of it does. @param {Amount} amount */
async function quoteFor(amount) {
  try {
    return await ask("POST", "/quotes", { amount });
  } catch {
    return null; // a tip needs none: whatever refuses it refuses the tip, in words
  }
}

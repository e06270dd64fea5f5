/** Paid chats: asked for in a dialog, and shown and answered in the conversation. */

import { ask } from "./api.js";
import { dayAndTime } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { make, say } from "./dom.js";
import { inMoney, offerAssets, read } from "./money.js";
import { walletLink } from "./purse.js";

const BECAME = {
  declined: "declined, the money went back",
  withdrawn: "withdrawn, the money went back",
  expired: "not answered in time, the money went back",
  silent: "nothing was written, the money went back",
  parted: "over, the money went back",
};

/** A request for a paid chat, in a line. @param {any} card */
export function bidIn({ to, amount, state, reason, until }) {
  const what = `Paid chat with ${to.name} for ${inMoney(amount)}`;
  if (state === "asked") return `${what}: asked for, held until ${dayAndTime(until)}`;
  if (state === "accepted") return `${what}: accepted, until ${dayAndTime(until)}`;
  if (state === "paid") return `${what}: paid`;
  if (state === "frozen") return `${what}: cut short, a review decides about the money`;
  return `${what}: ${BECAME[reason] ?? "over"}`;
}

/** What may be done about it. @param {any} card @param {boolean} mine @param {(what: string, value: any) => void} act */
export function bidActions({ bid, state }, mine, act) {
  const choice = (word, label) => make("button", { type: "button", class: `small bid-${word}`, onclick: () => act("bid", { bid, word }) }, label);
  const choices = {
    asked: mine ? [choice("withdraw", "Withdraw")] : [choice("accept", "Accept"), choice("decline", "Decline")],
    accepted: mine ? [choice("confirm", "I had my chat: pay it")] : [choice("decline", "Give the money back")],
  }[state];
  return choices ? [make("span", { class: "row" }, ...choices)] : [];
}

/**
 * Ask for a paid chat with the other of two.
 * @param {string} to whose name
 * @param {import("./purse.js").Purse} purse
 * @param {(bid: object) => Promise<any>} send
 */
export function openBid(to, purse, send) {
  const field = make("input", { name: "amount", inputmode: "decimal", autocomplete: "off", required: true, placeholder: "5.00" });
  const asset = make("select", { name: "asset" });
  const words = make("textarea", { name: "words", rows: 3, maxlength: 4000 });
  const has = make("span", {});
  offerAssets(asset, purse.codes()[0], purse.codes());
  asset.oninput = () => say(has, purse.has(asset.value));
  asset.oninput();
  openDialog(`Ask ${to} for a paid chat`, [
    make("p", {}, "What you bid is held now. Within two days it is accepted, or all of it goes back."),
    make("p", {}, "Once accepted, it is paid when you say that you had your chat, or after two days in which you were written to. If you were not, all of it goes back."),
    make("div", { class: "amount" }, make("label", {}, "Amount ", field), make("label", {}, "In ", asset)),
    make("label", {}, "What about ", make("span", { class: "soft" }, "(if you like)"), words),
    make("p", { class: "soft small" }, has, " ", walletLink()),
  ], { yes: "Ask", run: () => send({ amount: read(field.value, asset.value), words: words.value.trim() }) });
}

/** Answer a request. @param {{bid: string, word: string}} what */
export function answerBid({ bid, word }) {
  return ask("POST", `/bids/${encodeURIComponent(bid)}/${word}`);
}

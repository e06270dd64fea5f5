/** Draws one message, with what may be done to it. */

import { attachments, inWords } from "./attachments.js";
import { bidActions, bidIn } from "./bids.js";
import { callIn, liveIn } from "./call_words.js";
import { timeOfDay } from "./clock.js";
import { hueOf, make } from "./dom.js";
import { inMoney } from "./money.js";

const LASTING = new Set(["tip", "call", "live", "bid"]); // these stand for what happened elsewhere
const QUICK = ["👍", "❤️", "😂", "😮", "🙏"];

/** A message in one line. @param {any} message @param {string} me */
export function shortly(message, me) {
  const who = message.from.id === me ? "You: " : "";
  if (message.erased_at !== null) return `${who}${message.taken_down ? "removed" : "taken back"}`;
  if (message.kind === "tip") return `${who}${tipIn(message.card)}`;
  if (message.kind === "bid") return `${who}${bidIn(message.card)}`;
  if (message.kind === "call") return callIn(message.card, message.from.id === me);
  if (message.kind === "live") return `${who}${liveIn(message.card)}`;
  const words = [message.attachments.length ? inWords(message.attachments) : "", message.text];
  return `${who}${words.filter((each) => each).join(" · ")}`;
}

/**
 * @param {any} message
 * @param {{me: string, group: boolean, quoted: any, status: string, leads: boolean, act: (what: string, value?: any) => void}} how
 */
export function messageRow(message, { me, group, quoted, status, leads, act }) {
  const mine = message.from.id === me;
  const gone = message.erased_at !== null;
  const row = make("li", { class: `message${mine ? " mine" : ""}${LASTING.has(message.kind) ? ` ${message.kind}` : ""}`, "data-seq": message.seq });
  row.style.setProperty("--hue", String(hueOf(message.from.name)));
  const name = make("b", { class: group && !mine ? "" : "unseen" }, mine ? "You" : message.from.name);
  const quote = message.reply_to === null ? null : make("span", { class: "quoted" }, quoted ? shortly(quoted, me) : "An earlier message");
  const text = gone ? make("span", { class: "gone" }, message.taken_down ? "This message was removed after a review." : "This message was taken back.") : make("span", { class: "text" }, message.text);
  row.append(name);
  if (quote) row.append(quote);
  if (message.forwarded && !gone) row.append(make("span", { class: "facts" }, "Forwarded"));
  if (message.kind === "tip") row.append(make("strong", {}, tipIn(message.card)));
  if (message.kind === "bid") row.append(make("strong", {}, bidIn(message.card)), ...bidActions(message.card, mine, act));
  if (message.kind === "call") row.append(callCard(message.card, mine, act));
  if (message.kind === "live") row.append(liveCard(message.card, mine));
  if (message.attachments.length) row.append(attachments(message.attachments));
  if (gone || message.text) row.append(text);
  if (message.reactions.length) row.append(reactions(message, me, act));
  const facts = make("span", { class: "facts" }, make("time", {}, timeOfDay(message.at)), message.edited_at !== null && !gone ? " edited" : null,
    message.pinned_at !== null ? " pinned" : null, status ? make("span", { class: "status" }, status) : null, menu(message, { mine, gone, group, leads, act }));
  row.append(facts);
  return row;
}

/** A message that is on its way. @param {string} text @param {string} status */
export function waitingRow(text, status) {
  return make("li", { class: "message mine waiting" }, make("b", { class: "unseen" }, "You"), make("span", { class: "text" }, text), make("span", { class: "facts" }, status));
}

function callCard(card, mine, act) {
  const goes = card.state === "running" || card.state === "ringing";
  return make("span", { class: "row" }, make("strong", {}, callIn(card, mine)), goes ? make("button", { type: "button", class: "small come-in", onclick: () => act("come") }, "Come in") : null);
}

function liveCard(card, mine) {
  const way = mine ? ["To my studio", "/live"] : ["Watch", `/watch?stream=${encodeURIComponent(card.stream)}`];
  return make("span", { class: "row" }, make("strong", {}, liveIn(card)), card.state === "live" ? make("a", { class: "button small", href: way[1] }, way[0]) : null);
}

function tipIn({ to, amount, reversed }) {
  return `Tip for ${to.name}: ${inMoney(amount)}${reversed ? " (taken back)" : ""}`;
}

function reactions(message, me, act) {
  return make("span", { class: "reactions row" }, ...message.reactions.map(({ reaction, count, accounts }) => {
    const mine = accounts.includes(me);
    return make("button", { type: "button", "aria-pressed": String(mine), "aria-label": `${reaction}, ${count}`, onclick: () => act(mine ? "unreact" : "react", reaction) }, `${reaction} ${count}`);
  }));
}

function menu(message, { mine, gone, group, leads, act }) {
  const choice = (label, what, value) => make("button", { type: "button", class: `small act-${what}`, onclick: () => { element.open = false; act(what, value); } }, label);
  const lasting = LASTING.has(message.kind);
  const choices = gone ? [] : [
    make("div", { class: "row" }, ...QUICK.map((each) => choice(each, "react", each))),
    choice("Reply", "reply"),
    lasting ? null : choice("Forward", "forward"),
    mine && !lasting && !message.forwarded ? choice("Edit", "edit") : null,
    !group || leads ? choice(message.pinned_at === null ? "Pin" : "Unpin", message.pinned_at === null ? "pin" : "unpin") : null,
    !mine && group ? choice(`Tip ${message.from.name}`, "tip") : null,
    (mine || (group && leads)) && !lasting ? choice("Delete for everyone", "erase") : null,
  ];
  const element = make("details", { class: "menu" }, make("summary", { "aria-label": `More about this message of ${mine ? "yours" : message.from.name}` }, "⋯"),
    make("div", { class: "menu-list" }, ...choices, mine ? null : choice("Report", "report"), choice("Delete for me", "hide")));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    element.open = false;
    element.querySelector("summary").focus();
  });
  return element;
}

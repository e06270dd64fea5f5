/** Says rules about who may watch in plain words: what they ask for, and what would help who does not meet them. */

import { inWords } from "./clock.js";
import { inMoney } from "./money.js";

/** What a clause asks of a person: "Whoever …". */
const ASKS = {
  sub_tier: ({ at_least }) => `is subscribed to you${at_least > 1 ? `, tier ${at_least} or higher` : ""}`,
  follows: ({ min_age_s }) => `follows you${min_age_s ? `, for ${inWords(min_age_s)} at least` : ""}`,
  tips_total: ({ at_least, within_s }) => `has tipped you ${inMoney(at_least)} in all${within(within_s)}`,
  single_tip: ({ at_least, within_s }) => `has given you one tip of ${inMoney(at_least)}${within(within_s)}`,
  invite: () => "has an invitation",
  ticket: () => "has a ticket",
  "kyf:age_over": ({ years }) => `has proven to be ${years} or older`,
  "kyf:verified": () => "has proven who they are",
  "kyf:region": ({ inside, outside }) =>
    [inside && `lives in ${inside.join(", ")}`, outside && `does not live in ${outside.join(", ")}`].filter(Boolean).join(" and "),
  "kyf:tier": ({ at_least }) => `has an account of tier ${at_least} or higher`,
  "kyf:account_age": ({ at_least_s }) => `has had an account for ${inWords(at_least_s)}`,
};

/** A rule as the end of a sentence that begins with "whoever". @param {any} rule @returns {string} */
export function ruleInWords(rule, nested = false) {
  if (rule.type !== "any_of" && rule.type !== "all_of") return ASKS[rule.type]?.(rule) ?? rule.type;
  const parts = rule.of.map((part) => ruleInWords(part, true));
  const joined = join(parts, rule.type === "any_of" ? "or" : "and");
  return nested && parts.length > 1 ? `(${joined})` : joined;
}

/** What something helps to, in the words of `helpFor`. */
export const TO_WATCH = { to: "to watch", gives: "lets you in", then: "you can watch" };
export const TO_BEST = { to: "for the best picture", gives: "gives you the best picture", then: "you have it" };

/**
 * What would help: one line for each clause that is missing, with the name of what can be done about it at once.
 * @param {any} lacking of the server, a clause that is not met
 * @param {string} streamer
 * @param {typeof TO_WATCH} [words] what it would help to
 * @returns {{text: string, act: "follow"|"tip"|"buy"|"invite"|"prove"|null, label: string, amount?: import("./money.js").Amount}}
 */
export function helpFor({ clause, short, wait_s, have }, streamer, { to, gives, then } = TO_WATCH) {
  switch (clause.type) {
    case "follows":
      if (wait_s) return line(`You follow ${streamer}. That ${gives} after ${inWords(clause.min_age_s)}, in ${inWords(wait_s)}.`);
      return line(clause.min_age_s ? `Follow ${streamer}: it ${gives} after ${inWords(clause.min_age_s)}.` : `Follow ${streamer} ${to}.`, "follow", "Follow");
    case "sub_tier":
      return line(`Subscribe to ${streamer}${clause.at_least > 1 ? `, tier ${clause.at_least} or higher` : ""}${have ? ` (yours is ${have})` : ""}. ${streamer} grants subscriptions.`);
    case "tips_total":
      return { ...line(`Tip ${inMoney(short)} more ${to}: ${inMoney(clause.at_least)} in all${within(clause.within_s)}.`, "tip", `Tip ${inMoney(short)}`), amount: short };
    case "single_tip":
      return { ...line(`Tip ${inMoney(short)} at once ${to}${clause.within_s ? `: one tip${within(clause.within_s)} counts` : ""}.`, "tip", `Tip ${inMoney(short)}`), amount: short };
    case "invite":
      return line(`Get an invitation from ${streamer}, and open its link.`, "invite", "I have one");
    case "ticket":
      return line("Get a ticket for this stream.", "buy", "See tickets");
    case "kyf:tier":
      return line(`Your account needs tier ${clause.at_least}. Tiers are given by this site.`);
    case "kyf:account_age":
      return line(`Your account is too new: in ${inWords(wait_s ?? clause.at_least_s)} ${then}.`);
    case "kyf:age_over":
      return line(`Prove that you are ${clause.years} or older.`, "prove", "Prove it");
    case "kyf:verified":
      return line("Prove who you are. The streamer is not told.", "prove", "Prove it");
    case "kyf:region":
      return line(`Prove where you live: this is for who ${ASKS["kyf:region"](clause)}.`, "prove", "Prove it");
    default:
      return line(clause.type);
  }
}

/**
 * The tree of what is missing as sentences and lines, flat enough for a list.
 * @param {any} missing lacking, any_of or all_of
 * @returns {{head: string, lines: any[]}} lines are lacking clauses, or groups of the same shape
 */
export function waysOf(missing) {
  if (missing.type === "lacking") return { head: "", lines: [missing] };
  if (missing.of.length === 1) return waysOf(missing.of[0]);
  const head = missing.type === "any_of" ? "One of these is enough:" : "All of these are needed:";
  return { head, lines: missing.of.map((part) => (part.type === "lacking" ? part : waysOf(part))) };
}

function line(text, act = null, label = "") {
  return { text, act, label };
}

function within(seconds) {
  return seconds ? ` within ${inWords(seconds)}` : "";
}

function join(parts, word) {
  if (parts.length < 2) return parts.join("");
  return `${parts.slice(0, -1).join(", ")} ${word} ${parts.at(-1)}`;
}

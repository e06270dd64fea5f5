/** Blocks and reports: asked for in a dialog, wherever people meet others. */

import { ask } from "./api.js";
import { openDialog } from "./dialogs.js";
import { make, show } from "./dom.js";
import { notice } from "./notices.js";

export const REASONS = {
  unfair_block: "I was blocked, or put out, after I had paid",
  harassment: "Harassment or threats",
  hate: "Hate",
  spam: "Spam",
  fraud: "Fraud",
  impersonation: "Pretends to be somebody else",
  sexual: "Sexual content that does not belong here",
  minors: "Endangers children",
  violence: "Violence",
  illegal: "Something else that is against the law",
  other: "Something else",
};

/**
 * Ask why something is reported, and report it.
 * @param {object} about what the API takes: an account, a stream or a message
 * @param {string} what in the title
 * @param {() => any} [done]
 */
export function openReport(about, what, done = () => {}) {
  const given = Object.entries(REASONS).filter(([code]) => code !== "unfair_block" || about.kind === "account");
  const reason = make("select", { name: "reason" }, ...given.map(([value, words]) => make("option", { value }, words)));
  const hint = make("p", { class: "soft", hidden: true }, "What you paid them in the last 14 days, what was delivered of it and when you were blocked is looked at, and can come back to you. You can report it although you are blocked.");
  reason.onchange = () => show(hint, reason.value === "unfair_block");
  show(hint, reason.value === "unfair_block");
  const words = make("textarea", { name: "words", rows: 3, maxlength: 2000 });
  openDialog(`Report ${what}`, [
    make("p", {}, "Somebody looks at it, with what the server knows of it. Nobody else is told that you reported it."),
    make("label", {}, "Why ", reason),
    hint,
    make("label", {}, "In your words ", make("span", { class: "soft" }, "(if you like)"), words),
  ], {
    yes: "Report",
    run: async () => {
      await ask("POST", "/reports", { about, reason: reason.value, words: words.value });
      await done();
    },
    closed: (how) => how === "yes" && notice("Reported. You are told what was decided.", { key: "reported", action: { label: "Your cases", run: () => location.assign("/cases") } }),
  });
}

/** Ask whether somebody is to be blocked. @param {string} name @param {() => any} [done] */
export function openBlock(name, done = () => {}) {
  openDialog(`Block ${name}?`, [
    make("p", {}, "Neither of you reaches the other any more: no messages, no tips, no streams. They are not told."),
    make("p", {}, "What is paid and not delivered goes back. If you cut a paid one-to-one short, what was delivered of it waits until somebody has looked at it."),
  ], {
    yes: "Block",
    danger: true,
    run: async () => {
      await ask("PUT", `/blocks/${encodeURIComponent(name)}`);
      await done();
    },
  });
}

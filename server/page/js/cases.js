/** The page of one's cases: what one reported, what was decided and why, and how to contest it. */

import { ask } from "./api.js";
import { dayAndTime, inWords } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, show } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";
import { complain } from "./notices.js";
import { REASONS, openReport } from "./reporting.js";
import { connect, dressPage, shut, waysIn } from "./shell.js";

const PAGE = 20;
const STATES = { open: "Being looked at", decided: "Decided", appealed: "Looked at anew", closed: "Decided for good" };
const CUT_SHORT = { upheld: "Who paid is right.", partly_upheld: "Who paid is right in part.", not_upheld: "Who was paid is right.", false_report: "Who was paid is right." };
const UNFAIR_BLOCK = { upheld: "The block was unfair.", partly_upheld: "The block was unfair in part.", not_upheld: "The block was not unfair.", false_report: "The report was false." };
const FINDINGS = { upheld: "The report was right.", partly_upheld: "The report was right in part.", not_upheld: "Nothing against the rules was found.", false_report: "The report was false." };
const BACK = {
  content: "What was taken down is back. ",
  stream: "The stream is open again, and on as soon as its picture arrives. ",
  stream_over: "The stream was taken down wrongly. It is over; its streamer may open it anew. ",
};
const PAID_FOR = { one_to_one: "One-to-one", ticket: "Ticket", tip: "Tip", chat: "Paid chat" };

/** What a case is about, in a line. @param {{about: any, kind: string, reason: string}} one */
export function titleOf({ about: { kind, label }, kind: of, reason }) {
  if (reason === "unfair_block") return `Report of an unfair block by ${label}`;
  if (of === "cut_short" && kind === "chat") return "A paid chat that was cut short";
  if (of === "cut_short") return kind === "ticket" ? "A show that was cut short" : "A one-to-one that was cut short";
  return { account: `Report about ${label}`, stream: "Report about a stream", message: "Report about a message" }[kind];
}

/** What is at stake, a line for each. @param {any[]} stakes */
export function stakeLines(stakes) {
  return stakes.map(({ kind, amount, refunded, frozen }) => make("li", {}, `${PAID_FOR[kind]}: ${inMoney(amount)}${became(amount, refunded, frozen)}`));
}

function became(amount, refunded, frozen) {
  if (frozen) return ", frozen until it is decided";
  if (refunded === "0") return "";
  return refunded === amount.units ? ", given back" : `, of which ${inMoney({ ...amount, units: refunded })} were given back`;
}

/** What follows from a decision, in sentences. @param {{sanction: string, suspend_s: number, strike: boolean, takedown: boolean}} decision */
export function sanctionOf({ sanction, suspend_s: seconds, strike, takedown }) {
  const said = takedown ? ["It was taken down."] : [];
  if (sanction === "ban") said.push("The account is suspended for good.");
  if (sanction === "suspension") said.push(`The account is suspended for ${inWords(seconds)}.`);
  if (strike) said.push("It counts as a false report.");
  return said.join(" ");
}

/** What was found, in a sentence. @param {string} finding @param {{kind: string, reason: string}} one the case */
export function foundOf(finding, { kind, reason }) {
  if (kind === "cut_short") return CUT_SHORT[finding];
  return (reason === "unfair_block" ? UNFAIR_BLOCK : FINDINGS)[finding];
}

class CasesPage {
  #shown = new Map();
  #before = null;

  constructor(socket) {
    socket.on("case", () => this.look());
    socket.on("welcome", () => this.look());
    byId("report-form").onsubmit = (event) => {
      event.preventDefault();
      const { name } = event.target.elements;
      openReport({ kind: "account", name: name.value.trim() }, name.value.trim(), () => this.look());
    };
    byId("more").onclick = () => busy(byId("more"), () => this.#fetch(this.#before));
    this.look();
  }

  /** Fetch the newest anew. */
  async look() {
    try {
      await learnAssets();
      this.#shown.clear();
      await this.#fetch(null);
      show(byId("cases-panel"), true);
    } catch (error) {
      complain(error);
    }
    show(byId("loading"), false);
  }

  async #fetch(before) {
    const page = await ask("GET", `/cases?limit=${PAGE}${before === null ? "" : `&before=${before}`}`);
    for (const each of page.cases) this.#shown.set(each.id, each);
    this.#before = page.before;
    byId("cases").replaceChildren(...[...this.#shown.values()].map((each) => this.#row(each)));
    show(byId("no-cases"), this.#shown.size === 0);
    show(byId("more"), page.before !== null);
  }

  #row(one) {
    const heading = make("h2", {}, titleOf(one));
    const facts = make("p", { class: "soft small" }, dayAndTime(one.opened_at), one.role === "respondent" && one.kind === "report" ? ", about you" : "", one.kind === "report" ? `: ${REASONS[one.reason] ?? one.reason}` : "");
    const chip = make("span", { class: "chip", data: { state: one.state } }, STATES[one.state]);
    return make("li", { class: "panel case", id: one.id }, make("div", { class: "row spread" }, heading, chip), facts,
      one.words ? make("p", {}, make("q", {}, one.words)) : null,
      one.stakes.length ? make("ul", { class: "stakes" }, ...stakeLines(one.stakes)) : null,
      ...one.decisions.map((each) => decision(each, one)),
      one.returned ? make("p", { class: "callout returned" }, BACK[one.returned], one.returned !== "content" && one.role === "respondent" ? make("a", { class: "button small", href: "/live" }, one.returned === "stream" ? "Go on with it" : "Go live") : null) : null,
      one.appealed && one.state === "appealed" ? make("p", { class: "soft" }, "You appealed. Somebody else looks at it anew.") : null,
      one.can_appeal ? make("p", { class: "row" }, make("button", { type: "button", class: "small appeal", onclick: () => this.#appeal(one) }, "Appeal"), make("span", { class: "soft small" }, `until ${dayAndTime(one.appeal_until)}`)) : null);
  }

  #appeal(one) {
    const words = make("textarea", { name: "words", rows: 4, maxlength: 2000, required: true });
    openDialog("Appeal", [make("p", {}, "Somebody who had no part in the decision looks at it anew, and decides for good."), make("label", {}, "What was wrong about it ", words)], {
      yes: "Appeal",
      run: async () => {
        await ask("POST", `/cases/${encodeURIComponent(one.id)}/appeal`, { words: words.value.trim() });
        await this.look();
      },
    });
  }
}

function decision(one, of) {
  const follows = sanctionOf(one);
  return make("div", { class: "decision" }, make("p", {}, make("strong", {}, foundOf(one.finding, of)), follows ? ` ${follows}` : ""), one.words ? make("p", {}, one.words) : null, make("p", { class: "soft small" }, dayAndTime(one.at)));
}

if (document.body.classList.contains("cases")) {
  const session = dressPage();
  if (session) new CasesPage(connect(session));
  else {
    show(byId("loading"), false);
    shut("Log in to see your cases", ...waysIn());
  }
}

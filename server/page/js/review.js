/** The reviewers' desk: what waits, one case with its evidence, and the decision. */

import { ask } from "./api.js";
import { attachments, learnTicket } from "./attachments.js";
import { foundOf, sanctionOf, stakeLines, titleOf } from "./cases.js";
import { dayAndTime } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";
import { complain, notice } from "./notices.js";
import { REASONS } from "./reporting.js";
import { connect, dressPage, shut, waysIn } from "./shell.js";
import { counted } from "./words.js";

const PAGE = 50;
const FOUND = { false_report: "The report was false (a strike)" };
const TAKEDOWNS = { message: "Take the message down", stream: "End the stream, if it is still on", account: "Take goals and tip menu off the profile" };
const session = dressPage();

class ReviewPage {
  #state = "open";
  #pages = 1;
  #case = null;

  constructor(socket) {
    socket.on("review.waiting", () => this.look());
    socket.on("welcome", () => this.look());
    for (const tab of document.querySelectorAll("[name=state]")) tab.onchange = () => {
      this.#state = tab.value;
      this.#pages = 1;
      this.look();
    };
    byId("more-cases").onclick = () => busy(byId("more-cases"), () => {
      this.#pages += 1;
      return this.look();
    });
    byId("take").onclick = () => this.#do(byId("take"), "POST", "/take");
    byId("release").onclick = () => this.#do(byId("release"), "POST", "/release");
    byId("agree").onclick = () => this.#do(byId("agree"), "POST", "/second", { agrees: true });
    byId("disagree").onclick = () => this.#do(byId("disagree"), "POST", "/second", { agrees: false });
    byId("hold").onclick = () => this.#do(byId("hold"), this.#case.legal_hold ? "DELETE" : "PUT", "/hold");
    byId("who-looked").onclick = () => this.#showLog();
    byId("decide-form").onsubmit = (event) => this.#decide(event);
    byId("decide-form").elements.sanction.onchange = () => this.#fitForm();
    byId("back").onclick = () => this.#close();
    show(byId("desk"), true);
    this.look();
  }

  /** Fetch what waits anew, as many pages as were wanted. */
  async look() {
    try {
      await learnAssets();
      const cases = [];
      let after = 0;
      for (let page = 0; page < this.#pages && after !== null; page += 1) {
        const got = await ask("GET", `/mod/cases?limit=${PAGE}&state=${this.#state}&after=${after}`);
        cases.push(...got.cases);
        ({ after } = got);
      }
      byId("queue").replaceChildren(...cases.map((each) => this.#row(each)));
      show(byId("nothing"), cases.length === 0);
      show(byId("more-cases"), after !== null);
    } catch (error) {
      if (error.code !== "disconnected") complain(error);
    }
  }

  #row(one) {
    const facts = [dayAndTime(one.opened_at), one.alike > 1 ? `${one.alike} about the same` : "", one.proposal ? "waits for a second" : "", one.reviewer ? `with ${one.reviewer}` : ""].filter((each) => each);
    return make("li", {}, make("button", { type: "button", "aria-current": String(one.id === this.#case?.id), onclick: () => this.open(one.id) },
      make("strong", {}, titleOf(one)), make("span", { class: "line" }, facts.join(" · "))));
  }

  /** @param {string} id */
  async open(id) {
    try {
      this.#show(await ask("GET", `/mod/cases/${encodeURIComponent(id)}`));
      byId("case-title").focus();
    } catch (error) {
      complain(error);
    }
  }

  #close() {
    this.#case = null;
    show(byId("case"), false);
    show(byId("no-case"), true);
  }

  #show(one) {
    this.#case = { ...one, evidence: one.evidence ?? (one.id === this.#case?.id ? this.#case.evidence : null) };
    const { reviewer, state, proposal } = one;
    const mine = reviewer === session.account.name;
    show(byId("case"), true);
    show(byId("no-case"), false);
    say(byId("case-title"), titleOf(one));
    say(byId("case-facts"), `${dayAndTime(one.opened_at)} · ${state}${reviewer ? ` · with ${reviewer}` : ""}${one.legal_hold ? " · on hold" : ""}`);
    byId("case-sides").replaceChildren(...pairs([
      ["Reporter", `${one.reporter} (${counted(one.reports, "report")}, ${counted(one.strikes, "false one")} lately)`],
      ["Reported", one.respondent ?? "does not exist"],
      ["Reason", one.kind === "report" ? REASONS[one.reason] ?? one.reason : "Cut short by who was paid"],
      ["Words", one.words],
    ]));
    byId("case-stakes").replaceChildren(...stakeLines(one.stakes));
    byId("case-course").replaceChildren(...one.decisions.map((each) => decided(each, one)), ...one.appeals.map(({ role, words, at }) => make("li", {}, make("strong", {}, `Appeal of the ${role}: `), words, make("span", { class: "soft small" }, ` ${dayAndTime(at)}`))));
    show(byId("take"), !reviewer && ["open", "appealed"].includes(state));
    show(byId("release"), mine);
    show(byId("decide-form"), mine && !proposal);
    show(byId("proposal"), proposal !== null);
    if (proposal) {
      say(byId("proposal-text"), `${proposal.by} proposes: ${outcomeIn(proposal.outcome, one)}`);
      show(byId("agree"), proposal.by !== session.account.name);
      show(byId("disagree"), proposal.by !== session.account.name);
    }
    say(byId("hold"), one.legal_hold ? "Let go" : "Keep on hold");
    showEvidence(this.#case.evidence, one.id);
    this.#fitForm();
    this.look();
  }

  #fitForm() {
    const { sanction } = byId("decide-form").elements;
    show(byId("days"), sanction.value === "suspension");
    for (const option of byId("decide-form").elements.finding.options) {
      if (this.#case) say(option, FOUND[option.value] ?? foundOf(option.value, this.#case));
    }
    show(byId("part"), this.#case?.stakes.length > 0);
    const takedown = this.#case?.respondent ? TAKEDOWNS[this.#case.about.kind] : undefined;
    show(byId("takedown"), takedown !== undefined);
    say(byId("takedown-text"), takedown ?? "");
  }

  async #do(button, method, path, body) {
    await busy(button, async () => {
      try {
        this.#show(await ask(method, `/mod/cases/${encodeURIComponent(this.#case.id)}${path}`, body));
      } catch (error) {
        complain(error);
      }
    });
  }

  #decide(event) {
    event.preventDefault();
    const form = byId("decide-form");
    const { finding, refund, sanction, takedown, days, to_reporter: toReporter, to_respondent: toRespondent } = form.elements;
    const outcome = {
      finding: finding.value,
      to_reporter: toReporter.value,
      to_respondent: toRespondent.value,
      refund_bps: this.#case.stakes.length ? Math.round(Number(refund.value) * 100) : 0,
      sanction: sanction.value,
      suspend_s: sanction.value === "suspension" ? Number(days.value) * 86_400 : 0,
      strike: finding.value === "false_report",
      takedown: !byId("takedown").hidden && takedown.checked,
    };
    openDialog("Decide it so?", [make("p", {}, outcomeIn(outcome, this.#case)), make("p", { class: "soft" }, "Both sides are told, and it is done at once.")], {
      yes: "Decide",
      run: async () => {
        const after = await ask("POST", `/mod/cases/${encodeURIComponent(this.#case.id)}/decide`, outcome);
        form.reset();
        this.#show(after);
        notice(after.proposal ? "A second reviewer has to agree: it moves much money." : "Decided.", { key: "decided" });
      },
    });
  }

  async #showLog() {
    const list = make("ul", { class: "facts-list" });
    const more = make("button", { type: "button", class: "small", hidden: true }, "More");
    const path = `/mod/cases/${encodeURIComponent(this.#case.id)}/log?limit=${PAGE}`;
    let after = 0;
    const fetchSome = async () => {
      const { entries } = await ask("GET", `${path}&after=${after}`);
      list.append(...entries.map(({ name, did, at }) => make("li", {}, `${name || "the server"} ${did}, ${dayAndTime(at)}`)));
      after = entries.at(-1)?.id ?? after;
      show(more, entries.length === PAGE);
    };
    more.onclick = () => busy(more, () => fetchSome().catch(complain));
    try {
      await fetchSome();
      openDialog("Who did what", [list, more], { yes: "Close", no: "", run: async () => {} });
    } catch (error) {
      complain(error);
    }
  }
}

function outcomeIn(outcome, of) {
  const part = outcome.refund_bps ? `${outcome.refund_bps / 100} % of what was paid goes back.` : "";
  return [foundOf(outcome.finding, of), part, sanctionOf(outcome)].filter((each) => each).join(" ");
}

function decided({ outcome, by, seconded_by: second, at }, of) {
  return make("li", {}, make("strong", {}, outcomeIn(outcome, of)), ` To the reporter: “${outcome.to_reporter}”. To the other: “${outcome.to_respondent}”.`,
    make("span", { class: "soft small" }, ` ${by}${second ? ` and ${second}` : ""}, ${dayAndTime(at)}`));
}

function pairs(list) {
  return list.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
}

/** Show what the server gathered when the case was opened. @param {any} evidence @param {string} id of the case */
function showEvidence(evidence, id) {
  show(byId("evidence"), evidence !== null);
  if (evidence === null) return;
  const known = JSON.parse(evidence.body);
  say(byId("evidence-facts"), `Gathered ${dayAndTime(evidence.at)} · SHA-256 ${evidence.sha256.slice(0, 16)}… · ${evidence.intact ? "unchanged" : "CHANGED SINCE"}`);
  const who = (id) => ({ [known.reporter]: "reporter", [known.respondent]: "reported" })[id] ?? "somebody else";
  const money = (asset, units) => (asset === null ? "free" : inMoney({ asset, units }));
  byId("evidence-parts").replaceChildren(
    ...part("Blocks", known.blocks, (each) => `${who(each.blocker)} blocked ${who(each.blocked)}, ${dayAndTime(each.since)}`),
    ...part("One-to-ones", known.one_to_ones, (each) => `${dayAndTime(each.asked_at)}: ${each.seconds} s for ${money(each.asset, each.held)}, delivered ${Math.floor(each.delivered_ms / 1000)} s, ${money(each.asset, each.captured)} charged; ${each.state} (${each.reason})`),
    ...part("Tickets", known.tickets, (each) => `${money(each.asset, each.price)}, ${each.state}${each.earned ? ", show paid out" : ""}; shown ${Math.floor((each.shown_ms ?? 0) / 1000)} s`),
    ...part("Paid chats", known.chats ?? [], (each) => `${dayAndTime(each.asked_at)}: ${who(each.guest)} bid ${money(each.asset, each.units)}; ${each.state} (${each.reason})`),
    ...part("Tips", known.tips, (each) => `${dayAndTime(each.at)}: ${who(each.sender)} gave ${money(each.asset, each.units)} ${each.message}`),
    ...part("The messages", known.reported_messages ?? [], message(who)),
    ...files(known.files ?? [], id),
    ...part("Messages between the two", known.messages, message(who)),
    ...known.streams.flatMap(({ title, timeline, chat }) => [
      ...part(`The stream “${title ?? "gone"}”`, timeline, ({ type, at }) => `${dayAndTime(at)}: ${type}`),
      ...part("Its chat", chat, (each) => `${who(each.sender)}: ${each.text}`),
    ]),
    ...part("Entries in the books", known.ledger, (each) => `${dayAndTime(each.at)}: ${each.reason} ${each.phase}, ${each.kind} of ${who(each.owner)}: ${money(each.asset, each.units)}`),
  );
}

/** Files that the case keeps, fetched when somebody opens them: that one looks is logged. */
function files(exhibits, id) {
  if (!exhibits.length) return [];
  const element = make("details", { class: "exhibits" }, make("summary", {}, `Files (${exhibits.length}); that you look is logged`));
  element.addEventListener("toggle", async () => {
    if (element.querySelector(".attachments")) return;
    try {
      await learnTicket();
      element.append(attachments(exhibits.map(({ file }) => file), `/media/cases/${encodeURIComponent(id)}`));
    } catch (error) {
      complain(error);
    }
  });
  return [element];
}

function message(who) {
  return ({ sender, text, at, edited_at: edited, erased_at: erased }) => `${dayAndTime(at)} ${who(sender)}: ${erased ? "(taken back)" : text}${edited ? " (edited)" : ""}`;
}

function part(title, rows, line) {
  if (!rows.length) return [];
  return [make("details", { open: rows.length < 12 }, make("summary", {}, `${title} (${rows.length})`), make("ul", { class: "facts-list" }, ...rows.map((each) => make("li", {}, line(each)))))];
}

async function open() {
  try {
    await ask("GET", "/mod/role");
    new ReviewPage(connect(session));
  } catch (error) {
    shut(error.status === 404 ? "There is nothing here" : error.message, ["See who is live", "/"]);
  }
}

if (session) open();
else shut("Log in first", ...waysIn());

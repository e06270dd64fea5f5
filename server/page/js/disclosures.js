/** A streamer asks a viewer for facts: the viewer's side, with what is asked, why, until when, and yes or no. */

import { ask } from "./api.js";
import { countDown, dayAndTime } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { make } from "./dom.js";
import { complain, notice } from "./notices.js";

const FIELDS = {
  age_over: "the age that you have proven",
  verified: "whether you have proven who you are",
  region: "the region where you live",
  account_since: "since when you have this account",
};

export const BECAME = {
  pending: "waits for an answer",
  granted: "agreed",
  refused: "not agreed",
  lapsed: "no answer in time",
  revoked: "taken back",
};

/** @type {Map<string, import("./dialogs.js").Dialog>} */
const open = new Map();

/** Ask the user whenever somebody asks for facts. @param {import("./socket.js").Socket} socket @param {string} me */
export function answerDisclosures(socket, me) {
  socket.on("kyf.requested", (event) => put({ id: event.disclosure, ...event }));
  socket.on("kyf.disclosure", ({ disclosure, state }) => settle(disclosure, state));
  socket.on("welcome", async ({ resumed }) => {
    if (resumed) return;
    const { disclosures } = await ask("GET", "/disclosures?limit=200").catch(() => ({ disclosures: [] }));
    for (const each of disclosures) if (each.state === "pending" && each.viewer === me) put(each);
  });
}

function put({ id, streamer, fields, purpose, deadline }) {
  if (open.has(id)) return;
  const left = make("time", { class: "count" });
  countDown(left, deadline);
  const answer = async (word) => {
    open.delete(id); // its own answer need not be told
    await ask("POST", `/disclosures/${encodeURIComponent(id)}/${word}`);
  };
  open.set(id, openDialog(`${streamer} asks about you`, [
    make("p", {}, `${streamer} would like to know:`),
    make("ul", { class: "facts-list" }, ...fields.map((field) => make("li", {}, FIELDS[field] ?? field))),
    make("p", {}, "What for: ", make("q", {}, purpose)),
    make("p", {}, "Nothing is told unless you agree. You can take it back. Time to answer: ", left),
  ], {
    yes: "Agree, tell them",
    no: "Don't tell",
    run: () => answer("grant"),
    closed: (how) => {
      if (how === "no") answer("refuse").then(() => notice(`${streamer} is told nothing.`, { key: "facts" }), complain);
      else if (how === "yes") notice(`${streamer} may look at it now.`, { key: "facts", action: { label: "Take it back", run: () => ask("POST", `/disclosures/${encodeURIComponent(id)}/revoke`).catch(complain) } });
      else open.delete(id); // Escape puts the question off; it comes again until its time is over
    },
  }));
}

function settle(id, state) {
  const dialog = open.get(id);
  if (!dialog) return;
  open.delete(id);
  dialog.close("settled");
  if (state === "lapsed") notice("The time to answer is over. Nothing was told.", { key: "facts" });
}

/** The streamer's side: ask somebody. @param {string} name @param {() => void} done */
export function openAskFacts(name, done) {
  const boxes = Object.keys(FIELDS).map((field) => make("input", { type: "checkbox", name: "field", value: field }));
  const purpose = make("textarea", { name: "purpose", rows: 2, maxlength: 500, required: true, placeholder: "They read this before they decide" });
  const wait = make("select", { name: "wait" }, make("option", { value: 120 }, "2 minutes"), make("option", { value: 600 }, "10 minutes"), make("option", { value: 86_400 }, "1 day"), make("option", { value: 172_800 }, "2 days"));
  const label = { age_over: "Proven age", verified: "Proven identity", region: "Region", account_since: "Age of the account" };
  openDialog(`Ask ${name} for facts`, [
    make("fieldset", {}, make("legend", {}, "What you would like to know"), ...boxes.map((box) => make("label", { class: "tick" }, box, label[box.value]))),
    make("label", {}, "What for ", purpose),
    make("label", {}, "Time to answer ", wait),
  ], {
    yes: "Ask",
    run: async () => {
      const fields = boxes.filter((box) => box.checked).map((box) => box.value);
      if (!fields.length) throw new Error("Choose at least one fact");
      await ask("POST", "/disclosures", { name, fields, purpose: purpose.value.trim(), deadline_s: Number(wait.value) });
      notice(`${name} is asked. Nothing is told without their yes.`, { key: "facts" });
      done();
    },
  });
}

/** What a streamer asked, and what became of it; returns how much. @param {HTMLElement} list @param {string} me */
export async function listDisclosures(list, me) {
  const { disclosures } = await ask("GET", "/disclosures?limit=50");
  const mine = disclosures.filter((each) => each.streamer === me);
  list.replaceChildren(...mine.map((each) => {
    const look = each.state === "granted" ? make("button", { type: "button", class: "small quiet" }, "Look") : null;
    if (look) look.onclick = () => lookAt(each);
    return make("li", {}, make("span", {}, make("b", {}, each.viewer), ` ${BECAME[each.state]}`), look);
  }));
  return mine.length;
}

async function lookAt({ id, viewer, keep_until }) {
  try {
    const facts = await ask("GET", `/disclosures/${encodeURIComponent(id)}/facts`);
    const lines = [
      "age_over" in facts && (facts.age_over ? `Proven to be ${facts.age_over} or older` : "No age is proven"),
      "verified" in facts && (facts.verified ? "Has proven who they are" : "Has not proven who they are"),
      "region" in facts && (facts.region ? `Lives in ${facts.region}` : "No region is proven"),
      "account_since" in facts && `Has the account since ${dayAndTime(facts.account_since)}`,
    ].filter(Boolean);
    const kept = keep_until ? [make("p", { class: "soft" }, `You can look until ${dayAndTime(keep_until)}. Each look is written down.`)] : [];
    openDialog(`About ${viewer}`, [make("ul", { class: "facts-list" }, ...lines.map((line) => make("li", {}, line))), ...kept], { yes: "Done", no: "Close", run: async () => {} });
  } catch (error) {
    complain(error);
  }
}

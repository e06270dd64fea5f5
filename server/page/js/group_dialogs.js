/** The dialogs of groups: begin one, see and choose who is in it, change what it is like; and forward a message. */

import { ask, newKey, order } from "./api.js";
import { openDialog } from "./dialogs.js";
import { busy, make } from "./dom.js";
import { notice } from "./notices.js";
import { titleOf } from "./talks.js";

const ROLES = { owner: "Owner", admin: "Leads", member: "Member", reader: "Reads only" };

/** @param {(id: string) => void} made */
export function openNewGroup(made) {
  const title = make("input", { name: "title", required: true, maxlength: 100, autocomplete: "off" });
  const names = make("input", { name: "names", autocomplete: "off", placeholder: "ann, bob" });
  const key = newKey();
  openDialog("New group", [make("label", {}, "What it is called ", title), make("label", {}, "Whom to invite ", make("span", { class: "soft" }, "(names, with commas)"), " ", names)], {
    yes: "Begin it",
    run: async () => {
      const { id } = await order("POST", "/conversations", { title: title.value }, key);
      for (const name of names.value.split(",").map((each) => each.trim()).filter(Boolean)) await invite(id, name);
      made(id);
    },
  });
  title.focus();
}

async function invite(id, name) {
  try {
    await ask("PUT", `/conversations/${encodeURIComponent(id)}/members/${encodeURIComponent(name)}`);
  } catch (error) {
    notice(`${name}: ${error.message}`, { kind: "bad" });
  }
}

/** @param {any} talk @param {string} me @param {(name: string) => void} tip */
export function openMembers(talk, me, tip) {
  const path = `/conversations/${encodeURIComponent(talk.id)}`;
  const leads = ["owner", "admin"].includes(talk.mine.role);
  const list = make("ul", { class: "people" });
  const name = make("input", { name: "name", maxlength: 64, autocomplete: "off" });
  const more = make("button", { type: "button", class: "small" }, "Invite");
  const dialog = openDialog("Members", [list, leads ? make("div", { class: "row" }, make("label", { class: "grow" }, "Invite ", name), more) : ""], { yes: "Done", no: "", run: async () => {} });
  const change = async (method, where, body) => {
    dialog.fault("");
    try {
      await ask(method, `${path}${where}`, body);
      await draw();
    } catch (error) {
      dialog.fault(error.message);
    }
  };
  const row = ({ account, role, standing, online }) => {
    const at = `/members/${encodeURIComponent(account.name)}`;
    const button = (label, run) => make("button", { type: "button", class: "small quiet", "aria-label": `${label}: ${account.name}`, onclick: run }, label);
    const facts = standing === "in" ? `${ROLES[role]}${online ? ", here now" : ""}` : { invited: "Invited", asked: "Wants to come in", banned: "Put out for good" }[standing];
    const others = account.id !== me && leads && role !== "owner";
    return make("li", {}, make("span", {}, account.name), make("span", { class: "soft small" }, facts),
      standing === "asked" && leads ? button("Let in", () => change("PUT", at)) : null,
      others && standing === "in" && talk.mine.role === "owner" ? button(role === "admin" ? "No longer leads" : "Let lead", () => change("PUT", `${at}/role`, { role: role === "admin" ? "member" : "admin" })) : null,
      others && standing === "banned" ? button("Forgive", () => change("DELETE", `/banned/${encodeURIComponent(account.name)}`)) : null,
      others && standing !== "banned" ? button("Put out", () => change("DELETE", at)) : null,
      account.id !== me && standing === "in" ? button("Tip", () => { dialog.close(); tip(account.name); }) : null);
  };
  const draw = async () => {
    const { members } = await ask("GET", `${path}/members?limit=200`);
    list.replaceChildren(...members.map(row));
  };
  more.onclick = () => busy(more, async () => {
    if (!name.value.trim()) return;
    await change("PUT", `/members/${encodeURIComponent(name.value.trim())}`);
    name.value = "";
  });
  draw().catch((error) => dialog.fault(error.message));
}

/** @param {any} talk */
export function openShape(talk) {
  const title = make("input", { name: "title", required: true, maxlength: 100, value: talk.title });
  const select = (name, chosen, choices) => make("select", { name }, ...choices.map(([value, label]) => make("option", { value, selected: value === chosen }, label)));
  const history = select("history", talk.history, [["joined", "what is written from then on"], ["all", "everything"]]);
  const joining = select("joining", talk.joining, [["invited", "who is invited"], ["asked", "whoever is let in"], ["open", "everybody who knows the address"]]);
  const posting = select("posting", talk.posting, [["members", "all members"], ["admins", "those who lead"]]);
  const keep = select("keep", String(talk.keep_s ?? ""), [["", "for ever"], ["86400", "for a day"], ["604800", "for a week"], ["2592000", "for 30 days"]]);
  openDialog("Change the group", [make("label", {}, "Called ", title), make("label", {}, "Newcomers read ", history), make("label", {}, "Comes in ", joining), make("label", {}, "Writes ", posting), make("label", {}, "Messages are kept ", keep)], {
    yes: "Save",
    run: () => ask("PUT", `/conversations/${encodeURIComponent(talk.id)}/shape`, { title: title.value, history: history.value, joining: joining.value, posting: posting.value, keep_s: keep.value ? Number(keep.value) : null }),
  });
}

/** @param {any} message @param {any[]} talks */
export function openForward(message, talks) {
  const where = make("select", { name: "where" }, ...talks.filter(({ mine }) => mine.standing === "in").map((talk) => make("option", { value: talk.id }, titleOf(talk))));
  const key = newKey();
  openDialog("Forward", [make("label", {}, "To ", where)], {
    yes: "Forward",
    run: () => ask("POST", `/conversations/${encodeURIComponent(where.value)}/forwards`, { conversation: message.conversation, seq: message.seq, client_txn: key }),
  });
}

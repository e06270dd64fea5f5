/** One conversation: its messages, what is being written, and what may be done in it. */

import { ask } from "./api.js";
import { answerBid, openBid } from "./bids.js";
import { busy, byId, make, say, show } from "./dom.js";
import { chooseAudience, goLive } from "./go_live.js";
import { openForward, openMembers, openShape } from "./group_dialogs.js";
import { messageRow, waitingRow } from "./message_row.js";
import { complain, notice } from "./notices.js";
import { Orders } from "./orders.js";
import { Purse } from "./purse.js";
import { openBlock, openReport } from "./reporting.js";
import { titleOf } from "./talks.js";
import { openTip } from "./tip_dialog.js";
import { Writing } from "./writing.js";

const PAGE = 50;

export class Talk {
  /** @type {any} */ #talk = null;
  /** @type {Map<number, any>} */ #messages = new Map();
  #list = byId("message-list");
  #scroll = byId("message-scroll");
  #whole = false; // whether the first message is among them

  /** @param {import("./socket.js").Socket} socket @param {import("./wire.js").Person} me @param {import("./presence.js").Presence} presence @param {any} told */
  constructor(socket, me, presence, told) {
    this.socket = socket;
    this.me = me.id;
    this.told = told;
    this.presence = presence;
    presence.addEventListener("changed", () => this.#talk?.kind === "direct" && this.#facts());
    this.purse = new Purse();
    this.orders = new Orders();
    this.writing = new Writing(socket, me.id, {
      sent: (id, seq, text) => this.take(id, seq, { seq, conversation: id, from: me, kind: "text", text, reply_to: null, mentions: [], forwarded: false, attachments: [], at: Date.now(), edited_at: null, erased_at: null, pinned_at: null, reactions: [], card: null, early: true }),
      changed: () => this.#draw(),
      edited: (seq, text) => this.#ask("PUT", `/messages/${seq}`, { text }),
    });
    byId("earlier").onclick = () => busy(byId("earlier"), () => this.#fetch({ before: Math.min(...this.#messages.keys()) }));
    byId("come-in").onclick = () => busy(byId("come-in"), async () => this.#reopen(await this.#ask("POST", "/join")));
    byId("stay-out").onclick = () => busy(byId("stay-out"), () => this.#goAway());
    byId("unblock").onclick = () => busy(byId("unblock"), () => this.#unblock());
    byId("talk-tip").onclick = () => this.#tip(this.#talk.with.name);
    byId("talk-call").onclick = () => busy(byId("talk-call"), () => this.#call(false));
    byId("talk-video").onclick = () => busy(byId("talk-video"), () => this.#call(true));
    byId("talk-menu").addEventListener("keydown", (event) => event.key === "Escape" && this.#closeMenu());
    socket.on("conversation.typing", ({ conversation, accounts }) => this.#talk?.id === conversation && this.#showTyping(accounts));
    addEventListener("visibilitychange", () => this.#mark());
    addEventListener("focus", () => this.#mark());
  }

  /** @param {any} talk @param {number} [seq] a message to show */
  async open(talk, seq) {
    const same = this.#talk?.id === talk.id;
    this.#talk = talk;
    show(byId("talk"), true);
    show(byId("no-talk"), false);
    if (!same) {
      this.#messages.clear();
      this.#whole = false;
      this.#showTyping([]);
      this.writing.open(talk);
    }
    this.#head();
    if (talk.mine.standing === "in" && (!same || seq)) {
      await this.#fetch(seq ? { before: seq + PAGE / 2 } : {});
      if (seq) this.#point(seq);
      else this.#toEnd();
    }
    if (!same) byId("talk-title").focus();
    this.#mark();
  }

  leave() {
    this.#talk = null;
    show(byId("talk"), false);
    show(byId("no-talk"), true);
  }

  /** Whether a conversation is open and looked at. @param {string} id */
  reads(id) {
    return this.#talk?.id === id && document.visibilityState === "visible";
  }

  /** A conversation was looked at anew; null when there is none any more. */
  renew(id, talk) {
    if (this.#talk?.id !== id) return;
    if (talk === null) {
      notice("You are not in this conversation any more.");
      this.told.closed();
    } else if (talk.mine.standing !== this.#talk.mine.standing) this.#reopen(talk);
    else {
      this.#talk = talk;
      this.#head();
      this.#draw();
    }
  }

  /** A message is as it is now. @param {string} id @param {number} seq @param {any} message */
  take(id, seq, message) {
    if (this.#talk?.id !== id) return;
    const known = this.#messages.get(seq);
    if (message === null) this.#messages.delete(seq);
    else if (!message.early || !known) this.#messages.set(seq, message);
    const atEnd = this.#scroll.scrollHeight - this.#scroll.scrollTop - this.#scroll.clientHeight < 80;
    this.#draw();
    if (atEnd || message?.early) this.#toEnd();
    this.#mark();
  }

  async #fetch({ before = null }) {
    const { id } = this.#talk;
    try {
      const page = await ask("GET", `/conversations/${encodeURIComponent(id)}/messages?limit=${PAGE}${before === null ? "" : `&before=${before}`}`);
      if (this.#talk?.id !== id) return;
      for (const each of page.messages) this.#messages.set(each.seq, each);
      this.#whole = page.messages.length < PAGE;
      this.#draw();
    } catch (error) {
      complain(error);
    }
  }

  #draw() {
    if (this.#talk === null) return;
    const group = this.#talk.kind === "group";
    const all = [...this.#messages.values()].sort((one, other) => one.seq - other.seq);
    const last = all.findLast(({ from, erased_at: gone }) => from.id === this.me && gone === null);
    const leads = ["owner", "admin"].includes(this.#talk.mine.role);
    const rows = all.map((message) => this.#kept(message, () => messageRow(message, {
      me: this.me, group, leads,
      quoted: this.#messages.get(message.reply_to),
      status: message === last ? this.#status(message) : "",
      act: (what, value) => this.#act(what, message, value),
    }), message === last ? this.#status(message) : ""));
    const waiting = this.writing.waiting(this.#talk.id).map(({ text, failed }) => waitingRow(text || "Files", failed ?? "Sending …"));
    const wanted = [...rows, ...waiting];
    const stay = new Set(wanted);
    for (const row of [...this.#list.children]) if (!stay.has(row)) row.remove();
    // Rows that stay are not touched, so that a screen reader hears what is new alone.
    wanted.forEach((row, place) => this.#list.children[place] !== row && this.#list.insertBefore(row, this.#list.children[place] ?? null));
    show(byId("earlier"), !this.#whole && all.length > 0);
  }

  #rows = new Map();

  #kept(message, make, status) {
    const as = JSON.stringify([message, status, this.#messages.get(message.reply_to) ?? null, this.#talk.mine.role]);
    const known = this.#rows.get(message.seq);
    if (known?.as === as && known.id === this.#talk.id) return known.row;
    const row = make();
    this.#rows.set(message.seq, { as, row, id: this.#talk.id });
    return row;
  }

  #status({ seq, early }) {
    if (early || this.#talk.kind === "group") return "Sent";
    const [other] = this.#talk.markers;
    if (!other || other.delivered < seq) return "Sent";
    return other.read >= seq ? "Read" : "Delivered";
  }

  #head() {
    const { kind, mine, members, blocked, posting } = this.#talk;
    const other = this.#talk.with;
    say(byId("talk-title"), titleOf(this.#talk));
    const inside = mine.standing === "in";
    show(byId("invited"), !inside);
    say(byId("invited-text"), mine.standing === "asked" ? "You have asked to come in." : `You are invited to ${titleOf(this.#talk)}.`);
    show(byId("come-in"), mine.standing === "invited");
    show(byId("blocked"), blocked);
    say(byId("blocked-text"), blocked ? `You blocked ${other.name}. Neither of you hears from the other here.` : "");
    const writes = inside && !blocked && mine.role !== "reader" && (posting === "members" || mine.role !== "member");
    this.writing.allow(writes, inside && !writes && !blocked ? "You may read here, and not write" : "Message");
    show(byId("write-form"), inside && !blocked);
    show(byId("talk-tip"), inside && kind === "direct" && !blocked);
    for (const id of ["talk-call", "talk-video"]) show(byId(id), writes);
    show(byId("talk-menu"), inside);
    if (kind === "group") say(byId("talk-facts"), `${members} ${members === 1 ? "member" : "members"}`);
    else this.#facts();
    byId("talk-actions").replaceChildren(...this.#choices());
  }

  #facts() {
    say(byId("talk-facts"), this.presence.words(this.#talk.with.id));
  }

  #choices() {
    const { kind, mine, blocked } = this.#talk;
    const other = this.#talk.with;
    const choice = (label, run, danger = false) => make("button", { type: "button", class: `small${danger ? " danger" : ""}`, onclick: () => {
      this.#closeMenu();
      run();
    } }, label);
    const keep = (body) => this.#ask("PUT", "/mine", body);
    const muted = mine.muted_until !== null;
    return [
      choice(muted ? "Unmute" : "Mute", () => keep({ muted_until: muted ? 0 : -1 })),
      choice(mine.pinned ? "Unpin from the top" : "Pin to the top", () => keep({ pinned: !mine.pinned })),
      kind === "group" ? choice("Members", () => openMembers(this.#talk, this.me, (name) => this.#tip(name))) : choice(`${other.name}'s page`, () => location.assign(`/u/${encodeURIComponent(other.name)}`)),
      kind === "group" && mine.role !== "reader" ? choice("Go live", () => goLive(this.#talk.id).then((live) => this.#toStudio(live), complain)) : null,
      kind === "group" && mine.role !== "reader" ? choice("Go live for others, too", () => chooseAudience(this.#talk.id, (live) => this.#toStudio(live))) : null,
      kind === "group" && ["owner", "admin"].includes(mine.role) ? choice("Change the group", () => openShape(this.#talk)) : null,
      kind === "group" ? choice("Leave the group", () => this.#goAway(), true) : null,
      kind === "direct" && !blocked ? choice("Ask for a paid chat", () => this.#bid()) : null,
      kind === "direct" ? choice(`Report ${other.name}`, () => openReport({ kind: "account", name: other.name }, other.name)) : null,
      kind === "direct" && !blocked ? choice(`Block ${other.name}`, () => openBlock(other.name, () => this.#askAnew()), true) : null,
    ].filter((each) => each !== null);
  }

  #closeMenu() {
    byId("talk-menu").open = false;
    byId("talk-menu").querySelector("summary").focus();
  }

  async #act(what, message, value) {
    const path = `/messages/${message.seq}`;
    const reaction = `${path}/reactions/${encodeURIComponent(value ?? "")}`;
    if (what === "reply") this.writing.reply(message);
    else if (what === "edit") this.writing.edit(message);
    else if (what === "forward") openForward(message, this.told.forward());
    else if (what === "tip") this.#tip(message.from.name);
    else if (what === "bid") await answerBid(value).catch(complain);
    else if (what === "come") this.told.comeIn(message.conversation, message.card.call, message.card.video);
    else if (what === "report") openReport({ kind: "message", conversation: message.conversation, seq: message.seq }, "a message");
    else if (what === "react") await this.#ask("PUT", reaction);
    else if (what === "unreact") await this.#ask("DELETE", reaction);
    else if (what === "erase") await this.#ask("DELETE", path);
    else if (what === "pin") await this.#ask("PUT", `${path}/pin`);
    else if (what === "unpin") await this.#ask("DELETE", `${path}/pin`);
    else if (what === "hide" && (await this.#ask("PUT", `${path}/hidden`)) !== undefined) this.take(message.conversation, message.seq, null);
  }

  /** Who has gone live out of no call shows pictures from the studio; whom somebody was before watches. */
  #toStudio({ stream, conversation, starter }) {
    if (this.told.calling() === conversation) return;
    location.assign(starter === this.me ? "/live" : `/watch?stream=${encodeURIComponent(stream)}`);
  }

  async #call(video) {
    await this.told.call(this.#talk.id, video).catch(complain);
  }

  async #tip(name) {
    const { id } = this.#talk;
    try {
      await this.purse.look();
      openTip(name, { purse: this.purse, amount: null, item: null, give: (tip, beside) => this.orders.send("/tips", { to: name, ...tip, context: { kind: "conversation", id } }, beside) });
    } catch (error) {
      complain(error);
    }
  }

  async #bid() {
    const { id, with: other } = this.#talk;
    try {
      await this.purse.look();
      openBid(other.name, this.purse, (bid) => this.orders.send(`/conversations/${encodeURIComponent(id)}/bids`, bid));
    } catch (error) {
      complain(error);
    }
  }

  async #unblock() {
    await ask("DELETE", `/blocks/${encodeURIComponent(this.#talk.with.name)}`);
    this.#askAnew();
  }

  #askAnew() {
    this.told.changed(this.#talk.id).then((talk) => this.renew(talk.id, talk), complain);
  }

  async #goAway() {
    const { id } = this.#talk;
    if ((await this.#ask("POST", "/leave")) === undefined) return;
    await this.told.changed(id).catch(complain);
    this.told.closed();
  }

  #reopen(talk) {
    if (!talk) return;
    this.#talk = null;
    this.open(talk).catch(complain);
  }

  /** Ask for something in this conversation; what it answers, undefined when it was refused, which is told. */
  async #ask(method, path, body) {
    try {
      return await ask(method, `/conversations/${encodeURIComponent(this.#talk.id)}${path}`, body);
    } catch (error) {
      complain(error);
      return undefined;
    }
  }

  #mark() {
    if (this.#talk === null || this.#talk.mine.standing !== "in" || document.visibilityState !== "visible") return;
    const newest = Math.max(0, ...this.#messages.keys());
    if (newest <= this.#talk.mine.seen) return;
    const { id, mine } = this.#talk;
    mine.seen = newest;
    this.socket.request("conversation.mark", { conversation: id, delivered: newest, read: newest }).then(() => this.told.changed(id)).catch((error) => {
      mine.seen = 0; // the next look marks anew
      if (!["disconnected", "unreachable"].includes(error.code)) complain(error);
    });
  }

  #showTyping(people) {
    const names = people.map(({ name }) => name).join(", ");
    say(byId("typing"), names ? `${names} ${people.length === 1 ? "is" : "are"} writing …` : "");
  }

  #toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #point(seq) {
    const row = this.#list.querySelector(`[data-seq="${seq}"]`);
    row?.classList.add("fresh");
    row?.scrollIntoView({ block: "center" });
    setTimeout(() => row?.classList.remove("fresh"), 3000);
  }
}

/** The directory page: every stream that is live, as it changes. */

import { ask } from "./api.js";
import { countDown, noteServerTime, timeOfDay } from "./clock.js";
import { arch, byId, make, say, show } from "./dom.js";
import { complain } from "./notices.js";
import { connect, dressPage } from "./shell.js";
import { MODES, counted } from "./words.js";

const list = byId("streams");
/** @type {Map<string, Entry>} */
const entries = new Map();
let me = "";

const STATES = { waiting: "Not started", live: "Live", interrupted: "Connection lost", one_to_one: "In a one-to-one" };

/** One stream in the list; it is changed in place, so that the focus stays where it is. */
class Entry {
  /** @param {import("./wire.js").Card} card */
  constructor(card) {
    this.title = make("span", { class: "card-title" });
    this.streamer = make("span", { class: "card-by" }, card.streamer.name);
    this.state = make("span", { class: "chip" });
    this.mode = make("span", { class: "chip mode" });
    this.viewers = make("span", {});
    this.left = make("span", {});
    this.time = make("time", { class: "count" });
    this.link = make("a", { class: "card" },
      make("span", { class: "card-picture" }, arch(card.streamer.name), this.state),
      make("span", { class: "card-text" }, this.title, this.streamer,
        make("span", { class: "card-facts" }, this.mode, this.viewers, make("span", {}, this.left, this.time))));
    this.element = make("li", {}, this.link);
    this.show(card);
  }

  /** @param {import("./wire.js").Card} card */
  show(card) {
    this.card = card;
    const own = card.streamer.id === me;
    this.link.href = own ? "/live" : `/watch?stream=${encodeURIComponent(card.id)}`;
    say(this.title, card.title);
    say(this.streamer, own ? `${card.streamer.name} (you)` : card.streamer.name);
    say(this.state, card.state === "one_to_one" && card.one_to_one_ends_at ? `In a one-to-one until ${timeOfDay(card.one_to_one_ends_at)}` : STATES[card.state]);
    this.state.dataset.state = card.state;
    say(this.mode, MODES[card.mode].name);
    show(this.mode, card.mode !== "one_to_one");
    this.mode.dataset.mode = card.mode;
    say(this.viewers, `${card.viewers.toLocaleString()} watching`);
    const endsAt = card.one_to_one_ends_at ?? card.ends_at;
    say(this.left, endsAt === null ? "" : card.one_to_one_ends_at ? "back in about " : "ends in ");
    countDown(this.time, endsAt);
  }
}

/** @param {string} id @param {import("./wire.js").Card|null} card */
function put(id, card) {
  const known = entries.get(id);
  if (card && known) known.show(card);
  else if (card) insert(new Entry(card));
  else if (known) {
    if (known.element.contains(document.activeElement)) byId("heading").focus();
    known.element.remove();
    entries.delete(id);
  }
  summarise();
}

/** Newest first. @param {Entry} entry */
function insert(entry) {
  entries.set(entry.card.id, entry);
  const next = [...list.children].find((element) => entryOf(element).card.started_at < entry.card.started_at);
  list.insertBefore(entry.element, next ?? null);
}

function entryOf(element) {
  return [...entries.values()].find((entry) => entry.element === element);
}

function summarise() {
  show(byId("empty"), entries.size === 0);
  say(byId("summary"), entries.size ? `${counted(entries.size, "stream is", "streams are")} on` : "");
}

function offerMore(cursor) {
  const button = byId("more");
  show(button, cursor !== null);
  button.onclick = async () => {
    try {
      const page = await ask("GET", `/streams?cursor=${encodeURIComponent(cursor)}`);
      noteServerTime(page.server_now);
      for (const card of page.streams) put(card.id, card);
      offerMore(page.cursor);
    } catch (error) {
      complain(error);
    }
  };
}

const session = dressPage();
show(byId("welcome"), session === null);
show(byId("directory"), session !== null);
if (session) {
  me = session.account.id;
  const socket = connect(session);
  socket.on("welcome", ({ resumed }) => resumed || socket.request("watch_directory").catch(complain));
  socket.on("directory.delta", ({ stream, card }) => put(stream, card));
  socket.on("directory.snapshot", ({ streams, next_cursor }) => {
    const now = new Set(streams.map((card) => card.id));
    for (const id of [...entries.keys()]) if (!now.has(id)) put(id, null);
    for (const card of streams) put(card.id, card);
    offerMore(next_cursor);
    summarise();
  });
}

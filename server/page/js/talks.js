/** The list of conversations: the newest first, what of them is unread, and which one is open. */

import { ask } from "./api.js";
import { timeOfDay, dayAndTime, serverNow } from "./clock.js";
import { byId, make, show } from "./dom.js";
import { complain } from "./notices.js";
import { shortly } from "./message_row.js";

const PAUSE_MS = 120; // so that a burst of messages is looked at once
const DAY_MS = 86_400_000;

export class Talks {
  /** @type {Map<string, any>} */ #known = new Map();
  /** @type {Map<string, number>} */ #soon = new Map();
  #chosen = "";
  #cursor = null;

  /** @param {string} me @param {(id: string) => void} open @param {import("./presence.js").Presence} presence */
  constructor(me, open, presence) {
    this.me = me;
    this.open = open;
    this.presence = presence;
    presence.addEventListener("changed", () => this.#draw());
    byId("more-talks").onclick = () => this.#fetchPage();
  }

  /** Fetch the list anew. */
  async fetch() {
    this.#known.clear();
    this.#cursor = null;
    await this.#fetchPage();
  }

  /** All that is known. */
  all() {
    return [...this.#known.values()];
  }

  /** @param {string} id */
  choose(id) {
    this.#chosen = id;
    this.#draw();
  }

  /** Look at one anew; null where there is none any more. @param {string} id @returns {Promise<any>} */
  async refresh(id) {
    try {
      const found = await ask("GET", `/conversations/${encodeURIComponent(id)}`);
      this.#known.set(id, found);
      this.#draw();
      return found;
    } catch (error) {
      if (error.code !== "conversation_unknown") throw error;
      this.#known.delete(id);
      this.#draw();
      return null;
    }
  }

  /** Look at one anew in a moment. @param {string} id */
  refreshSoon(id) {
    if (this.#soon.has(id)) return;
    this.#soon.set(id, setTimeout(() => {
      this.#soon.delete(id);
      this.refresh(id).catch(complain);
    }, PAUSE_MS));
  }

  async #fetchPage() {
    try {
      const cursor = this.#cursor === null ? "" : `&cursor=${encodeURIComponent(this.#cursor)}`;
      const page = await ask("GET", `/conversations?limit=50${cursor}`);
      for (const each of page.conversations) this.#known.set(each.id, each);
      this.#cursor = page.cursor;
      show(byId("more-talks"), page.cursor !== null);
      this.#draw();
    } catch (error) {
      complain(error);
    }
  }

  #draw() {
    const shown = this.all().filter(({ head, kind, mine, id }) => head > 0 || kind === "group" || mine.draft || id === this.#chosen);
    shown.sort((one, other) => Number(other.mine.pinned) - Number(one.mine.pinned) || other.last_at - one.last_at);
    const focused = document.activeElement?.closest("#talks li")?.dataset.id;
    byId("talks").replaceChildren(...shown.map((each) => this.#row(each)));
    this.presence.watch(shown.flatMap(({ kind, with: other }) => (kind === "direct" ? [other.id] : [])));
    if (focused) byId("talks").querySelector(`[data-id="${CSS.escape(focused)}"] button`)?.focus();
    show(byId("no-talks"), shown.length === 0);
    const unread = shown.filter((each) => each.unread && !isMuted(each)).length;
    document.title = `${unread ? `(${unread}) ` : ""}Messages · mesi`;
  }

  #row(talk) {
    const { id, mine, last, unread } = talk;
    const line = mine.standing === "invited" ? "You are invited" : mine.draft ? `Draft: ${mine.draft}` : last ? shortly(last, this.me) : "";
    const count = unread ? make("span", { class: "badge" }, unread >= 1000 ? "999+" : String(unread), make("span", { class: "unseen" }, " unread")) : null;
    const here = talk.kind === "direct" && this.presence.isHere(talk.with.id) ? make("span", { class: "here", title: "Here now" }, make("span", { class: "unseen" }, " is here now")) : null;
    return make("li", { "data-id": id, "aria-current": id === this.#chosen ? "true" : null },
      make("button", { type: "button", onclick: () => this.open(id) },
        make("strong", {}, titleOf(talk), here), make("time", {}, last ? when(last.at) : ""), make("span", { class: "line" }, line), count ?? make("span", {})));
  }
}

/** @param {any} talk */
export function titleOf({ kind, title, with: other }) {
  return kind === "direct" ? other.name : title;
}

/** @param {any} talk */
export function isMuted({ mine: { muted_until: until } }) {
  return until !== null && (until === -1 || until > serverNow());
}

function when(at) {
  return serverNow() - at < DAY_MS ? timeOfDay(at) : dayAndTime(at).split(",")[0];
}

/** The streamer's lists of people: who is watching, who holds a ticket, who is let in, who was put out. */

import { ask } from "./api.js";
import { listDisclosures, openAskFacts } from "./disclosures.js";
import { busy, byId, make, show } from "./dom.js";
import { complain, notice } from "./notices.js";
import { openBlock } from "./reporting.js";

const LISTS = {
  tickets: { title: "Ticket holders", undo: "Take back" },
  entitled: { title: "May watch while private", undo: "No longer" },
  ejected: { title: "Put out", undo: "Let back in" },
};

export class People {
  /**
   * @param {string} stream
   * @param {string} me the streamer's name
   * @param {(room: import("./wire.js").RoomView) => void} told hears every new view of the room
   */
  constructor(stream, me, told) {
    this.me = me;
    this.path = `/streams/${encodeURIComponent(stream)}`;
    this.told = told;
    byId("right-form").onsubmit = (event) => {
      event.preventDefault();
      const { name, right } = event.target.elements;
      return busy(byId("right-give"), async () => {
        if (await this.#change("PUT", right.value, name.value.trim())) name.value = "";
        name.focus();
      });
    };
  }

  /** Fetch the whole room anew. */
  async refresh() {
    try {
      const room = await ask("GET", `${this.path}/room`);
      this.#showRights(room);
      this.told(room);
    } catch (error) {
      if (error.code !== "stream_ended") complain(error);
    }
  }

  /** Fetch what was asked of people about themselves. */
  async refreshFacts() {
    try {
      const found = await listDisclosures(byId("facts-list"), this.me);
      show(byId("no-facts"), found === 0);
    } catch (error) {
      complain(error);
    }
  }

  /** @param {string[]} names @param {number} count */
  showWatching(names, count) {
    const rows = names.map((name) => make("li", {}, make("span", {}, name),
      make("button", { type: "button", class: "small quiet", "aria-label": `Ticket for ${name}`, onclick: () => this.#change("PUT", "tickets", name) }, "Ticket"),
      make("button", { type: "button", class: "small quiet", "aria-label": `Ask for facts: ${name}`, onclick: () => openAskFacts(name, () => this.refreshFacts()) }, "Ask for facts"),
      make("button", { type: "button", class: "small quiet", "aria-label": `Put out: ${name}`, onclick: () => this.#putOut(name) }, "Put out"),
      make("button", { type: "button", class: "small quiet", "aria-label": `Block ${name}`, onclick: () => openBlock(name) }, "Block")));
    byId("watching").replaceChildren(...rows);
    byId("watching-count").textContent = count.toLocaleString();
    show(byId("nobody"), count === 0);
  }

  #putOut(name) {
    this.#change("PUT", "ejected", name);
    notice(`${name} is put out and gets nothing more.`, { key: "eject", action: { label: "Let back in", run: () => this.#change("DELETE", "ejected", name) } });
  }

  async #change(method, list, name) {
    try {
      await ask(method, `${this.path}/${list}/${encodeURIComponent(name)}`);
      await this.refresh();
      return true;
    } catch (error) {
      complain(error);
      return false;
    }
  }

  #showRights(room) {
    const sections = Object.entries(LISTS).filter(([list]) => room[list].length).map(([list, { title, undo }]) =>
      make("section", {}, make("h4", {}, title), make("ul", { class: "people" }, ...room[list].map(({ name }) =>
        make("li", {}, make("span", {}, name), make("button", { type: "button", class: "small quiet", "aria-label": `${undo}: ${name}`, onclick: () => this.#change("DELETE", list, name) }, undo))))));
    byId("rights").replaceChildren(...sections);
  }
}

/** What the streamer says of a running stream: its title and its description, which may change while it is on. */

import { ask } from "./api.js";
import { busy, byId } from "./dom.js";
import { complain, notice } from "./notices.js";

export class Description {
  #form = byId("described-form");
  #stream;

  /** @param {string} stream */
  constructor(stream) {
    this.#stream = stream;
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      busy(byId("described-save"), () => this.#save());
    };
  }

  /** Nothing that is just being written is replaced. @param {import("./wire.js").Card} card */
  show({ title, description }) {
    if (byId("described").open) return;
    this.#form.elements.title.value = title;
    this.#form.elements.description.value = description;
  }

  async #save() {
    const { title, description } = this.#form.elements;
    try {
      await ask("PATCH", `/streams/${encodeURIComponent(this.#stream)}`, { title: title.value.trim(), description: description.value.trim() });
      byId("described").open = false;
      byId("described").querySelector("summary").focus();
      notice("The new words are shown to everybody.", { key: "described" });
    } catch (error) {
      complain(error, "The words could not be changed");
    }
  }
}

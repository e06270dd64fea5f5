/** A button that follows somebody, or no longer. */

import { ask } from "./api.js";
import { busy, byId, say, show } from "./dom.js";
import { complain } from "./notices.js";

export class FollowButton {
  #button = byId("follow");
  #name = "";

  /** @param {(follows: boolean) => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.#button.onclick = () => busy(this.#button, () => this.#toggle());
  }

  /** @param {import("./wire.js").Person} whom @param {string} me */
  async show(whom, me) {
    if (whom.name === this.#name || whom.id === me) return;
    this.#name = whom.name;
    try {
      const { follows_since } = await ask("GET", `/profiles/${encodeURIComponent(whom.name)}`);
      this.#label(follows_since !== null);
    } catch (error) {
      if (error.code !== "account_unknown") complain(error);
    }
  }

  /** @param {boolean} follows */
  #label(follows) {
    show(this.#button, true);
    this.#button.setAttribute("aria-pressed", String(follows));
    say(this.#button, follows ? "Following" : "Follow");
  }

  async #toggle() {
    const follows = this.#button.getAttribute("aria-pressed") === "true";
    try {
      await ask(follows ? "DELETE" : "PUT", `/follows/${encodeURIComponent(this.#name)}`);
      this.#label(!follows);
      this.changed(!follows);
    } catch (error) {
      complain(error);
    }
  }
}

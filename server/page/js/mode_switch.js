/** Switches who a stream is for, in two steps: first it shows who would have to leave, then it is confirmed. */

import { countDown } from "./clock.js";
import { busy, byId, make, show } from "./dom.js";
import { complain, notice } from "./notices.js";
import { MODES, counted, listed } from "./words.js";

export class ModeSwitch {
  #dialog = byId("mode-dialog");
  /** @type {import("./wire.js").Prepared|null} */ #prepared = null;

  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    this.socket = socket;
    this.stream = stream;
    for (const button of this.#buttons()) button.onclick = () => busy(button, () => this.#prepare(button.value));
    byId("mode-confirm").onclick = () => busy(byId("mode-confirm"), () => this.#confirm());
    byId("mode-cancel").onclick = () => this.#dialog.close();
  }

  /** @param {import("./wire.js").Mode} mode */
  show(mode) {
    for (const button of this.#buttons()) {
      button.setAttribute("aria-pressed", String(button.value === mode));
      button.disabled = mode === "one_to_one";
    }
    byId("mode-now").textContent = MODES[mode].long;
  }

  /** @returns {HTMLButtonElement[]} */
  #buttons() {
    return [...byId("modes").querySelectorAll("button")];
  }

  async #prepare(mode, changed = false) {
    if (this.#buttons().some((button) => button.value === mode && button.getAttribute("aria-pressed") === "true")) return;
    try {
      this.#prepared = await this.socket.request("prepare_mode", { stream: this.stream, mode });
    } catch (error) {
      complain(error);
      return;
    }
    this.#describe(changed);
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #describe(changed) {
    const { mode, would_remove, would_remove_count, holders, holders_count, expires_at } = this.#prepared;
    const empty = would_remove_count > 0 && holders_count === 0;
    byId("mode-title").textContent = `Switch to “${MODES[mode].name}”?`;
    byId("mode-what").replaceChildren(
      make("p", {}, `${MODES[mode].long}.`),
      make("p", {}, would_remove_count ? make("strong", {}, `${counted(would_remove_count, "viewer")} would have to leave: `) : "Nobody would have to leave.", would_remove_count ? listed(would_remove, would_remove_count) : null),
      holders_count ? make("p", {}, `${counted(holders_count, "viewer")} would stay: ${listed(holders, holders_count)}`) : make("p", {}, empty ? "Nobody would be left watching." : "Nobody is watching now."),
    );
    show(byId("mode-changed"), changed);
    countDown(byId("mode-expires"), expires_at);
    byId("mode-confirm").textContent = empty ? "Switch anyway" : "Switch now";
  }

  async #confirm() {
    const { confirm_token, would_remove_count, holders_count, mode } = this.#prepared;
    const allowEmpty = would_remove_count > 0 && holders_count === 0;
    try {
      const { removed_count } = await this.socket.request("confirm_mode", { stream: this.stream, confirm_token, allow_empty: allowEmpty });
      this.#dialog.close();
      notice(`Now: ${MODES[mode].long.toLowerCase()}. ${removed_count ? `${counted(removed_count, "viewer")} had to leave and get nothing more.` : ""}`, { key: "mode" });
    } catch (error) {
      // Someone came or went meanwhile: look again before deciding. A lost answer is asked for with the same token.
      if (error.code === "room_changed" || error.code === "audience_empty") await this.#prepare(mode, true);
      else complain(error);
    }
  }
}

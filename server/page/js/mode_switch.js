/** Switches who a stream is for, in two steps: first it shows who would have to leave, then it is confirmed, for now or soon. */

import { ask } from "./api.js";
import { countDown, inWords } from "./clock.js";
import { busy, byId, make, say, show } from "./dom.js";
import { complain, notice } from "./notices.js";
import { MODES, counted, listed } from "./words.js";

export class ModeSwitch {
  #dialog = byId("mode-dialog");
  #when = byId("mode-when");
  /** @type {import("./wire.js").Prepared|null} */ #prepared = null;

  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    this.socket = socket;
    this.stream = stream;
    this.path = `/streams/${encodeURIComponent(stream)}/mode`;
    for (const button of this.#buttons()) button.onclick = () => busy(button, () => this.#prepare(button.value));
    byId("mode-confirm").onclick = () => busy(byId("mode-confirm"), () => this.#confirm());
    this.#when.onchange = () => this.#label();
    byId("mode-call-off").onclick = () => busy(byId("mode-call-off"), () => this.#callOff());
    byId("mode-cancel").onclick = () => this.#dialog.close();
  }

  /** @param {import("./wire.js").Card} card */
  show({ mode, next_mode, switches_at }) {
    for (const button of this.#buttons()) {
      button.setAttribute("aria-pressed", String(button.value === mode));
      button.disabled = mode === "one_to_one";
    }
    byId("mode-now").textContent = MODES[mode].long;
    show(byId("mode-pending"), next_mode !== null);
    if (next_mode !== null) say(byId("mode-pending-what"), `Your viewers see it coming: “${MODES[next_mode].name}” in`);
    countDown(byId("mode-pending-time"), switches_at);
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
    if (!this.#dialog.open) this.#when.value = "0";
    this.#describe(changed);
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #describe(changed) {
    const { mode, would_remove, would_remove_count, holders, holders_count, expires_at } = this.#prepared;
    byId("mode-title").textContent = `Switch to “${MODES[mode].name}”?`;
    byId("mode-what").replaceChildren(
      make("p", {}, `${MODES[mode].long}.`),
      make("p", {}, would_remove_count ? make("strong", {}, `${counted(would_remove_count, "viewer")} would have to leave: `) : "Nobody would have to leave.", would_remove_count ? listed(would_remove, would_remove_count) : null),
      holders_count ? make("p", {}, `${counted(holders_count, "viewer")} would stay: ${listed(holders, holders_count)}`) : make("p", {}, this.#leavesNobody ? "Nobody would be left watching." : "Nobody is watching now."),
    );
    show(byId("mode-changed"), changed);
    countDown(byId("mode-expires"), expires_at);
    this.#label();
  }

  get #afterS() {
    return Number(this.#when.value);
  }

  get #leavesNobody() {
    return this.#prepared.would_remove_count > 0 && this.#prepared.holders_count === 0;
  }

  #label() {
    byId("mode-confirm").textContent = this.#afterS ? `Switch in ${inWords(this.#afterS)}` : this.#leavesNobody ? "Switch anyway" : "Switch now";
  }

  async #confirm() {
    const { confirm_token, mode } = this.#prepared;
    const after_s = this.#afterS;
    // Who buys or leaves until the switch comes is not known yet: it may leave nobody.
    const order = { confirm_token, allow_empty: this.#leavesNobody || after_s > 0, after_s };
    try {
      const { removed_count } = await ask("POST", `${this.path}/confirm`, order);
      this.#dialog.close();
      if (after_s) return;
      notice(`Now: ${MODES[mode].long.toLowerCase()}. ${removed_count ? `${counted(removed_count, "viewer")} had to leave and get nothing more.` : ""}`, { key: "mode" });
    } catch (error) {
      // Someone came or went meanwhile: look again before deciding. A lost answer is asked for with the same token.
      if (error.code === "room_changed" || error.code === "audience_empty") await this.#prepare(mode, true);
      else complain(error);
    }
  }

  async #callOff() {
    try {
      await ask("POST", `${this.path}/call_off`);
    } catch (error) {
      if (error.code !== "no_switch_announced") complain(error);
    }
  }
}

/** The streamer's invitations to a stream: makes and copies links, takes them back, lets in who waits for a yes. */

import { ask } from "./api.js";
import { dayAndTime, serverNow } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inviteAddress } from "./invite_code.js";
import { complain, copyFrom, notice } from "./notices.js";
import { counted } from "./words.js";

export class Invitations {
  #form = byId("invite-form");

  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    this.path = `/streams/${encodeURIComponent(stream)}/invites`;
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      return busy(byId("invite-make"), () => this.#make());
    };
    byId("invite-copy").onclick = () => this.#copy();
    socket.on("invite.requested", (event) => {
      if (event.stream !== stream) return;
      notice(`${event.name} has an invitation and waits for your yes.`, { key: `invite-${event.account}`, action: { label: "Look", run: () => this.#reveal() } });
      this.refresh();
    });
  }

  /** Fetch the invitations and who waits. */
  async refresh() {
    try {
      const { invites } = await ask("GET", this.path);
      const asked = invites.filter(({ needs_approval, uses }) => needs_approval && uses > 0);
      const uses = await Promise.all(asked.map(async ({ id }) => (await ask("GET", `/invites/${id}/uses?limit=200`)).uses.map((use) => ({ ...use, invite: id }))));
      this.#showWaiting(uses.flat().filter(({ state }) => state === "pending"));
      byId("invites").replaceChildren(...invites.filter((each) => each.revoked_at === null).map((each) => this.#row(each)));
    } catch (error) {
      complain(error);
    }
  }

  #reveal() {
    byId("doors").open = true;
    byId("waiting-heading").focus();
  }

  #showWaiting(waiting) {
    show(byId("waiting"), waiting.length > 0);
    say(byId("waiting-count"), waiting.length ? String(waiting.length) : "");
    byId("waiting-list").replaceChildren(...waiting.map(({ id, name, invite }) => {
      const decide = (button, word) => busy(button, () => this.#do(() => ask("POST", `/invites/${invite}/${word}`, { account: id })));
      return make("li", {}, make("span", {}, name),
        make("button", { type: "button", class: "small strong", "aria-label": `Let in: ${name}`, onclick: (event) => decide(event.target, "approve") }, "Let in"),
        make("button", { type: "button", class: "small quiet", "aria-label": `Don't let in: ${name}`, onclick: (event) => decide(event.target, "deny") }, "No"));
    }));
  }

  #row({ id, uses, max_uses, expires_at, needs_approval }) {
    const over = expires_at <= serverNow();
    const facts = [`${uses} of ${counted(max_uses, "use")}`, over ? "has run out" : `until ${dayAndTime(expires_at)}`, needs_approval ? "each with your yes" : ""];
    const take = () => {
      const eject = make("input", { type: "checkbox" });
      openDialog("Take this invitation back?", [make("p", {}, "Nobody new gets in by it."), make("label", { class: "tick" }, eject, "Put out those whom it let in, too")],
        { yes: "Take back", danger: true, run: () => this.#do(() => ask("DELETE", `/invites/${id}?eject=${eject.checked}`)) });
    };
    return make("li", {}, make("span", {}, facts.filter(Boolean).join(" · ")), make("button", { type: "button", class: "small quiet", onclick: take }, "Take back"));
  }

  async #make() {
    const { expires, uses, approval } = this.#form.elements;
    try {
      const { code } = await ask("POST", this.path, { expires_s: Number(expires.value), max_uses: Number(uses.value), needs_approval: approval.checked });
      byId("invite-link").value = inviteAddress(code);
      show(byId("invite-new"), true);
      await this.refresh();
      await this.#copy();
    } catch (error) {
      complain(error);
    }
  }

  #copy() {
    return copyFrom(byId("invite-link"), "The link is copied. It is shown only now: keep it or send it.");
  }

  async #do(work) {
    try {
      await work();
    } catch (error) {
      complain(error);
    }
    await this.refresh();
  }
}

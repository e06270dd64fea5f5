/** Where somebody makes the own tip links, copies them or shows them as QR codes, and takes them back. */

import { ask } from "./api.js";
import { dayAndTime } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inMoney, read } from "./money.js";
import { complain, copyFrom } from "./notices.js";
import { counted } from "./words.js";

export class TipLinks {
  #form = byId("link-form");

  constructor() {
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      return busy(this.#form.querySelector("[type=submit]"), () => this.#make());
    };
  }

  async refresh() {
    try {
      const { links } = await ask("GET", "/tip_links");
      byId("links").replaceChildren(...links.map((link) => this.#row(link)));
    } catch (error) {
      complain(error);
    }
  }

  async #make() {
    const { amount, asset, note, expires } = this.#form.elements;
    const fault = this.#form.querySelector(".fault");
    show(fault, false);
    try {
      const suggested = amount.value.trim() ? read(amount.value, asset.value) : null;
      await ask("POST", "/tip_links", { suggested, note: note.value, expires_s: expires.value ? Number(expires.value) : null });
      amount.value = note.value = "";
      await this.refresh();
    } catch (error) {
      say(fault, error.message);
      show(fault, true);
    }
  }

  #row({ code, suggested, note, expires_at, visits, tips, tipped }) {
    const address = `${location.origin}/t/${code}`;
    const what = [suggested ? inMoney(suggested) : "Any amount", note].filter(Boolean).join(": ");
    const facts = [`opened by ${counted(visits, "person", "people")}`, `${counted(tips, "tip")}${tips ? `: ${tipped.map(inMoney).join(" and ")}` : ""}`, expires_at === null ? "" : `until ${dayAndTime(expires_at)}`];
    const field = make("input", { readonly: true, value: address, "aria-label": `The link: ${what}` });
    const copy = make("button", { type: "button", class: "small strong", "aria-label": `Copy the link: ${what}`, onclick: () => copyFrom(field, "The link is copied.") }, "Copy");
    const picture = () => openDialog(what, [make("p", { class: "qr" }, make("img", { src: `/api/v1/tip_links/${encodeURIComponent(code)}/qr.svg`, alt: `QR code of ${address}`, width: 260, height: 260 }))], { yes: "Done", no: "", run: async () => {} });
    const take = () => openDialog("Take this link back?", [make("p", {}, "It leads nowhere from then on, wherever it is shown. What came by it stays yours.")],
      { yes: "Take back", no: "Keep it", danger: true, run: () => this.#revoke(code) });
    return make("li", {}, make("strong", {}, what), make("span", { class: "soft small" }, facts.filter(Boolean).join(" · ")),
      make("div", { class: "row" }, field, copy,
        make("button", { type: "button", class: "small", "aria-label": `QR code: ${what}`, onclick: picture }, "QR code"),
        make("button", { type: "button", class: "small quiet", "aria-label": `Take back: ${what}`, onclick: take }, "Take back")));
  }

  async #revoke(code) {
    try {
      await ask("DELETE", `/tip_links/${encodeURIComponent(code)}`);
    } catch (error) {
      if (error.code !== "tip_link_unknown") throw error;
    }
    await this.refresh();
  }
}

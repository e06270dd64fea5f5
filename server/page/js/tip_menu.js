/** Where somebody writes the own menu: what tips are for, line by line. */

import { ask } from "./api.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inField, offerAssets, read } from "./money.js";

export class TipMenu {
  #lines = byId("menu-lines");
  #fault = byId("menu-fault");

  /** @param {string} owner one's own name */
  constructor(owner) {
    this.path = `/accounts/${encodeURIComponent(owner)}/tip_menu`;
    byId("menu-add").onclick = () => this.#add().querySelector("input").focus();
    byId("menu-form").onsubmit = (event) => {
      event.preventDefault();
      return busy(byId("menu-save"), () => this.#save());
    };
  }

  async refresh() {
    try {
      this.#show((await ask("GET", this.path)).items);
    } catch (error) {
      this.#tell(error.message);
    }
  }

  #show(items) {
    this.#lines.replaceChildren();
    for (const item of items) this.#add(item);
    if (!items.length) this.#add();
  }

  #add({ label = "", amount = null } = {}) {
    const select = make("select", { "aria-label": "Asset", name: "asset" });
    offerAssets(select, amount?.asset);
    const remove = make("button", { type: "button", class: "small quiet", "aria-label": label ? `Remove: ${label}` : "Remove this line" }, "Remove");
    const row = make("li", {},
      make("input", { name: "label", "aria-label": "What for", maxlength: 100, placeholder: "A song of your choice", value: label }),
      make("input", { name: "amount", "aria-label": "Amount", inputmode: "decimal", autocomplete: "off", placeholder: "5.00", value: amount ? inField(amount) : "" }), select, remove);
    remove.onclick = () => {
      row.remove();
      byId("menu-add").focus();
    };
    this.#lines.append(row);
    return row;
  }

  async #save() {
    this.#tell("");
    say(byId("menu-saved"), "");
    try {
      const items = [];
      for (const row of this.#lines.children) {
        const [label, amount, asset] = ["label", "amount", "asset"].map((field) => row.querySelector(`[name=${field}]`).value.trim());
        if (!label && !amount) continue;
        if (!label) throw new Error(`What is ${amount} ${asset} for? Write it beside the amount`);
        items.push({ label, amount: read(amount, asset) });
      }
      this.#show((await ask("PUT", "/me/tip_menu", { items })).items);
      say(byId("menu-saved"), items.length ? "Saved." : "Saved: the menu is empty, and the usual amounts are suggested.");
    } catch (error) {
      this.#tell(error.message);
    }
  }

  #tell(text) {
    say(this.#fault, text);
    show(this.#fault, text !== "");
  }
}

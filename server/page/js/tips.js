/** Tips the streamer from beside the stream: one press for a usual amount, one to confirm, never charged twice. */

import { ask, newKey, order } from "./api.js";
import { openDialog } from "./dialogs.js";
import { byId, make, say, show } from "./dom.js";
import { allAssets, inField, inMoney, learnAssets, read } from "./money.js";
import { complain } from "./notices.js";

const USUAL = [1n, 5n, 10n, 50n]; // whole units of whatever is given

export class Tips {
  #button = byId("tip");
  #to = "";

  /** @param {string} stream @param {() => void} given is called after a tip, which may open a door */
  constructor(stream, given) {
    this.stream = stream;
    this.given = given;
    this.#button.onclick = () => this.open();
  }

  /** @param {import("./wire.js").Person} whom @param {string} me @param {boolean} runs */
  show(whom, me, runs) {
    this.#to = whom.name;
    show(this.#button, whom.id !== me && runs);
  }

  /** Ask how much; `amount` is a suggestion. @param {import("./money.js").Amount} [amount] */
  async open(amount) {
    let balances;
    try {
      [{ balances }] = await Promise.all([ask("GET", "/me/wallet"), learnAssets()]);
    } catch (error) {
      complain(error);
      return;
    }
    const givable = allAssets().filter(({ surfaces }) => surfaces.includes("web"));
    const choice = make("select", { name: "asset" }, ...givable.map(({ asset }) => make("option", { selected: asset === amount?.asset }, asset)));
    const field = make("input", { name: "amount", inputmode: "decimal", required: true, autocomplete: "off" });
    const message = make("input", { name: "message", maxlength: "300", autocomplete: "off" });
    const anonymous = make("input", { type: "checkbox", name: "anonymous" });
    const purse = make("p", { class: "soft small", role: "status" });
    const usual = make("div", { class: "row", role: "group", "aria-label": "Usual amounts" });
    const whole = (count) => {
      const { scale } = givable.find(({ asset }) => asset === choice.value);
      return { asset: choice.value, units: String(count * 10n ** BigInt(scale)) };
    };
    const follow = () => {
      const there = balances.find(({ asset }) => asset === choice.value)?.available ?? "0";
      say(purse, `You have ${inMoney({ asset: choice.value, units: there })}.`);
      usual.replaceChildren(...USUAL.map((count) => make("button", { type: "button", class: "small", onclick: () => (field.value = inField(whole(count))) }, inMoney(whole(count)))));
    };
    choice.onchange = follow;
    follow();
    field.value = inField(amount ?? whole(5n));
    const sent = { words: "", key: "" };
    openDialog(`Tip ${this.#to}`, [
      usual,
      make("div", { class: "row" }, make("label", {}, "Amount ", field), make("label", {}, "In ", choice)),
      make("label", {}, "Say something with it ", message),
      make("label", { class: "tick" }, anonymous, ` Only ${this.#to} sees that it is from me`),
      purse,
    ], { yes: "Give it", run: () => this.#give({ amount: read(field.value, choice.value), message: message.value, anonymous: anonymous.checked }, sent) });
  }

  async #give(tip, sent) {
    const body = { to: this.#to, context: { kind: "stream", id: this.stream }, ...tip };
    // The same tip tried again is the same order; another amount is another one.
    const words = JSON.stringify(body);
    if (words !== sent.words) Object.assign(sent, { words, key: newKey() });
    try {
      await order("POST", "/tips", body, sent.key);
    } catch (error) {
      if (error.code === "insufficient_funds") throw new Error("There is not enough in your wallet, and nothing was charged. Pay something in first, at “Wallet” above.");
      if (error.code === "step_up_required") throw new Error("That is much in one day. Log out and in again, so that it is surely you; nothing was charged.");
      throw error;
    }
    this.given();
  }
}

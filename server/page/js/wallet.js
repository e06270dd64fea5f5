/** The wallet page: what there is, what came and went, and how more comes in. */

import { ask, newKey, order } from "./api.js";
import { dayAndTime } from "./clock.js";
import { busy, byId, make, say, show } from "./dom.js";
import { logInAddress } from "./identity.js";
import { allAssets, inMoney, learnAssets, read } from "./money.js";
import { connect, dressPage } from "./shell.js";

const WHAT = { deposit: "Paid in", withdrawal: "Paid out", tip: "Tip", ticket: "Ticket", tickets: "Tickets sold", one2one: "One-to-one", debt: "What was owed" };
const BECAME = { held: "promised", voided: "given back", expired: "given back", reversed: "taken back" };
const session = dressPage();

class Wallet {
  #cursor = "";
  #key = newKey();

  constructor() {
    const socket = connect(session);
    for (const type of ["tip", "tip.reversed", "ticket.sold", "ticket.refunded", "one_to_one.settled"]) socket.on(type, () => this.look());
    byId("earlier").onclick = () => busy(byId("earlier"), () => this.#earlier());
    byId("pay-in").onsubmit = (event) => {
      event.preventDefault();
      return busy(byId("pay-in-go"), () => this.#payIn());
    };
    this.look();
  }

  /** Fetch what there is, and the newest lines. */
  async look() {
    try {
      const [{ balances, bonus }, page] = await Promise.all([ask("GET", "/me/wallet"), ask("GET", "/me/wallet/entries"), learnAssets()]);
      const full = [...balances, ...bonus].filter(({ available, held, owed }) => [available, held, owed].some((units) => units !== "0"));
      show(byId("empty"), full.length === 0);
      byId("balances").replaceChildren(...full.map(balanceOf));
      byId("entries").replaceChildren();
      this.#add(page);
      const choice = byId("pay-in").elements.asset;
      if (!choice.options.length) choice.append(...allAssets().filter(({ surfaces, recipient_tier }) => surfaces.includes("web") && !recipient_tier).map(({ asset }) => make("option", {}, asset)));
    } catch (error) {
      this.#complain(error);
    }
  }

  #add({ entries, cursor }) {
    byId("entries").append(...entries.map(lineOf));
    this.#cursor = cursor ?? "";
    show(byId("earlier"), cursor !== null);
    show(byId("no-entries"), byId("entries").childElementCount === 0);
  }

  async #earlier() {
    try {
      this.#add(await ask("GET", `/me/wallet/entries?cursor=${encodeURIComponent(this.#cursor)}`));
    } catch (error) {
      this.#complain(error);
    }
  }

  async #payIn() {
    const { amount, asset } = byId("pay-in").elements;
    show(byId("fault"), false);
    try {
      const { url } = await order("POST", "/me/wallet/deposits", { amount: read(amount.value, asset.value) }, this.#key);
      location.assign(url);
    } catch (error) {
      this.#key = newKey();
      if (error.code === "provider_unknown") this.#complain(new Error("This site takes no payments by itself. Ask whoever runs it to fill your wallet."));
      else this.#complain(error);
    }
  }

  #complain(error) {
    say(byId("fault"), error.message);
    show(byId("fault"), true);
  }
}

function balanceOf({ asset, available, held, owed }) {
  const more = [held !== "0" && `${inMoney({ asset, units: held })} promised`, owed !== "0" && `${inMoney({ asset, units: owed })} owed`].filter(Boolean);
  return make("li", {}, make("strong", {}, inMoney({ asset, units: available })), more.length ? make("span", { class: "soft" }, more.join(", ")) : null);
}

function lineOf({ what, direction, amount, fee, with: party, at, state }) {
  const facts = [party && `${direction === "in" ? "from" : "to"} ${party.name}`, BECAME[state], fee && `fee ${inMoney(fee)}`].filter(Boolean);
  return make("li", {},
    make("span", {}, `${WHAT[what] ?? what}${facts.length ? ` ${facts.join(", ")}` : ""}`, make("br"), make("time", { class: "soft small", datetime: new Date(at).toISOString() }, dayAndTime(at))),
    make("strong", {}, `${direction === "in" ? "+" : "−"}${inMoney(amount)}`));
}

if (session) new Wallet();
else {
  byId("wallet").replaceChildren(make("p", {}, "Log in to see your wallet. ", make("a", { href: logInAddress(), class: "button strong" }, "Log in")));
}

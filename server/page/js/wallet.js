/** The wallet page: what there is, what came and went, and how money comes in and is paid out. */

import { ask } from "./api.js";
import { dayAndTime } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inField, inMoney, offerAssets, read } from "./money.js";
import { Orders, isOpen } from "./orders.js";
import { Purse, available } from "./purse.js";
import { connect, dressPage, shut, waysIn } from "./shell.js";

const LINES = 20; // at a time, of what came and went
const WHAT = { deposit: "Paid in", withdrawal: "Paid out", tip: "Tip", ticket: "Ticket", tickets: "Tickets sold", one2one: "One-to-one", debt: "What was owed", case: "Decided in a case" };
const BECAME = { held: "promised", voided: "given back", expired: "given back", reversed: "taken back" };
const CHANGES = ["tip", "tip.reversed", "ticket.sold", "ticket.refunded", "one_to_one.settled", "case"];
const UNKNOWN = "No answer came. Press again: it is done only once.";

const session = dressPage();

class WalletPage {
  #orders = new Orders();
  #purse = new Purse();
  /** @type {import("./purse.js").Wallet|null} */ #wallet = null;
  /** @type {string|null} */ #cursor = null;
  #shown = new Set();

  constructor() {
    this.deposit = byId("deposit-form");
    this.withdraw = byId("withdraw-form");
    this.deposit.onsubmit = (event) => this.#submit(event, () => this.#payIn());
    this.withdraw.onsubmit = (event) => this.#submit(event, () => this.#payOut());
    this.withdraw.elements.asset.onchange = () => this.#tellWithdrawable();
    byId("earlier").onclick = () => busy(byId("earlier"), () => this.#earlier());
    const socket = connect(session);
    for (const type of CHANGES) socket.on(type, () => this.look());
    document.addEventListener("visibilitychange", () => document.hidden || this.look()); // back from the provider's page
    addEventListener("pageshow", (event) => event.persisted && this.look());
    show(byId("loading"), true);
    this.look();
  }

  /** Fetch what there is, and the newest lines. */
  async look() {
    try {
      const [wallet, page] = await Promise.all([this.#purse.look(), ask("GET", `/me/wallet/entries?limit=${LINES}`)]);
      this.#wallet = wallet;
      this.#showBalances(wallet);
      this.#showWays(wallet);
      this.#shown.clear();
      byId("entries").replaceChildren();
      this.#add(page);
      show(byId("no-entries"), this.#shown.size === 0);
      show(byId("fault"), false);
      show(byId("wallet"), true);
    } catch (error) {
      this.#complain(error);
    }
    show(byId("loading"), false);
  }

  #complain(error) {
    say(byId("fault"), error.message);
    show(byId("fault"), true);
  }

  #showBalances({ balances, bonus }) {
    const lines = [...balances.map((each) => balanceOf(each, false)), ...bonus.map((each) => balanceOf(each, true))].filter((line) => line !== null);
    byId("balances").replaceChildren(...lines);
    show(byId("empty"), lines.length === 0);
  }

  #showWays({ balances, providers }) {
    const codes = balances.map(({ asset }) => asset);
    const full = balances.filter((each) => each.available !== "0").map(({ asset }) => asset);
    show(this.deposit, providers.length > 0);
    show(byId("no-provider"), providers.length === 0);
    say(byId("no-provider"), `This site takes no payments by itself. Ask whoever runs it to fill your wallet, with the command “mesi ledger deposit ${session.account.name} ${codes[0]} 20.00”.`);
    show(byId("withdrawals"), providers.length > 0 && full.length > 0);
    offerAssets(this.deposit.elements.asset, this.deposit.elements.asset.value, codes);
    offerAssets(this.withdraw.elements.asset, full.includes(this.withdraw.elements.asset.value) ? this.withdraw.elements.asset.value : full[0], full);
    for (const form of [this.deposit, this.withdraw]) {
      const { provider } = form.elements;
      show(form.querySelector(".provider"), providers.length > 1);
      if (!provider.options.length) provider.append(...providers.map((name) => make("option", {}, name)));
    }
    this.#tellWithdrawable();
  }

  #tellWithdrawable() {
    const asset = this.withdraw.elements.asset.value;
    const found = this.#wallet?.balances.find((each) => each.asset === asset);
    if (!found) return;
    const now = inMoney({ asset, units: found.withdrawable });
    say(byId("withdrawable"), found.withdrawable === found.available ? `Up to ${now}.` : `Up to ${now} now. What arrived as tips lately can be spent at once, and paid out some time later.`);
  }

  #submit(event, work) {
    event.preventDefault();
    const fault = event.target.querySelector(".fault");
    show(fault, false);
    return busy(event.target.querySelector("[type=submit]"), async () => {
      try {
        await work();
      } catch (error) {
        fault.textContent = isOpen(error) && error.code !== "provider_unavailable" ? UNKNOWN : error.message;
        show(fault, true);
      }
    });
  }

  async #payIn() {
    const { url } = await this.#orders.send("/me/wallet/deposits", written(this.deposit));
    location.assign(url);
  }

  async #payOut() {
    const body = written(this.withdraw);
    const amount = inMoney(body.amount);
    say(byId("withdrawn"), "");
    openDialog(`Have ${amount} paid out?`, [make("p", {}, `It goes out through ${body.provider}, and is held until that has paid.`)], {
      yes: `Pay out ${amount}`,
      run: async () => {
        try {
          await this.#orders.send("/me/wallet/withdrawals", body);
        } catch (error) {
          throw new Error(isOpen(error) ? UNKNOWN : this.#whyNot(error));
        }
        this.withdraw.elements.amount.value = "";
        say(byId("withdrawn"), `${amount} are on their way.`);
        await this.look();
      },
    });
  }

  #whyNot(error) {
    if (error.code === "not_withdrawable_yet" && error.extra.withdrawable) {
      const { withdrawable } = error.extra;
      if (withdrawable.units !== "0") this.withdraw.elements.amount.value = inField(withdrawable);
      return `Of what arrived lately some has to stay for now: up to ${inMoney(withdrawable)} can be paid out. Nothing was changed.`;
    }
    if (error.code === "insufficient_funds") return "There is not so much in your wallet. Nothing was changed.";
    return error.message;
  }

  async #earlier() {
    try {
      this.#add(await ask("GET", `/me/wallet/entries?limit=${LINES}&cursor=${encodeURIComponent(this.#cursor ?? "")}`));
    } catch (error) {
      this.#complain(error);
    }
  }

  #add({ entries, cursor }) {
    this.#cursor = cursor;
    const lines = entries.filter(({ id }) => !this.#shown.has(id));
    for (const { id } of lines) this.#shown.add(id);
    byId("entries").append(...lines.map(lineOf));
    show(byId("earlier"), cursor !== null);
  }
}

/** The amount and the provider that a form says; throws Error in plain words. */
function written(form) {
  const { amount, asset, provider } = form.elements;
  return { amount: read(amount.value, asset.value), provider: provider.value };
}

/** One balance with what is to be known about it; null for one that is empty. */
function balanceOf(balance, isBonus) {
  const { asset, held, owed, withdrawable } = balance;
  if ([balance.available, held, owed].every((units) => units === "0")) return null;
  const facts = [
    held !== "0" && `${inMoney({ asset, units: held })} held: promised, and not settled yet`,
    owed !== "0" && `${inMoney({ asset, units: owed })} owed: what comes in pays this first`,
    isBonus ? "A bonus: to spend, never paid out" : withdrawable !== balance.available && `${inMoney({ asset, units: withdrawable })} of it can be paid out now`,
  ].filter(Boolean);
  return make("li", {}, make("strong", {}, available(balance)), ...facts.map((fact) => make("span", { class: "soft small" }, fact)));
}

function lineOf({ what, of, direction, amount, fee, with: party, at, state }) {
  const whom = party ? ` ${direction === "in" ? "from" : "to"} ${party.name}` : "";
  const facts = [BECAME[state], of && "changes an earlier line", fee && `fee ${inMoney(fee)}`].filter(Boolean);
  return make("li", {},
    make("span", {}, `${WHAT[what] ?? what.replaceAll("_", " ")}${whom}`), make("b", {}, `${direction === "in" ? "+" : "−"}${inMoney(amount)}`),
    make("span", { class: "soft small" }, make("time", { datetime: new Date(at).toISOString() }, dayAndTime(at)), facts.length ? ` · ${facts.join(" · ")}` : ""));
}

if (session) new WalletPage();
else shut("Log in, then your wallet is here.", ...waysIn());

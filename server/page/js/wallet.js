/** The wallet's page: what there is, how to bring money in and have it paid out, and what happened. */

import { ask } from "./api.js";
import { dayAndTime } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inField, inMoney, read } from "./money.js";
import { Orders, isOpen } from "./orders.js";
import { inUse, lookIntoPurse, offerAssets } from "./purse.js";
import { connect, dressPage } from "./shell.js";

const LINES = 20; // of the history at a time
const WHAT = {
  deposit: "Money added", withdrawal: "Paid out", tip: "Tip", ticket: "Ticket", tickets: "Tickets sold", one2one: "One-to-one", debt: "Debt paid",
};
const STATES = { held: "held until it is settled", posted: "settled", voided: "given back", expired: "given back", reversed: "taken back" };
const UNKNOWN = "No answer came. Press again: it is done only once.";

const session = dressPage();

class WalletPage {
  #orders = new Orders();
  /** @type {any} */ #wallet = null;
  #cursor = null;
  #shown = new Set();

  constructor() {
    this.deposit = byId("deposit-form");
    this.withdraw = byId("withdraw-form");
    this.deposit.onsubmit = (event) => this.#submit(event, () => this.#payIn());
    this.withdraw.onsubmit = (event) => this.#submit(event, () => this.#payOut());
    this.withdraw.elements.asset.onchange = () => this.#tellWithdrawable();
    byId("more").onclick = () => busy(byId("more"), () => this.#older());
    const socket = connect(session);
    for (const type of ["tip", "tip.reversed"]) socket.on(type, () => this.refresh());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh()); // back from the provider's page
    addEventListener("pageshow", (event) => event.persisted && this.refresh());
    this.refresh();
  }

  /** Fetch the balances and the newest lines anew. */
  async refresh() {
    try {
      const [wallet, page] = await Promise.all([lookIntoPurse(), ask("GET", `/me/wallet/entries?limit=${LINES}`)]);
      this.#wallet = wallet;
      this.#showBalances(wallet);
      this.#showWays(wallet);
      this.#shown.clear();
      byId("history").replaceChildren();
      this.#append(page);
      show(byId("no-history"), this.#shown.size === 0);
      show(byId("history-fault"), false);
    } catch (error) {
      this.#failed(error);
    }
    show(byId("wallet"), true);
  }

  #failed(error) {
    say(byId("history-fault"), error.message);
    show(byId("history-fault"), true);
  }

  #showBalances({ balances, bonus }) {
    const there = [...balances.map((each) => [each, false]), ...bonus.map((each) => [each, true])].filter(([{ available, held, owed }]) => [available, held, owed].some((units) => units !== "0"));
    byId("balances").replaceChildren(...there.map(([balance, isBonus]) => {
      const { asset, held, owed, withdrawable, available } = balance;
      const facts = [
        held !== "0" && `${inMoney({ asset, units: held })} held: promised, and not settled yet`,
        owed !== "0" && `${inMoney({ asset, units: owed })} owed: what comes in pays this first`,
        isBonus ? "A bonus: to spend, never paid out" : withdrawable !== available && `${inMoney({ asset, units: withdrawable })} of it can be paid out now`,
      ].filter(Boolean);
      return make("li", {}, make("strong", {}, inUse(balance)), ...facts.map((fact) => make("span", { class: "soft small" }, fact)));
    }));
    show(byId("empty"), there.length === 0);
  }

  #showWays({ balances, providers }) {
    const codes = balances.map(({ asset }) => asset);
    const rich = balances.filter(({ available }) => available !== "0").map(({ asset }) => asset);
    show(this.deposit, providers.length > 0);
    show(byId("no-provider"), providers.length === 0);
    say(byId("no-provider"), `This site takes no payments by itself. Whoever runs it can put money into your wallet: with the command “mesi ledger deposit ${session.account.name} ${codes[0]} 20.00”.`);
    show(byId("withdrawals"), providers.length > 0 && rich.length > 0);
    offerAssets(this.deposit.elements.asset, codes);
    offerAssets(this.withdraw.elements.asset, rich);
    for (const form of [this.deposit, this.withdraw]) {
      show(form.querySelector(".provider"), providers.length > 1);
      offerAssets(form.elements.provider, providers);
    }
    this.#tellWithdrawable();
  }

  #tellWithdrawable() {
    const asset = this.withdraw.elements.asset.value;
    const found = this.#wallet.balances.find((each) => each.asset === asset);
    if (!found) return;
    const now = inMoney({ asset, units: found.withdrawable });
    say(byId("withdrawable"), found.withdrawable === found.available ? `Up to ${now}.` : `Up to ${now} now. What arrived as tips lately can be spent at once, and paid out some time later.`);
  }

  #submit(event, work) {
    event.preventDefault();
    const fault = event.target.querySelector(".fault");
    show(fault, false);
    return busy(event.submitter ?? event.target.querySelector("[type=submit]"), async () => {
      try {
        await work();
      } catch (error) {
        fault.textContent = isOpen(error) && error.code !== "provider_unavailable" ? UNKNOWN : error.message;
        show(fault, true);
      }
    });
  }

  async #payIn() {
    const { amount, asset, provider } = this.deposit.elements;
    const body = { amount: read(amount.value, asset.value), provider: provider.value };
    const { url } = await this.#orders.send("/me/wallet/deposits", body);
    location.assign(url);
  }

  async #payOut() {
    const { amount, asset, provider } = this.withdraw.elements;
    const body = { amount: read(amount.value, asset.value), provider: provider.value };
    const written = inMoney(body.amount);
    openDialog(`Have ${written} paid out?`, [make("p", {}, `It goes out through ${body.provider}, and is held until that has paid.`)], {
      yes: `Pay out ${written}`,
      run: async () => {
        try {
          await this.#orders.send("/me/wallet/withdrawals", body);
        } catch (error) {
          throw new Error(isOpen(error) ? UNKNOWN : this.#whyNot(error));
        }
        amount.value = "";
        say(byId("withdrawn"), `${written} are on their way.`);
        await this.refresh();
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

  async #older() {
    try {
      this.#append(await ask("GET", `/me/wallet/entries?limit=${LINES}&cursor=${encodeURIComponent(this.#cursor)}`));
    } catch (error) {
      this.#failed(error);
    }
  }

  #append({ entries, cursor }) {
    this.#cursor = cursor;
    const lines = entries.filter(({ id }) => !this.#shown.has(id));
    for (const { id } of lines) this.#shown.add(id);
    byId("history").append(...lines.map(line));
    show(byId("more"), cursor !== null);
  }
}

function line({ what, of, direction, amount, fee, with: party, at, state }) {
  const name = WHAT[what] ?? what.replaceAll("_", " ");
  const whom = party ? ` ${direction === "in" ? "from" : "to"} ${party.name}` : "";
  const facts = [dayAndTime(at), of ? "changes an earlier line" : "", STATES[state] ?? "", fee ? `fee ${inMoney(fee)}` : ""].filter(Boolean);
  return make("li", { data: { direction } }, make("span", {}, `${name}${whom}`), make("b", {}, `${direction === "in" ? "+" : "−"}${inMoney(amount)}`), make("span", { class: "soft small" }, facts.join(" · ")));
}

if (session) new WalletPage();
else show(byId("shut"), true);

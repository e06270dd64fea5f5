/** The streamer's side of a sale: opens it, shows the seats going and what they bring, ends it, and sums it up after the show. */

import { ask } from "./api.js";
import { inWords } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inMoney, learnAssets, offerAssets, paidOutAs, read } from "./money.js";
import { complain } from "./notices.js";
import { SALE_TYPES } from "./stream_model.js";
import { counted } from "./words.js";

const LOOK_MS = 1000; // between two looks at a report while tickets go quickly
const MOST_LOOKS = 30; // at a sale that is being settled; that takes a second or two
const RUNNING = ["open", "closed"];
const OVER = { delivered: "The show was delivered, and is paid.", cancelled: "The sale was cancelled. Everybody is paid back.", closed: "No more tickets are sold." };

export class TicketSale {
  #form = byId("sale-form");
  /** @type {any} */ #sale = null;
  #waits = false;
  #isOver = false;

  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    this.path = `/streams/${encodeURIComponent(stream)}`;
    for (const type of [...SALE_TYPES, "sale.seats"]) socket.on(type, (event) => event.stream === stream && this.#soon());
    this.#form.onsubmit = (event) => {
      event.preventDefault();
      return busy(byId("sale-open"), () => this.#open());
    };
    byId("sale-close").onclick = () => this.#ask("close", "Sell no more tickets?", "Who has a ticket keeps it.", "Sell no more");
    byId("sale-cancel").onclick = () => this.#ask("cancel", "Cancel the show?", "Every ticket is paid back whole. Nothing is left for you.", "Cancel and pay back");
  }

  /** Fetch the sale and how it goes. @returns {Promise<string>} its state, "" where there is none */
  async refresh() {
    try {
      await learnAssets();
      offerAssets(this.#form.elements.asset);
      if (!this.#isOver) this.#sale = await ask("GET", `${this.path}/sale`);
      if (this.#sale === null) return "";
      const report = await ask("GET", `/sales/${this.#sale.sale}/report?limit=200`);
      this.#render(report);
      return report.sale.state;
    } catch (error) {
      if (error.code === "sale_unknown") this.#render(null);
      else if (!["stream_ended", "stream_unknown"].includes(error.code)) complain(error);
      return "";
    }
  }

  /** The stream is over: what the sale brought stays to be read. @param {HTMLElement} place */
  async sumUp(place) {
    this.#isOver = true;
    if (this.#sale === null) return;
    place.append(byId("sale"));
    for (let looks = 0; looks < MOST_LOOKS && RUNNING.includes(await this.refresh()); looks++) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS)); // who is not in a stream is told nothing of it
    }
  }

  #soon() {
    if (this.#waits) return;
    this.#waits = true;
    setTimeout(() => {
      this.#waits = false;
      this.refresh();
    }, LOOK_MS);
  }

  async #open() {
    const { quantity, price, late_price, asset, shown } = this.#form.elements;
    const fault = byId("sale-fault");
    show(fault, false);
    try {
      await ask("POST", `${this.path}/sales`, {
        quantity: Number(quantity.value),
        price: read(price.value, asset.value),
        late_price: late_price.value.trim() ? read(late_price.value, asset.value) : null,
        delivered_after_s: Math.round(Number(shown.value) * 60),
      });
    } catch (error) {
      fault.textContent = error.message;
      show(fault, true);
    }
    await this.refresh();
  }

  #ask(word, title, text, yes) {
    openDialog(title, [make("p", {}, text)], {
      yes,
      danger: word === "cancel",
      run: async () => {
        await ask("POST", `/sales/${this.#sale.sale}/${word}`);
        await this.refresh();
      },
    });
  }

  #render(report) {
    const state = report?.sale.state ?? "none";
    const runs = RUNNING.includes(state);
    show(this.#form, !runs && !this.#isOver);
    show(byId("sale-running"), report !== null);
    show(byId("sale-close"), state === "open" && !this.#isOver);
    show(byId("sale-cancel"), runs && !report.money.earned && !this.#isOver);
    if (report === null) return say(byId("sale-now"), "No tickets are sold. Open a sale first, then switch to “Tickets”.");
    const { sale, sold, reserved, waiting, refunded, delivered_s, money, tickets } = report;
    if (this.#isOver && runs) say(byId("sale-now"), "The show is over, and is being settled.");
    else say(byId("sale-now"), state === "open" ? `${inMoney(sale.price_now)} each. ${counted(sale.left, "seat")} of ${sale.quantity.toLocaleString()} left.` : OVER[state]);
    const meter = byId("sale-meter");
    meter.max = sale.quantity;
    meter.value = sold;
    const facts = [counted(sold, "ticket") + " sold", reserved && `${reserved} being paid`, waiting && `${waiting} waiting`, refunded && `${refunded} paid back`, delivered_s && `${inWords(delivered_s)} shown to holders`];
    say(byId("sale-facts"), `${facts.filter(Boolean).join(", ")}.`);
    const amount = (units) => inMoney({ asset: money.asset, units });
    say(byId("sale-money"), `${amount(money.gross)} in all; after the fee of ${amount(money.fee)}, ${amount(money.net)} ${money.earned ? "is yours" : `will be yours once ${inWords(sale.delivered_after_s)} of the show were shown`}${paidOutAs(money.asset)}.`);
    byId("sale-holders").replaceChildren(...tickets.filter(({ state: each }) => each === "sold").map((holder) => this.#holder(holder, runs && !money.earned && !this.#isOver)));
    return undefined;
  }

  #holder({ ticket, name, price }, mayPayBack) {
    const run = async () => {
      await ask("DELETE", `/sales/${this.#sale.sale}/tickets/${ticket}`);
      await this.refresh();
    };
    const offer = () => openDialog(`Pay ${name} back?`, [make("p", {}, `${name} gets ${inMoney(price)} back, and the ticket is void. The seat is offered to whoever waits.`)], { yes: "Pay back", danger: true, run });
    const button = mayPayBack ? make("button", { type: "button", class: "small quiet", "aria-label": `Pay back: ${name}`, onclick: offer }, "Pay back") : null;
    return make("li", {}, make("span", {}, name), make("span", { class: "soft" }, inMoney(price)), button);
  }
}

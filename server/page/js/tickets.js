/** The viewer's side of a sale: what a ticket costs, how many are left, buying one, or waiting for a seat. */

import { ask } from "./api.js";
import { countDown, dayAndTime, inWords } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";
import { complain, notice } from "./notices.js";
import { Orders } from "./orders.js";
import { Purse } from "./purse.js";
import { SALE_TYPES } from "./stream_model.js";
import { counted } from "./words.js";

const SPREAD_MS = 1000; // within which all viewers of a stream ask anew, so that they do not ask at once
const TICKET_EVENTS = ["reserved", "offered", "sold", "expired", "refunded"];

export class Tickets {
  /** @type {any} */ #sale = null;
  #orders = new Orders();
  #purse = new Purse();
  #turn = 0;
  #role = "";

  /** @param {import("./socket.js").Socket} socket @param {string} stream @param {() => void} changed is told what can be had, or is had */
  constructor(socket, stream, changed) {
    this.changed = changed;
    this.path = `/streams/${encodeURIComponent(stream)}/sale`;
    for (const type of SALE_TYPES) socket.on(type, (event) => event.stream === stream && setTimeout(() => this.look(), Math.random() * SPREAD_MS));
    for (const word of TICKET_EVENTS) socket.on(`ticket.${word}`, (event) => event.stream === stream && this.#tell(word));
    socket.on("sale.seats", (event) => event.sale === this.#sale?.sale && this.#take({ ...this.#sale, left: event.free }));
    byId("tickets-buy").onclick = () => this.buy();
    byId("tickets-wait").onclick = () => busy(byId("tickets-wait"), () => this.#queue("PUT"));
    byId("tickets-leave").onclick = () => busy(byId("tickets-leave"), () => this.#queue("DELETE"));
    byId("tickets-give-up").onclick = () => busy(byId("tickets-give-up"), () => this.#giveUp());
  }

  get hasOne() {
    return this.#sale?.mine?.state === "sold";
  }

  get areSold() {
    return this.#sale !== null && !byId("tickets-buy").hidden;
  }

  /** Nobody buys tickets for their own stream. @param {string} role */
  for(role) {
    if (role === this.#role) return;
    this.#role = role;
    this.look();
  }

  /** Ask what is on sale. */
  async look() {
    const turn = ++this.#turn;
    if (this.#role !== "viewer") return;
    try {
      const [sale] = await Promise.all([ask("GET", this.path), learnAssets()]);
      if (turn === this.#turn) this.#take(sale);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#take(null);
      if (!["sale_unknown", "stream_unknown", "stream_ended"].includes(error.code)) complain(error);
    }
  }

  /** Offer to buy: the price is said before anything is charged. */
  async buy() {
    const sale = this.#sale;
    if (!sale || !this.areSold) return notice("No tickets are sold just now.", { key: "tickets" });
    const price = sale.mine?.price ?? sale.price_now;
    const purse = make("p", { class: "soft" }, "Looking into your wallet …");
    openDialog("Buy a ticket?", [make("p", {}, make("strong", {}, inMoney(price)), " from your wallet. ", promiseOf(sale)), purse], {
      yes: `Pay ${inMoney(price)}`,
      run: () => this.#pay(sale, price),
    });
    await this.#purse.look().then(() => say(purse, this.#purse.has(price.asset)), (error) => say(purse, error.message));
    return undefined;
  }

  async #pay(sale, price) {
    try {
      await this.#orders.send(`/sales/${sale.sale}/tickets`, { price_seen: price });
    } catch (error) {
      await this.look();
      if (error.code === "price_changed") throw new Error("The price has changed meanwhile, and nothing was charged. Close this and look at the new one.");
      if (error.code === "insufficient_funds") throw new Error(`${await this.#purse.lackNow(price)} Nothing was charged. Add money first, at “Wallet” above.`);
      throw error;
    }
    await this.look();
  }

  async #queue(method) {
    try {
      await ask(method, `/sales/${this.#sale.sale}/waiting`);
    } catch (error) {
      complain(error);
    }
    await this.look();
  }

  async #giveUp() {
    try {
      await ask("DELETE", `/reservations/${this.#sale.mine.ticket}`);
    } catch (error) {
      complain(error);
    }
    await this.look();
  }

  #tell(word) {
    if (word === "sold") notice("You have a ticket.", { key: "tickets" });
    if (word === "offered") notice("A seat is free for you. Pay before somebody else gets it.", { kind: "warn", key: "tickets", sticky: true, action: { label: "Buy", run: () => this.buy() } });
    if (word === "expired") notice("Your seat was given on. Nothing was charged.", { key: "tickets" });
    if (word === "refunded") notice("Your ticket was paid back into your wallet.", { kind: "warn", key: "tickets", sticky: true });
    this.look();
  }

  #take(sale) {
    this.#sale = sale;
    show(byId("tickets"), sale !== null && (sale.state === "open" || sale.mine !== null || sale.position > 0));
    if (sale !== null) this.#describe(sale);
    this.changed();
  }

  #describe(sale) {
    const { mine, position, left, state, opens_at, closes_at, server_now } = sale;
    const early = server_now < opens_at;
    const may = state === "open" && !early;
    const reserved = mine?.state === "reserved";
    say(byId("tickets-what"), wordsOf(sale, early));
    say(byId("tickets-promise"), mine?.state === "sold" || !may ? "" : `${promiseOf(sale)}${closes_at ? ` Sold until ${dayAndTime(closes_at)}.` : ""}`);
    countDown(byId("tickets-until"), reserved ? mine.until : null);
    say(byId("tickets-buy"), reserved ? `Pay ${inMoney(mine.price)}` : `Buy for ${inMoney(sale.price_now)}`);
    show(byId("tickets-buy"), reserved || (may && mine === null && left > 0));
    show(byId("tickets-give-up"), reserved);
    show(byId("tickets-wait"), may && mine === null && left === 0 && position === 0);
    show(byId("tickets-leave"), position > 0);
    if (may && mine === null && position === 0 && left === 0) say(byId("tickets-promise"), "You can wait for one that is given back: nothing is charged until you say so.");
  }
}

function wordsOf({ mine, position, left, state, price_now, opens_at }, early) {
  if (mine?.state === "sold") return "You have a ticket. It lets you in on all your devices, two at a time.";
  if (mine?.state === "reserved") return "A seat is kept for you for";
  if (position > 0) return `All tickets are sold. You are number ${position} in line; the next free seat is offered to you.`;
  if (state !== "open") return "No more tickets are sold.";
  if (early) return `Tickets for ${inMoney(price_now)} are sold from ${dayAndTime(opens_at)}.`;
  return left === 0 ? "All tickets are sold." : `${inMoney(price_now)} each. ${counted(left, "seat")} left.`;
}

function promiseOf({ earned, delivered_after_s }) {
  if (earned) return "The show is on, so this is not paid back.";
  return `You get it back if the show ends before ${inWords(delivered_after_s)} of it were shown.`;
}

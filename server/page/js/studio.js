/** The streamer's desk: follows the running stream and gives orders to it. */

import { BestPicture } from "./best_picture.js";
import { CallBar } from "./call_bar.js";
import { Chat } from "./chat.js";
import { countDown, inWords, secondsLeft } from "./clock.js";
import { Description } from "./description.js";
import { busy, byId, say, show } from "./dom.js";
import { ModeSwitch } from "./mode_switch.js";
import { Invitations } from "./invitations.js";
import { complain, notice, withdraw } from "./notices.js";
import { OneToOneOffer } from "./one_to_one_offer.js";
import { MoreTimeAsked } from "./more_time.js";
import { People } from "./people.js";
import { Player } from "./player.js";
import { PrivateRules } from "./private_rules.js";
import { Requests } from "./requests.js";
import { followSettlements } from "./settled.js";
import { NOTHING, TYPES, applied, withRoom } from "./stream_model.js";
import { TicketSale } from "./ticket_sale.js";
import { TimeLimit } from "./time_limit.js";
import { Viewing } from "./whep.js";
import { Publishing } from "./whip.js";
import { CALL_ENDED, ENDED } from "./words.js";

const SENDING = {
  connecting: "Connecting …",
  publishing: "On air",
  taken_over: "Published from another device",
  refused: "Not on air",
};

export class Studio {
  /** @type {import("./stream_model.js").Model} */ #model = NOTHING;
  /** @type {Publishing|null} */ #publishing = null;
  /** @type {MediaStream|null} */ #media = null;
  /** @type {Viewing|null} */ #guest = null;
  #sending = "connecting";

  /**
   * @param {import("./socket.js").Socket} socket
   * @param {import("./wire.js").Card} card of the own stream
   * @param {string} me
   * @param {{codec: string, maxBitrate: number}} how to publish
   * @param {() => void} over is called once the stream has ended
   */
  constructor(socket, card, me, how, over) {
    Object.assign(this, { socket, stream: card.id, me, how, over });
    this.#model = { ...NOTHING, card };
    this.chat = new Chat(socket, card.id, me);
    this.bar = new CallBar(socket, card.id, me);
    this.modes = new ModeSwitch(socket, card.id);
    this.best = new BestPicture(socket, card.id);
    this.limit = new TimeLimit(socket, card.id);
    this.description = new Description(card.id);
    this.requests = new Requests(socket, card.id);
    this.moreTime = new MoreTimeAsked(socket, card.id);
    this.sale = new TicketSale(socket, card.id);
    this.offer = new OneToOneOffer(card.id);
    followSettlements(socket, card.id, (text) => {
      say(byId("settled"), text);
      show(byId("settled"), true);
    });
    this.people = new People(card.id, card.streamer.name, (room) => this.#become(withRoom(this.#model, room)));
    this.rules = new PrivateRules(card.id);
    this.invitations = new Invitations(socket, card.id);
    this.remote = new Player("remote");
    socket.on("welcome", ({ resumed }) => resumed || this.#join());
    socket.on("gap", () => this.people.refresh());
    socket.on("access.rules_changed", (event) => event.stream === card.id && this.rules.refresh());
    socket.on("kyf.disclosure", () => this.people.refreshFacts());
    for (const type of TYPES) socket.on(type, (event) => event.stream === card.id && this.#take(event));
    socket.on("stream.warning", (event) => event.stream === card.id && notice("Your stream ends in", { kind: "warn", key: "end", endsAt: event.ends_at, action: { label: "10 minutes more", run: () => byId("limit-more").click() } }));
    socket.on("one_to_one.warning", (event) => event.stream === card.id && notice("The one-to-one ends in", { kind: "warn", key: "end", endsAt: event.ends_at }));
    byId("end-stream").onclick = () => byId("end-dialog").showModal();
    byId("end-cancel").onclick = () => byId("end-dialog").close();
    byId("end-confirm").onclick = () => busy(byId("end-confirm"), () => this.#end());
    byId("watch-link").href = `/watch?stream=${encodeURIComponent(card.id)}`;
    byId("take-over").onclick = () => this.#publishing?.start();
    this.#join();
    this.#render();
  }

  /** Publish a picture and sound, or change to them. @param {MediaStream} media */
  publish(media) {
    this.#media = media;
    if (this.#publishing) this.#publishing.replace(media).catch((error) => complain(error));
    else {
      this.#publishing = new Publishing(this.stream, media, this.how);
      this.#publishing.addEventListener("state", ({ detail }) => this.#followSending(detail));
      this.#publishing.start();
    }
    this.#render();
  }

  async #join() {
    try {
      await this.socket.request("join", { stream: this.stream });
      await Promise.all([this.people.refresh(), this.people.refreshFacts(), this.rules.refresh(), this.invitations.refresh(), this.sale.refresh(), this.offer.refresh()]);
    } catch (error) {
      if (error.code === "stream_ended" || error.code === "stream_unknown") this.#take({ type: "stream.ended", reason: "unknown" });
      else if (error.code !== "disconnected") complain(error); // the next connection joins again
    }
  }

  async #end() {
    try {
      await this.socket.request("end_stream", { stream: this.stream });
      byId("end-dialog").close();
    } catch (error) {
      byId("end-dialog").close();
      complain(error, "The stream could not be ended");
    }
  }

  #followSending({ state, problem }) {
    this.#sending = state;
    if (state === "refused") complain(problem, "Your picture is not sent");
    this.#render();
  }

  #take(event) {
    const before = this.#model;
    this.#become(applied(before, event, this.me));
    announce(event, this.#model, before);
    if (event.type === "one_to_one.accepted") this.people.refresh();
    if (event.type === "one_to_one.started" && before.call?.phase === "setup") this.chat.forgetPrivate();
    if (event.type === "stream.ended") this.#close(event.reason);
  }

  #close(reason) {
    this.#publishing?.stop();
    this.#guest?.stop();
    this.#guest = null;
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    say(byId("over-text"), ENDED[reason] ?? "");
    withdraw("call"); // nobody sees anybody again
    this.sale.sumUp(byId("over"));
    this.over();
  }

  #become(model) {
    this.#model = model;
    if (model.call && !this.#guest) this.#seeGuest();
    if (!model.call && this.#guest) this.#leaveGuest();
    this.#render();
  }

  #seeGuest() {
    const guest = (this.#guest = new Viewing(this.stream));
    guest.addEventListener("track", () => this.remote.play(guest.media));
    guest.addEventListener("state", ({ detail }) => show(byId("remote-wait"), detail.state !== "watching"));
    guest.start();
  }

  #leaveGuest() {
    this.#guest.stop();
    this.#guest = null;
    this.remote.stop();
  }

  #render() {
    const { card, call, names, requests, ended, closesAt } = this.#model;
    if (!card || ended !== null) return;
    say(byId("studio-title"), card.title);
    say(byId("sending"), SENDING[this.#sending]);
    byId("sending").dataset.state = this.#sending;
    show(byId("take-over"), this.#sending === "taken_over");
    show(byId("closing"), closesAt !== null);
    countDown(byId("closing-time"), closesAt);
    this.modes.show(card);
    this.best.show(card);
    this.limit.show(card.ends_at);
    this.description.show(card);
    this.people.showWatching(names, card.viewers);
    this.requests.show(requests, call === null && ["public", "private"].includes(card.mode));
    this.bar.show(call, this.#media);
    this.moreTime.show(call);
    show(byId("remote-frame"), call !== null);
    document.body.classList.toggle("in-call", call !== null);
    this.chat.allow(true, call ? "Only the two of you read this" : "Say something");
  }
}

function announce(event, model, before) {
  switch (event.type) {
    case "one_to_one.requested":
      return notice(`${event.name} asks for a one-to-one.`, { key: "ask", action: { label: "Look", run: () => byId("requests-heading").focus() } });
    case "one_to_one.offered":
      return notice(`${event.name} is asked to come. Your stream goes on until then.`, { key: "ask" });
    case "one_to_one.cancelled": {
      const gone = before.requests.find(({ id, confirm_by }) => id === event.account && confirm_by);
      return gone ? notice(`${gone.name} does not come.`, { kind: "warn", key: "ask" }) : withdraw("ask");
    }
    case "one_to_one.extended":
      return notice(`The one-to-one lasts ${inWords(event.seconds)} longer.`, { key: "more" });
    case "one_to_one.extension_asked":
      return notice(`Your guest asks for ${inWords(event.seconds)} more.`, { key: "more", action: { label: "Agree", run: () => byId("more-yes").click() } });
    case "one_to_one.extension_ended":
      return withdraw("more");
    case "one_to_one.accepted":
    case "one_to_one.declined":
      return withdraw("ask"); // the list has the others who ask
    case "one_to_one.started":
      return notice(`The one-to-one runs, for ${inWords(secondsLeft(event.ends_at))}. Nobody else sees or hears you.`, { key: "call" });
    case "one_to_one.ended":
      return notice(`The one-to-one is over after ${inWords(Math.round(event.delivered_s))}. ${CALL_ENDED[event.reason] ?? ""} The others see you again.`, { kind: "warn", key: "call", sticky: true });
    case "stream.started":
      return notice(`You are live: ${model.card?.title ?? ""}`, { key: "live" });
    case "stream.interrupted":
      return notice("Your picture does not reach the server. Without it the stream ends in", { kind: "bad", key: "live", endsAt: event.ends_at, sticky: true });
    case "stream.resumed":
      withdraw("live");
      return notice("Your picture is back.", { key: "live" });
    default:
      return undefined;
  }
}

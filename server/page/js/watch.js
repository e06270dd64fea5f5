/** The watch page: plays one stream, says why when it can't, and leads into chat and one-to-one. */

import { ask } from "./api.js";
import { CallBar } from "./call_bar.js";
import { Hosts } from "./hosts.js";
import { Chat } from "./chat.js";
import { answerDisclosures } from "./disclosures.js";
import { Door } from "./door.js";
import { ComingSwitch } from "./coming_switch.js";
import { FollowButton } from "./follow.js";
import { countDown, inWords, secondsLeft, timeOfDay } from "./clock.js";
import { arch, byId, say, show } from "./dom.js";
import { Goals } from "./goals.js";
import { Guest } from "./guest.js";
import { HowItPlays } from "./how_it_plays.js";
import { logInAddress } from "./identity.js";
import { notice, withdraw } from "./notices.js";
import { openBlock, openReport } from "./reporting.js";
import { QueuePlace } from "./queue_place.js";
import { followSettlements } from "./settled.js";
import { Player } from "./player.js";
import { connect, dressPage } from "./shell.js";
import { NOTHING, TYPES, applied } from "./stream_model.js";
import { Tickets } from "./tickets.js";
import { TipBar } from "./tips.js";
import { ViewingWays } from "./viewing_ways.js";
import { CALL_ENDED, ENDED, MODES, SHUT } from "./words.js";

const LOOK_AGAIN_MS = 1000;
const stream = new URLSearchParams(location.search).get("stream") ?? "";
const session = dressPage();

/** Cover the picture with what is to be known instead of it; null uncovers it. */
function slate(title, text = "", endsAt = null) {
  show(byId("slate"), title !== null);
  if (title === null) return;
  say(byId("slate-title"), title);
  say(byId("slate-text"), text);
  countDown(byId("slate-time"), endsAt);
}

/** Where to go from a stream that is over. */
function leadOn() {
  byId("slate-action").href = "/";
  say(byId("slate-action"), "See who is live");
  show(byId("slate-action"), true);
}

class WatchPage {
  /** @type {import("./stream_model.js").Model} */ #model = NOTHING;
  #connecting = "connecting";
  #viewing = new ViewingWays(stream, () => byId("video").clientHeight * devicePixelRatio);
  #player = new Player("video");

  constructor() {
    this.me = session.account.id;
    this.socket = connect(session);
    this.chat = new Chat(this.socket, stream, this.me);
    this.hosts = new Hosts(byId("hosts"), stream, this.#viewing);
    this.bar = new CallBar(this.socket, stream, this.me);
    this.tickets = new Tickets(this.socket, stream, () => this.#renderComing());
    this.coming = new ComingSwitch(() => this.tickets.buy());
    this.door = new Door(stream, { buy: () => this.tickets.buy(), tip: (amount) => this.tips.open(amount) });
    this.follow = new FollowButton(() => this.door.look());
    answerDisclosures(this.socket, session.account.name);
    this.guest = new Guest(this.socket, stream, () => this.place.refresh());
    this.place = new QueuePlace(stream, (asked) => this.#become({ ...this.#model, asked }));
    followSettlements(this.socket, stream, (text) => this.#settle(text));
    this.socket.on("welcome", ({ resumed }) => resumed || this.#join());
    for (const type of TYPES) this.socket.on(type, (event) => event.stream === stream && this.#take(event));
    this.socket.on("stream.warning", (event) => event.stream === stream && notice("The stream ends in", { kind: "warn", key: "end", endsAt: event.ends_at }));
    this.socket.on("one_to_one.warning", (event) => event.stream === stream && notice("Your one-to-one ends in", { kind: "warn", key: "end", endsAt: event.ends_at }));
    for (const type of ["access.rules_changed", "kyf.required", "kyf.expired", "kyf.granted"]) this.socket.on(type, () => this.door.look());
    this.#viewing.addEventListener("state", ({ detail }) => this.#follow(detail));
    this.#viewing.addEventListener("track", () => this.#player.play(this.#viewing.media));
    new ResizeObserver(() => this.#viewing.resized()).observe(byId("video"));
    new HowItPlays(this.#viewing, document.querySelector(".about"));
  }

  async #join() {
    try {
      await this.socket.request("join", { stream });
      await this.place.refresh();
    } catch (error) {
      if (error.code === "stream_ended") this.#become({ ...this.#model, ended: "unknown" });
      else if (error.code !== "disconnected") slate("Not here", error.message);
    }
  }

  #take(event) {
    const before = this.#model;
    this.#become(applied(before, event, this.me));
    announce(event, this.me);
    if (event.type === "one_to_one.started" && before.call?.phase === "setup") this.chat.forgetPrivate();
  }

  #become(model) {
    this.#model = model;
    this.#watchOrNot();
    this.#render();
  }

  /** Let the streamer be tipped, also by who may not watch. @param {import("./wire.js").Person} streamer @param {boolean} runs */
  #letTip(streamer, runs) {
    if (streamer.id === this.me) return;
    if (!this.tips) {
      this.tips = new TipBar(byId("tips"), streamer.name, { stream, done: () => this.door.look() });
      byId("tip").onclick = () => this.tips.open();
      this.goals = new Goals(byId("goals"), streamer.name, { stream });
      this.socket.on("goal", (event) => this.goals.take(event));
      byId("report").onclick = () => openReport({ kind: "stream", stream }, "this stream");
      byId("block").onclick = () => openBlock(streamer.name, () => location.assign("/"));
      for (const id of ["report", "block"]) show(byId(id), true);
      this.socket.on("welcome", () => this.goals.refresh()); // news may have been missed
      this.goals.refresh();
    }
    this.tips.show(runs);
    show(byId("tip"), runs);
  }

  #settle(text) {
    say(byId("settled-text"), text);
    show(byId("settled"), true);
    byId("settled-close").onclick = () => show(byId("settled"), false);
  }

  #watchOrNot() {
    const { card, you, call, ended } = this.#model;
    this.#viewing.talks = call !== null;
    if (ended !== null) return this.#viewing.stop();
    if (!card || !you) return undefined;
    if (you.admitted && card.state !== "waiting") return this.#viewing.start();
    // Whom a one-to-one shuts out stays connected: the picture comes back without joining again.
    if (you.reason !== "one_to_one_running" && !you.admitted) this.#viewing.stop();
    return undefined;
  }

  async #follow({ state, problem }) {
    this.#connecting = state;
    if (state === "watching") this.#player.play(this.#viewing.media);
    if (state === "refused") {
      if (problem.code === "no_common_codec" || problem.code === "unsupported_offer") return slate("This browser can't play it", problem.message);
      if (problem.code === "stream_ended" || problem.code === "stream_unknown") return this.#become({ ...this.#model, ended: "unknown" });
      // The refusal may be older than what the socket said meanwhile, so ask once more.
      setTimeout(() => this.#lookAgain(), LOOK_AGAIN_MS);
    }
    return this.#render();
  }

  async #lookAgain() {
    try {
      const { card, you } = await ask("GET", `/streams/${encodeURIComponent(stream)}`);
      this.#become({ ...this.#model, card, you });
    } catch {
      // Without a connection the socket's return brings the state.
    }
  }

  #render() {
    const { card, you, call, asked, ended } = this.#model;
    this.#renderSlate();
    this.hosts.show(ended === null && card && you?.admitted && this.#viewing.isOn ? card.hosts : []);
    if (ended !== null) leadOn();
    if (!card || !you) return;
    document.title = `${asked?.comeBy ? "Your turn! " : ""}${card.title} · mesi`;
    say(byId("title"), card.title);
    say(byId("streamer"), card.streamer.name);
    byId("streamer").href = `/u/${encodeURIComponent(card.streamer.name)}`;
    if (!byId("streamer-arch").firstChild) byId("streamer-arch").append(arch(card.streamer.name));
    say(byId("description"), card.description);
    say(byId("mode"), MODES[card.mode].long);
    byId("mode").dataset.mode = card.mode;
    say(byId("viewers"), `${card.viewers.toLocaleString()} watching`);
    show(byId("viewers"), ended === null);
    show(byId("time-left"), ended === null && card.ends_at !== null);
    countDown(byId("time-left-count"), card.ends_at);
    const mayAsk = ended === null && you.role === "viewer" && you.admitted && ["public", "private"].includes(card.mode) && card.state !== "waiting";
    show(byId("ask"), mayAsk && !asked && !call);
    show(byId("asked"), asked !== null && !call);
    this.place.show(call ? null : asked);
    this.guest.terms.streamer = card.streamer.name;
    const maySpeak = (you.admitted || you.reason === "one_to_one_running") && ended === null;
    this.chat.allow(maySpeak, maySpeak ? (call ? "Only the two of you read this" : "Say something") : ended === null ? "Closed for you" : "The chat is over");
    this.door.show(this.#model);
    this.tickets.for(ended === null ? you.role : "");
    this.#renderComing();
    this.follow.show(card.streamer, this.me);
    this.#letTip(card.streamer, ended === null);
    this.guest.follow(this.#model);
    this.bar.show(call, this.guest.media);
    document.body.classList.toggle("in-call", call !== null);
  }

  #renderComing() {
    const { card, you, ended } = this.#model;
    const concerned = card !== null && you?.role === "viewer" && you.admitted && ended === null;
    this.coming.show(concerned ? card : null, this.tickets.hasOne || you?.grants.includes("ticket"), this.tickets.areSold);
  }

  #renderSlate() {
    const { card, you, ended, closesAt, othersCallEndsAt } = this.#model;
    if (ended !== null) return slate("The stream is over", ENDED[ended] ?? "");
    if (!card || !you) return slate("One moment", "Looking for the stream …");
    if (!you.admitted) {
      const [title, text] = SHUT[you.reason] ?? ["Closed for you", ""];
      if (you.reason !== "one_to_one_running") return slate(title, text);
      const when = othersCallEndsAt ? `It ends at about ${timeOfDay(othersCallEndsAt)}, in` : "How long it takes will be shown here.";
      return slate(title, `${text} ${when}`, othersCallEndsAt);
    }
    if (card.state === "waiting") return slate("Not started yet", "The picture appears here by itself.");
    if (card.state === "interrupted") return slate("The streamer's connection is lost", closesAt ? "It may come back. The stream ends otherwise in" : "It may come back.", closesAt);
    if (this.#connecting === "connecting") return slate("Connecting", "The picture is on its way …");
    if (this.#connecting === "waiting") return slate("Nothing to see yet", "The picture appears here by itself.");
    return slate(null);
  }
}

/** Say what just happened; what the slate over the picture says is not said twice. */
function announce(event, me) {
  switch (event.type) {
    case "access.granted":
      return notice("You can watch now.", { key: "access" });
    case "stream.best_picture":
      if (event.best_picture === "everyone") return notice("The best picture is for everyone now.", { key: "best" });
      return event.yours && notice("You have the best picture now.", { key: "best" });
    case "stream.time_limit":
      return event.ends_at === null
        ? notice("The stream has no time limit any more.", { key: "end" })
        : notice(`The stream ends at ${timeOfDay(event.ends_at)}, in ${inWords(secondsLeft(event.ends_at))}.`, { key: "end" });
    case "stream.ended":
      return withdraw("end");
    case "one_to_one.declined":
      return event.account === me && notice("The streamer said no to your one-to-one.", { key: "ask" });
    case "one_to_one.cancelled":
      return event.account === me && event.reason === "missed" && notice("You did not come in time, so somebody else is asked. You can ask again.", { kind: "warn", key: "ask", sticky: true });
    case "one_to_one.extension_ended":
      return event.reason === "declined" && notice("The streamer wants no more time. What was held for it is yours again.", { key: "more" });
    case "one_to_one.extended":
      return notice(`The one-to-one lasts ${inWords(event.seconds)} longer.`, { key: "more" });
    case "one_to_one.accepted":
      return notice("Accepted! Your camera is being connected.", { key: "ask" });
    case "one_to_one.started":
      return notice(`The one-to-one runs, for ${inWords(secondsLeft(event.ends_at))}.`, { key: "ask" });
    case "one_to_one.ended":
      return notice(`The one-to-one is over after ${inWords(Math.round(event.delivered_s))}. ${CALL_ENDED[event.reason] ?? ""} Your camera is off.`, { key: "ask" });
    default:
      return undefined;
  }
}

if (session) new WatchPage();
else {
  slate("For everyone with an account", "Log in, then the stream is here.");
  byId("slate-action").href = logInAddress();
  show(byId("slate-action"), true);
  show(byId("chat"), false);
  show(byId("about"), false);
}

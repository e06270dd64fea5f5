/** The go-live page: sets a stream up, publishes it, and is the streamer's desk while it runs. */

import { ask } from "./api.js";
import { busy, byId, say, show } from "./dom.js";
import { Goals } from "./goals.js";
import { leaveForLogIn } from "./identity.js";
import { complain, notice, withdraw } from "./notices.js";
import { Setup } from "./setup.js";
import { connect, dressPage } from "./shell.js";
import { Studio } from "./studio.js";

const session = dressPage();

class LivePage {
  /** @type {Studio|null} */ #studio = null;
  /** @type {import("./wire.js").Card|null} */ #running = null;

  constructor() {
    this.socket = connect(session);
    this.setup = new Setup(() => this.#goLive());
    this.setup.changed = (media) => this.#studio?.publish(media);
    byId("again").onclick = () => location.reload();
    byId("running-end").onclick = () => busy(byId("running-end"), () => this.#endRunning());
    this.#findRunning();
  }

  /** A stream of ours may run since before a reload, or on another device. */
  async #findRunning() {
    try {
      const { streams } = await ask("GET", "/streams?limit=200");
      this.#offerRunning(streams.find((card) => card.streamer.id === session.account.id) ?? null);
    } catch (error) {
      if (error.code === "no_session") leaveForLogIn();
      else complain(error);
    }
  }

  #offerRunning(card) {
    this.#running = card;
    show(byId("running"), card !== null);
    show(byId("new-stream"), card === null);
    byId("title-field").required = card === null;
    say(byId("running-title"), card?.title ?? "");
    say(byId("go"), card ? "Go on with it" : "Go live");
  }

  async #endRunning() {
    try {
      await ask("POST", `/streams/${encodeURIComponent(this.#running.id)}/end`);
      this.#offerRunning(null);
    } catch (error) {
      complain(error);
    }
  }

  async #goLive() {
    if (this.#studio) return;
    const media = this.setup.media ?? (await this.setup.preview());
    if (!media) return;
    try {
      const card = this.#running ?? (await this.#create());
      if (card) this.#enterStudio(card, media);
    } catch (error) {
      complain(error, "The stream could not be opened");
    }
  }

  async #create() {
    const { title, kind, mode, bestPicture, description } = this.setup.choice;
    try {
      return (await ask("POST", "/streams", { title, kind, mode, description, best_picture: bestPicture })).card;
    } catch (error) {
      if (error.code !== "already_live" || !error.extra.stream) throw error;
      this.#offerRunning((await ask("GET", `/streams/${encodeURIComponent(error.extra.stream)}`)).card);
      notice("You have a stream that is still on. Go on with it, or end it first.", { kind: "warn" });
      return null;
    }
  }

  #enterStudio(card, media) {
    withdraw("complaint");
    document.body.classList.add("on-air");
    show(byId("setup"), false);
    show(byId("setup-go"), false);
    show(byId("sources-title"), true);
    show(byId("studio"), true);
    byId("studio").append(byId("setup-form")); // on air the devices come last, also for who goes by the keyboard
    this.#studio = new Studio(this.socket, card, session.account.id, this.setup.choice, () => this.#over());
    this.#studio.publish(media);
    this.#showGoals(card);
    byId("studio-title").focus();
  }

  #showGoals({ id, streamer }) {
    byId("own-link").href = `/u/${encodeURIComponent(streamer.name)}`;
    const goals = new Goals(byId("goals"), streamer.name, { stream: id, mine: true });
    this.socket.on("goal", (event) => goals.take(event));
    this.socket.on("welcome", () => goals.refresh()); // news may have been missed
    goals.refresh();
  }

  #over() {
    this.setup.drop();
    document.body.classList.remove("on-air");
    show(byId("studio"), false);
    show(byId("stage"), false);
    show(byId("over"), true);
    byId("over-title").focus();
  }
}

if (session) new LivePage();
else leaveForLogIn();

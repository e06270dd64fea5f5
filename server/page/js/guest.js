/** The guest's side of a one-to-one: asks for it with the camera already tried, and publishes once it is accepted. */

import { busy, byId, show } from "./dom.js";
import { complain, notice } from "./notices.js";
import { openSource, stopSource } from "./sources.js";
import { Terms } from "./one_to_one_terms.js";
import { MoreTime } from "./more_time.js";
import { Turn } from "./turn.js";
import { Publishing } from "./whip.js";

const PREVIEWS = ["ask-preview", "turn-preview", "self"];

export class Guest {
  /** @type {MediaStream|null} */ media = null;
  /** @type {Publishing|null} */ #publishing = null;
  #isWanted = false;
  #opening = Promise.resolve();
  #dialog = byId("ask-dialog");
  #form = byId("ask-form");

  /** @param {import("./socket.js").Socket} socket @param {string} stream @param {(position: null) => void} asked */
  constructor(socket, stream, asked) {
    this.socket = socket;
    this.stream = stream;
    this.asked = asked;
    this.terms = new Terms(stream);
    this.turn = new Turn(socket, stream, () => this.#openCamera());
    this.moreTime = new MoreTime(socket, stream);
    socket.on("one_to_one.offer", (event) => event.stream === stream && this.#dialog.open && this.#load());
    byId("ask").addEventListener("click", () => this.#open());
    byId("ask-cancel").addEventListener("click", () => this.#dialog.close("cancel"));
    byId("take-back").addEventListener("click", () =>
      busy(byId("take-back"), () => socket.request("cancel_one_to_one", { stream }).catch((error) => complain(error))));
    byId("call-join").addEventListener("click", () => busy(byId("call-join"), () => this.#joinLate()));
    this.#form.elements.source.forEach((choice) => choice.addEventListener("change", () => (this.#opening = this.#preview())));
    this.#form.addEventListener("submit", (event) => this.#send(event));
    this.#dialog.addEventListener("close", () => this.#dialog.returnValue !== "sent" && this.#drop());
  }

  /** Follow the model: publish while there is a call, and let the camera go when there is neither call nor request. */
  follow({ call, asked, ended }) {
    this.turn.show(asked?.comeBy ?? null, this.terms.streamer);
    this.moreTime.show(call);
    this.#isWanted = ended === null && (call !== null || asked !== null);
    show(byId("self"), call !== null && this.media !== null);
    show(byId("call-join"), call !== null && this.media === null);
    if (call && this.media && !this.#publishing) this.#publish();
    if (call || ended === null && (asked || this.#dialog.open)) return;
    this.#publishing?.stop();
    this.#publishing = null;
    this.#drop();
  }

  async #open() {
    byId("ask-fault").hidden = true;
    this.#dialog.returnValue = "";
    byId("ask-send").disabled = true; // until it is known what it costs
    this.#dialog.showModal();
    this.#opening = this.#preview();
    await Promise.all([this.#load(), this.#opening]);
  }

  async #load() {
    try {
      await this.terms.load();
      byId("ask-send").disabled = false;
    } catch (error) {
      await this.terms.explain(error);
    }
  }

  async #preview() {
    const fault = byId("ask-fault");
    show(fault, false);
    this.#drop();
    try {
      const media = await openSource({ source: this.#form.elements.source.value, title: "Guest" });
      if (!this.#dialog.open) return stopSource(media);
      this.#take(media);
    } catch (error) {
      fault.textContent = error.message;
      show(fault, true);
    }
    return undefined;
  }

  async #send(event) {
    event.preventDefault();
    const minutes = Number(this.#form.elements.minutes.value);
    await busy(byId("ask-send"), async () => {
      await this.#opening; // a camera may take a while to start
      if (!this.media) return undefined; // why is said already
      show(byId("ask-fault"), false);
      show(byId("ask-help"), false);
      try {
        if (this.terms.asked) await this.terms.order();
        else await this.socket.request("request_one_to_one", { stream: this.stream, seconds: minutes ? minutes * 60 : null });
        this.#dialog.close("sent");
        notice("Your request is with the streamer. Your camera is seen by nobody until it is accepted.", { key: "ask" });
      } catch (error) {
        if (error.code === "request_exists") {
          this.asked(null);
          return this.#dialog.close("sent");
        }
        if (error.code === "payment_required") await this.#load(); // it was free when the dialog opened
        return this.terms.explain(error);
      }
      return undefined;
    });
  }

  /** After a reload it is off. */
  async #openCamera() {
    if (this.media) return;
    const media = await openSource({ source: this.#form.elements.source.value, title: "Guest" });
    if (this.media || !this.#isWanted) stopSource(media); // what it was opened for is over
    else this.#take(media);
  }

  async #joinLate() {
    try {
      await this.#openCamera();
      if (!this.media) return;
      show(byId("self"), true);
      show(byId("call-join"), false);
      this.#publish();
    } catch (error) {
      complain(error);
    }
  }

  #publish() {
    this.#publishing = new Publishing(this.stream, this.media, { hasLayers: false });
    this.#publishing.addEventListener("state", ({ detail }) => detail.state === "refused" && complain(detail.problem, "Your picture can't be sent"));
    this.#publishing.start();
  }

  #take(media) {
    this.media = media;
    for (const id of PREVIEWS) {
      byId(id).srcObject = media;
      byId(id).play().catch(() => {});
    }
  }

  #drop() {
    stopSource(this.media);
    this.media = null;
    for (const id of PREVIEWS) byId(id).srcObject = null;
  }
}

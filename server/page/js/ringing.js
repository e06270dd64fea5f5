/** Rings on every page while somebody calls, and asks whether to answer. */

import { ask } from "./api.js";
import { isNews } from "./call_versions.js";
import { busy, make } from "./dom.js";
import { complain } from "./notices.js";

const AGAIN_MS = 3000;

/** What this window is called when it answers; the same after it was loaded anew. */
export function thisDevice() {
  const known = sessionStorage.getItem("mesi.device") ?? crypto.getRandomValues(new Uint32Array(4)).join("-");
  sessionStorage.setItem("mesi.device", known);
  return known;
}

export class Ringing {
  /** @type {Map<string, HTMLElement>} */ #shown = new Map();
  /** @type {(call: any, withVideo: boolean) => void} */ answers = (call) =>
    location.assign(`/messages?c=${encodeURIComponent(call.conversation)}`);
  /** @type {(call: any) => void} */ hears = () => {};
  #timer = 0;

  /** @param {import("./socket.js").Socket} socket @param {string} me */
  constructor(socket, me) {
    this.me = me;
    socket.on("call", ({ call }) => this.take(call));
    socket.on("welcome", ({ resumed }) => resumed || this.look());
    socket.on("gap", () => this.look());
  }

  /** Ask which calls there are: those that have gone are over. */
  async look() {
    try {
      const { calls } = await ask("GET", "/me/calls");
      for (const id of this.#shown.keys()) if (!calls.some((each) => each.id === id)) this.#hush(id);
      for (const call of calls) this.take(call);
    } catch {
      return; // the next connection asks again
    }
  }

  take(call) {
    if (!isNews(call)) return;
    const mine = call.parties.find(({ account }) => account.id === this.me);
    if (call.state !== "ended" && mine?.stage === "rung") this.#ring(call);
    else this.#hush(call.id);
    this.hears(call);
  }

  #ring(call) {
    if (this.#shown.has(call.id)) return;
    const title = make("h2", { id: `ringing-${call.id}` }, `${call.caller.name} is calling`);
    const what = make("p", { class: "soft" }, `${call.kind === "group" ? "In a group, " : ""}${call.video ? "with picture" : "without picture"}`);
    const button = (label, kind, run) => {
      const made = make("button", { type: "button", class: kind, onclick: () => busy(made, run) }, label);
      return made;
    };
    const answer = (withVideo) => async () => {
      this.#hush(call.id);
      this.answers(call, withVideo);
    };
    const element = make("div", { class: "ringing panel", role: "alertdialog", "aria-labelledby": title.id }, title, what,
      make("div", { class: "row" }, button("Answer", "strong answer", answer(false)), call.video ? button("With my camera", "answer-video", answer(true)) : null, button("Decline", "danger decline", () => this.#decline(call))));
    this.#shown.set(call.id, element);
    document.body.prepend(element);
    if (document.activeElement === document.body || document.activeElement === null) element.querySelector("button").focus();
    this.#sound();
  }

  async #decline(call) {
    this.#hush(call.id);
    await ask("POST", `/calls/${encodeURIComponent(call.id)}/decline`).catch(complain);
  }

  #hush(id) {
    this.#shown.get(id)?.remove();
    this.#shown.delete(id);
    if (!this.#shown.size) clearInterval(this.#timer);
  }

  #sound() {
    clearInterval(this.#timer);
    const ring = () => {
      const sound = new AudioContext();
      const gain = new GainNode(sound, { gain: 0.05 });
      gain.connect(sound.destination);
      for (const [start, frequency] of [[0, 660], [0.25, 880], [0.5, 660]]) {
        const tone = new OscillatorNode(sound, { frequency });
        tone.connect(gain);
        tone.start(sound.currentTime + start);
        tone.stop(sound.currentTime + start + 0.2);
        if (start === 0.5) tone.onended = () => sound.close();
      }
    };
    ring();
    this.#timer = setInterval(ring, AGAIN_MS);
  }
}

/** The bar of a one-to-one, the same for both sides: its phase, the time left, microphone, camera, hanging up. */

import { countDown, timeOfDay } from "./clock.js";
import { busy, byId, say, show } from "./dom.js";
import { complain } from "./notices.js";
import { followSpeaking } from "./speaking.js";

const PHASES = {
  setup: "One-to-one: both sides connect. It begins when both can see and hear each other.",
  running: "One-to-one: only the two of you see and hear this.",
  paused: "One-to-one: a connection is lost, the clock stands still. It ends unless both are back.",
};

export class CallBar {
  /** @param {import("./socket.js").Socket} socket @param {string} stream @param {string} me */
  constructor(socket, stream, me) {
    this.media = null;
    followSpeaking(socket, stream, me);
    byId("call-microphone").addEventListener("click", () => this.#toggle("audio"));
    byId("call-camera").addEventListener("click", () => this.#toggle("video"));
    byId("call-end").addEventListener("click", () =>
      busy(byId("call-end"), () => socket.request("end_one_to_one", { stream }).catch((error) => complain(error))));
  }

  /**
   * @param {{phase: "setup"|"running"|"paused", endsAt: number|null}|null} call
   * @param {MediaStream|null} media the own picture and sound
   */
  show(call, media) {
    this.media = media;
    show(byId("call-bar"), call !== null);
    if (call?.phase !== "running") say(byId("call-speaking"), "");
    if (call === null) return;
    say(byId("call-phase"), call.phase === "running" && call.endsAt ? `${PHASES.running} It ends at ${timeOfDay(call.endsAt)}, in` : PHASES[call.phase]);
    countDown(byId("call-time"), call.endsAt);
    this.#label();
  }

  #toggle(kind) {
    for (const track of this.#tracks(kind)) track.enabled = !track.enabled;
    this.#label();
  }

  #tracks(kind) {
    return this.media?.getTracks().filter((track) => track.kind === kind) ?? [];
  }

  #label() {
    for (const [id, kind] of [["call-microphone", "audio"], ["call-camera", "video"]]) {
      const tracks = this.#tracks(kind);
      show(byId(id), tracks.length > 0);
      byId(id).setAttribute("aria-pressed", String(tracks.some((track) => track.enabled)));
    }
  }
}

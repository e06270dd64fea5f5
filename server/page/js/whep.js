/** Watches a stream over WHEP, and goes on trying for as long as that makes sense. */

import { Problem, authorization, send } from "./api.js";
import { endpointOf, newConnection, openMediaSession } from "./media_session.js";

const WAITS_MS = [300, 600, 1200, 2500, 5000];
const SETTLED_MS = 500;
const TELLING = 0.1; // a share by which another height is worth telling
const MOST_PIXELS = 16384; // that the server takes
/** Codes that trying again does not change; who is let in again starts again. */
export const FINAL = new Set([
  "ticket_required", "payment_pending", "ticket_revoked", "not_entitled", "kyf_required", "suspended", "ejected",
  "one_to_one_running", "stream_ended", "stream_unknown", "no_session", "no_common_codec", "unsupported_offer",
  "not_in_call", "call_ended", "call_unknown",
]);

/**
 * Tells "state" (detail: {state, problem}) with "connecting", "watching", "waiting" (nobody publishes yet) and
 * "refused". `media` is one MediaStream for good, so that a reconnection does not disturb who shows it.
 */
export class Viewing extends EventTarget {
  media = new MediaStream();
  /** @type {RTCPeerConnection|null} */ connection = null;
  #endpoint;
  #running = 0; // the turn that goes on; 0 for none
  #turns = 0;
  #wake = () => {};
  #end = () => {};
  #quality = "automatic";
  #height = 0; // of the place where the picture is shown, in its pixels; 0 while that is not known
  #settling = 0;
  /** @type {URL|null} */ #address = null; // of the session

  /** @param {string} stream @param {string} [endpoint] where, if not a stream */
  constructor(stream, endpoint = endpointOf("whep", stream)) {
    super();
    this.#endpoint = endpoint;
  }

  get isOn() {
    return this.#running !== 0;
  }

  /** The picture to get of those that are published. @param {"automatic"|"medium"|"low"} quality */
  set quality(quality) {
    this.#quality = quality;
    this.#wish();
  }

  /** How high the picture is shown: nothing larger need come. @param {number} height in the screen's pixels */
  set height(height) {
    if (!height || Math.abs(height - this.#height) < TELLING * this.#height) return;
    this.#height = Math.min(Math.ceil(height), MOST_PIXELS);
    clearTimeout(this.#settling); // a window is dragged through many sizes
    this.#settling = setTimeout(() => this.#wish(), SETTLED_MS);
  }

  async #wish() {
    if (!this.#address) return;
    const encodingId = this.#quality === "automatic" ? undefined : this.#quality;
    const body = JSON.stringify({ encodingId, maxHeight: this.#height || undefined });
    const headers = { ...authorization(), "Content-Type": "application/json" };
    // A session that has just ended wishes for nothing; the next one asks by itself.
    await send(`${this.#address.href}/layer`, { method: "POST", headers, body }).catch(() => {});
  }

  /** Begin, or try again at once. */
  start() {
    if (this.#running) this.#wake();
    else this.#run((this.#running = ++this.#turns));
  }

  stop() {
    this.#running = 0;
    this.#wake();
    this.#end();
    this.#empty();
  }

  async #run(turn) {
    for (let tries = 0; this.#running === turn; tries++) {
      let wait = WAITS_MS[Math.min(tries, WAITS_MS.length - 1)];
      try {
        if (await this.#watchOnce(turn)) [tries, wait] = [0, WAITS_MS[0]];
      } catch (error) {
        if (this.#running !== turn) return;
        if (error instanceof Problem && FINAL.has(error.code)) {
          this.#running = 0;
          return this.#say("refused", error);
        }
        if (error.code === "no_publisher") tries = 0;
        this.#say(error.code === "no_publisher" ? "waiting" : "connecting", error);
        wait = error.retryAfterMs ?? wait;
      }
      if (this.#running === turn) await this.#pause(wait);
    }
  }

  /** @returns {Promise<boolean>} whether media came through before it was over */
  async #watchOnce(turn) {
    this.#say("connecting");
    const connection = await newConnection();
    connection.ontrack = ({ track }) => this.#running === turn && this.#add(track);
    connection.addTransceiver("audio", { direction: "recvonly" });
    connection.addTransceiver("video", { direction: "recvonly" });
    const session = await openMediaSession(this.#endpoint, connection);
    if (this.#running !== turn) {
      session.close();
      return false;
    }
    this.connection = connection;
    this.#address = session.address;
    if (this.#quality !== "automatic" || this.#height) this.#wish();
    const stopped = new Promise((resolve) => (this.#end = resolve));
    session.connected.then((yes) => yes && this.#running === turn && this.#say("watching"));
    try {
      await Promise.race([session.over, stopped]);
      return await Promise.race([session.connected, false]);
    } finally {
      session.close();
      if (this.connection === connection) {
        this.connection = this.#address = null;
        this.#empty();
      }
    }
  }

  #add(track) {
    for (const former of this.media.getTracks()) if (former.kind === track.kind) this.media.removeTrack(former);
    this.media.addTrack(track);
    this.dispatchEvent(new CustomEvent("track"));
  }

  #empty() {
    for (const track of this.media.getTracks()) this.media.removeTrack(track);
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #say(state, problem = null) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, problem } }));
  }
}

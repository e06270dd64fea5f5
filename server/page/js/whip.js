/** Publishes a MediaStream over WHIP, and comes back by itself after a lost network. */

import { Problem, ask } from "./api.js";
import { endpointOf, newConnection, openMediaSession } from "./media_session.js";

const WAITS_MS = [300, 1000, 2000, 4000, 8000];
const NAMES = ["q", "h", "f"]; // of layers, the least first
const LESSER_BPS = [150_000, 500_000]; // at which a quarter and half of a picture's sides still look well
// Chromium sends so many layers of pictures so large, whatever is asked for, and leaves out the last of the others.
const PIXELS_FOR = [0, 480 * 270, 960 * 540];
const LAYERED_CODECS = new Set(["VP8", "H264"]); // of others the server takes one encoding
const FINAL = new Set(["not_the_owner", "stream_ended", "stream_unknown", "no_session", "unsupported_offer", "not_in_call", "call_ended", "call_unknown"]);

/** The codecs that this browser can send, in the order in which they are offered by themselves. */
export function videoCodecs() {
  const known = RTCRtpSender.getCapabilities("video")?.codecs.map((codec) => codec.mimeType.slice("video/".length)) ?? [];
  return ["VP8", "VP9", "H264", "AV1"].filter((name) => known.includes(name));
}

/**
 * Tells "state" (detail: {state, problem}) with "connecting", "publishing", "taken_over" (another device publishes)
 * and "refused".
 */
export class Publishing extends EventTarget {
  /** @type {RTCPeerConnection|null} */ connection = null;
  #stream;
  #media;
  #codec;
  #maxBitrate;
  #hasLayers;
  #endpoint;
  #running = 0; // the turn that goes on; 0 for none
  #turns = 0;
  #end = () => {};

  /**
   * @param {string} stream
   * @param {MediaStream} media
   * @param {{codec?: string, maxBitrate?: number, hasLayers?: boolean, endpoint?: string}} [how] bitrate of the picture in
   *   bit/s, whether lesser ones are published with it, and where, if not to a stream
   */
  constructor(stream, media, { codec = "VP8", maxBitrate = 2_500_000, hasLayers = true, endpoint = endpointOf("whip", stream) } = {}) {
    super();
    this.#stream = stream;
    this.#media = media;
    this.#codec = codec;
    this.#maxBitrate = maxBitrate;
    this.#endpoint = endpoint;
    this.#hasLayers = hasLayers && LAYERED_CODECS.has(codec);
  }

  start() {
    if (!this.#running) this.#run((this.#running = ++this.#turns));
  }

  stop() {
    this.#running = 0;
    this.#end();
  }

  /** Send other tracks from now on; no new negotiation. @param {MediaStream} media */
  async replace(media) {
    this.#media = media;
    for (const { sender } of this.connection?.getTransceivers() ?? []) {
      const track = media.getTracks().find((candidate) => candidate.kind === (sender.track?.kind ?? ""));
      if (!track) continue;
      await sender.replaceTrack(track);
      if (track.kind === "video" && this.#hasLayers) await this.#fit(sender, track);
    }
  }

  async #run(turn) {
    for (let tries = 0; this.#running === turn; tries++) {
      let why = "failed";
      try {
        const [connected, over] = await this.#publishOnce(turn);
        why = over;
        if (connected) tries = 0;
      } catch (error) {
        if (this.#running !== turn) return;
        if (error instanceof Problem && FINAL.has(error.code)) return this.#give("refused", error);
        this.#say("connecting", error);
      }
      if (this.#running !== turn) return;
      await new Promise((resolve) => setTimeout(resolve, WAITS_MS[Math.min(tries, WAITS_MS.length - 1)]));
      // Two devices that both came back by themselves would take over from each other for ever.
      if (why === "closed" && this.#running === turn && (await this.#isPublishedElsewhere())) return this.#give("taken_over");
    }
  }

  async #publishOnce(turn) {
    this.#say("connecting");
    const connection = await newConnection();
    for (const track of this.#media.getTracks()) this.#send(connection, track);
    const session = await openMediaSession(this.#endpoint, connection);
    if (this.#running !== turn) {
      session.close();
      return [false, "failed"];
    }
    this.connection = connection;
    const stopped = new Promise((resolve) => (this.#end = () => resolve("stopped")));
    session.connected.then((yes) => yes && this.#running === turn && this.#say("publishing"));
    try {
      const over = await Promise.race([session.over, stopped]);
      return [await Promise.race([session.connected, false]), over];
    } finally {
      session.close();
      if (this.connection === connection) this.connection = null;
    }
  }

  #send(connection, track) {
    const encodings = track.kind !== "video" ? undefined : this.#hasLayers ? this.#encodings(track) : [{ maxBitrate: this.#maxBitrate }];
    const transceiver = connection.addTransceiver(track, { direction: "sendonly", streams: [this.#media], ...(encodings && { sendEncodings: encodings }) });
    if (track.kind !== "video" || !transceiver.setCodecPreferences) return;
    const known = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
    const first = (codec) => codec.mimeType.toUpperCase() === `VIDEO/${this.#codec}`;
    transceiver.setCodecPreferences([...known.filter(first), ...known.filter((codec) => !first(codec))]);
  }

  /** What is to be sent of a picture: itself last, and before it lesser ones, so that viewers get what they can. */
  #encodings(track) {
    const { width = 1280, height = 720 } = track.getSettings();
    const count = PIXELS_FOR.filter((pixels) => width * height >= pixels).length;
    const lesser = LESSER_BPS.slice(PIXELS_FOR.length - count).filter((rate) => rate < this.#maxBitrate);
    const rates = [...lesser, this.#maxBitrate];
    return NAMES.map((rid, place) => ({
      rid,
      active: place < rates.length,
      scaleResolutionDownBy: 2 ** Math.max(rates.length - 1 - place, 0),
      maxBitrate: rates[place] ?? this.#maxBitrate,
    }));
  }

  async #fit(sender, track) {
    const parameters = sender.getParameters();
    if (parameters.encodings?.length !== NAMES.length) return;
    for (const [place, { rid, ...encoding }] of this.#encodings(track).entries()) Object.assign(parameters.encodings[place], encoding);
    await sender.setParameters(parameters);
  }

  async #isPublishedElsewhere() {
    if (!this.#stream) return false;
    try {
      const { card } = await ask("GET", `/streams/${encodeURIComponent(this.#stream)}`);
      return card.state === "live" || card.state === "one_to_one";
    } catch {
      return false; // the next attempt says what is wrong
    }
  }

  #give(state, problem = null) {
    this.#running = 0;
    this.#say(state, problem);
  }

  #say(state, problem = null) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, problem } }));
  }
}

/** Watches a stream over WebRTC or over WebTransport: which first is a setting, the other is there when it fails. */

import { MoqViewing, canWatchOverWebTransport } from "./moq_viewing.js";
import { Viewing } from "./whep.js";

const KEY = "mesi.way";
const QUALITY_KEY = "mesi.quality";
export const QUALITIES = ["automatic", "medium", "low"];
const PATIENCE_MS = 10_000; // for WebRTC to connect; beyond it a path for UDP is hardly found any more
const AGAIN_MS = 3000; // when no way works
const UNPLAYABLE = new Set(["no_common_codec", "unsupported_offer"]);

/** @typedef {"automatic"|"webtransport"|"webrtc"} Choice */

/**
 * What is tried, in this order. By itself WebRTC comes first: it is quicker, a bad network costs it less, and every
 * browser has it. In Chromium on 2026-11-24, on a cloud VM with two cores, all over loopback, the picture was shown so
 * long after it was taken (median; `python -m tests.browser.measure_ways`): 28 ms over WebRTC and 57 ms over
 * WebTransport; with 2 % of the datagrams lost and 20 to 30 ms each way 58 and 141 ms; with 8 % and 40 to 60 ms 82 ms
 * and a second, since a stream waits for what was lost. WebTransport showed more of the frames then: 174 against 107.
 * @type {Record<Choice, ("webrtc"|"webtransport")[]>}
 */
const ORDERS = {
  automatic: ["webrtc", "webtransport"],
  webtransport: ["webtransport", "webrtc"],
  webrtc: ["webrtc"],
};

/**
 * Looks like a Viewing; tells "way" besides, when `way` or `choice` has changed, and "beside" when somebody beside the
 * streamer comes or goes over WebTransport.
 */
export class ViewingWays extends EventTarget {
  #ways;
  #height;
  #way = null;
  #isOn = false;
  #talks = false;
  #failed = new Set();
  #timer = 0;

  /** @param {string} stream @param {() => number} height of the place where the picture is shown, in its pixels */
  constructor(stream, height) {
    super();
    this.#ways = { webrtc: new Viewing(stream), webtransport: new MoqViewing(stream, height) };
    this.#ways.webrtc.quality = this.quality;
    this.#height = height;
    for (const [name, viewing] of Object.entries(this.#ways)) {
      viewing.addEventListener("state", ({ detail }) => name === this.#way && this.#follow(detail));
      viewing.addEventListener("track", () => name === this.#way && this.dispatchEvent(new CustomEvent("track")));
      viewing.addEventListener("beside", () => this.dispatchEvent(new CustomEvent("beside")));
      viewing.addEventListener("unfit", () => name === this.#way && this.#fail());
    }
    addEventListener("online", () => this.#failed.clear()); // another network may let through what this one did not
  }

  /** The place where the picture is shown has another size. */
  resized() {
    this.#ways.webrtc.height = this.#height();
  }

  /** @returns {"webrtc"|"webtransport"|null} over which it plays, or tries to */
  get way() {
    return this.#way;
  }

  /** What somebody beside the streamer sends over WebTransport, null for nothing. @param {string} account */
  beside(account) {
    return this.#ways.webtransport.beside(account);
  }

  /** @returns {Choice} */
  get choice() {
    const kept = localStorage.getItem(KEY);
    return kept !== null && kept in ORDERS ? /** @type {Choice} */ (kept) : "automatic";
  }

  set choice(choice) {
    localStorage.setItem(KEY, choice);
    this.#failed.clear();
    this.#reconsider();
    this.#tell();
  }

  /** @returns {string} one of QUALITIES; over WebTransport the player chooses by itself */
  get quality() {
    const kept = localStorage.getItem(QUALITY_KEY) ?? "";
    return QUALITIES.includes(kept) ? kept : "automatic";
  }

  set quality(quality) {
    localStorage.setItem(QUALITY_KEY, quality);
    this.#ways.webrtc.quality = quality;
  }

  /** Who talks with the streamer does it over WebRTC, which waits for nothing. @param {boolean} yes */
  set talks(yes) {
    if (yes === this.#talks) return;
    this.#talks = yes;
    this.#reconsider();
  }

  get isOn() {
    return this.#isOn;
  }

  get media() {
    return this.#ways[this.#way ?? "webrtc"].media;
  }

  start() {
    this.#isOn = true;
    if (this.#way === null) this.#use(this.#best());
    else this.#ways[this.#way].start();
  }

  stop() {
    this.#isOn = false;
    this.#use(null);
  }

  /** The first way that this browser has and that has not failed. */
  #best() {
    const order = this.#talks ? ORDERS.webrtc : ORDERS[this.choice];
    const possible = order.filter((way) => way === "webrtc" || canWatchOverWebTransport());
    return possible.find((way) => !this.#failed.has(way)) ?? null;
  }

  #reconsider() {
    if (this.#isOn && this.#best() !== this.#way) this.#use(this.#best());
  }

  #use(way) {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.#way !== null) this.#ways[this.#way].stop();
    this.#way = way;
    if (way !== null) this.#ways[way].start();
    this.#tell();
  }

  #follow(detail) {
    const isUnsure = this.#way === "webrtc" && detail.state === "connecting";
    if (!isUnsure) {
      clearTimeout(this.#timer);
      this.#timer = 0;
    } else if (!this.#timer) this.#timer = setTimeout(() => this.#fail(), PATIENCE_MS);
    if (detail.state === "refused" && UNPLAYABLE.has(detail.problem.code) && this.#goOnOtherwise()) return;
    this.dispatchEvent(new CustomEvent("state", { detail }));
  }

  #goOnOtherwise() {
    this.#failed.add(this.#way);
    const other = this.#best();
    if (other !== null) this.#use(other);
    return other !== null;
  }

  #fail() {
    if (this.#goOnOtherwise()) return undefined;
    this.#failed.clear();
    if (this.#best() === this.#way && this.#ways[this.#way].isOn) return undefined; // it goes on trying by itself
    this.#use(null);
    this.#timer = setTimeout(() => this.#isOn && this.#use(this.#best()), AGAIN_MS);
    return undefined;
  }

  #tell() {
    this.dispatchEvent(new CustomEvent("way"));
  }
}

/** Watches a stream over WebTransport: the same face as whep.js has, and a word when it can't be done this way. */

import { Problem, send } from "./api.js";
import { current } from "./identity.js";
import { bytesOf } from "./moq_catalog.js";
import { Playback } from "./moq_playback.js";
import { MoqSession, hasWebTransport } from "./moq_session.js";
import { FINAL } from "./whep.js";

const OPEN_MS = 3000; // a handshake takes four ways through the net; where UDP is blocked nothing ever comes
const FIRST_FRAME_MS = 5000; // from the announcement on; the publisher is asked for a keyframe meanwhile
const AGAIN_MS = 300;
const LASTING_MS = 10_000; // what held so long was no mishap of this way's
const MAX_LOSSES = 2; // of sessions that did not hold so long
/** Whether this browser has what it takes; which codecs it has shows with the stream's catalog. */
export function canWatchOverWebTransport() {
  return hasWebTransport() && typeof VideoDecoder === "function" && typeof AudioDecoder === "function";
}

const HOST = "host:"; // begins the names of those who are live beside the streamer

/** Tells "state" as Viewing does, "track", "beside" when somebody beside the streamer comes or goes, and "unfit" (detail: why) when another way should be tried. */
export class MoqViewing extends EventTarget {
  media = new MediaStream();
  /** @type {Map<string, Playback>} those who are live beside the streamer, by account */ #beside = new Map();
  #stream;
  #height;
  #running = 0;
  #turns = 0;
  #wake = () => {};
  #end = () => {};

  /** @param {string} stream @param {() => number} height of the place where the picture is shown, in its pixels */
  constructor(stream, height) {
    super();
    this.#stream = stream;
    this.#height = height;
  }

  get isOn() {
    return this.#running !== 0;
  }

  start() {
    if (this.#running) this.#wake();
    else this.#run((this.#running = ++this.#turns));
  }

  stop() {
    this.#running = 0;
    this.#wake();
    this.#end();
  }

  async #run(turn) {
    for (let losses = 0; this.#running === turn; ) {
      const began = performance.now();
      try {
        await this.#watchOnce(turn);
        losses = performance.now() - began > LASTING_MS ? 0 : losses + 1;
        if (losses > MAX_LOSSES) throw new Error("the connection does not hold");
      } catch (error) {
        if (this.#running !== turn) return;
        this.#running = 0;
        if (error instanceof Problem && FINAL.has(error.code)) this.#say("refused", error);
        else this.dispatchEvent(new CustomEvent("unfit", { detail: error }));
        return;
      }
      if (this.#running === turn) await this.#pause(AGAIN_MS);
    }
  }

  /** Returns when the connection was lost after it held; throws when it can't be had, or the server ended it. */
  async #watchOnce(turn) {
    this.#say("connecting");
    const session = await openSession(this.#stream);
    const stopped = new Promise((resolve) => (this.#end = resolve));
    if (this.#running !== turn) return session.close();
    let playback = null;
    const over = new Promise((_, reject) => {
      const follow = (name, isThere) => {
        if (name.startsWith(HOST)) this.#followBeside(session, name, isThere && this.#running === turn);
        if (name !== "") return;
        playback?.end();
        playback = isThere && this.#running === turn ? this.#play(session, turn, reject) : null;
        if (playback === null && this.#running === turn) this.#say("waiting");
      };
      session.announcements(this.#stream, follow).catch(() => {}); // as `closed` tells
    });
    try {
      const how = await Promise.race([session.closed, stopped, over]);
      if (how?.reason && this.#running === turn) throw problemOf(how);
    } finally {
      this.#end = () => {};
      playback?.end();
      for (const name of [...this.#beside.keys()]) this.#followBeside(session, `${HOST}${name}`, false);
      session.close();
    }
    return undefined;
  }

  /** What somebody beside the streamer sends, null while nothing comes. @param {string} account */
  beside(account) {
    return this.#beside.get(account)?.media ?? null;
  }

  #followBeside(session, name, isThere) {
    const account = name.slice(HOST.length);
    this.#beside.get(account)?.end();
    this.#beside.delete(account);
    if (isThere) {
      const playback = new Playback(session, `${this.#stream}/${name}`, new MediaStream(), this.#height);
      playback.addEventListener("track", () => this.dispatchEvent(new CustomEvent("beside")));
      this.#beside.set(account, playback);
    }
    this.dispatchEvent(new CustomEvent("beside"));
  }

  #play(session, turn, giveUp) {
    const playback = new Playback(session, this.#stream, this.media, this.#height);
    const patience = setTimeout(() => giveUp(new Error("no picture comes")), FIRST_FRAME_MS);
    const watching = () => {
      clearTimeout(patience);
      if (this.#running === turn) this.#say("watching");
    };
    playback.addEventListener("shown", watching, { once: true });
    playback.addEventListener("track", () => {
      this.dispatchEvent(new CustomEvent("track"));
      if (this.media.getVideoTracks().length === 0) watching(); // sound alone is all there is, so far
    });
    playback.addEventListener("fault", (event) => giveUp(/** @type {CustomEvent} */ (event).detail));
    return playback;
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

/** The port and the certificate are asked for each time: both may be others after the server's restart. */
async function openSession(stream) {
  const answer = await send("/certificate.sha256", {});
  const port = answer.headers.get("Quic-Port") ?? location.port;
  const hash = bytesOf((await answer.text()).trim());
  const token = encodeURIComponent(current()?.token ?? "");
  const address = `https://${location.hostname}:${port}/moq/${encodeURIComponent(stream)}?jwt=${token}`;
  return inTime(OPEN_MS, new MoqSession(address, hash));
}

/** The server's reason begins with the code, as in "ticket_required: This needs a ticket." */
function problemOf({ closeCode, reason }) {
  const [code, title = ""] = reason.split(": ");
  return new Problem({ code, title }, closeCode);
}

/** Throws when a session is not ready in time, and leaves none behind. */
async function inTime(ms, session) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("no connection in time")), ms)));
  try {
    await Promise.race([session.ready, late]);
  } catch (error) {
    session.close();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return session;
}

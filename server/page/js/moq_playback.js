/** Plays one broadcast of a session: its catalog, its sound and its picture, into a MediaStream. */

import { choose, unwrapped } from "./moq_catalog.js";
import { Picture } from "./moq_picture.js";
import { Sound } from "./moq_sound.js";
import { GroupOrder, PlayoutClock } from "./playout.js";

const CATALOG_PRIORITY = 100; // what is small and needed first, as players of the ecosystem ask for it
const AUDIO_PRIORITY = 80;
const VIDEO_PRIORITY = 60;
const MAX_LATENCY_MS = 1000; // a group that was overtaken so long ago is not finished: nobody would wait for it
const LOOK_MS = 2000; // between two looks at how it goes
const TOO_MANY_SKIPPED = 2; // groups of the picture in that time, before a smaller one is asked for

/** Tells "track" (a track of the MediaStream is new), "shown" (a frame is) and "fault" (detail: why it can't go on). */
export class Playback extends EventTarget {
  #clock = new PlayoutClock();
  #playing = { audio: null, video: null };
  #catalog = null;
  #ceiling = Infinity;
  #timer = setInterval(() => this.#look(), LOOK_MS);
  #ended = false;
  #forget;

  /**
   * @param {import("./moq_session.js").MoqSession} session
   * @param {string} path
   * @param {MediaStream} media
   * @param {() => number} height of the place where the picture is shown
   */
  constructor(session, path, media, height) {
    super();
    this.session = session;
    this.path = path;
    this.media = media;
    this.height = height;
    this.#forget = this.#follow("catalog.json", CATALOG_PRIORITY, new GroupOrder((frame) => this.#read(frame), () => true));
  }

  end() {
    this.#ended = true;
    this.#forget();
    clearInterval(this.#timer);
    for (const kind of ["audio", "video"]) this.#stop(kind);
  }

  /** What was lost by being late, and how long after the fastest arrival things are shown (ms). */
  get measures() {
    return { delay: this.#clock.delay, skipped: this.#playing.video?.order.skipped ?? 0 };
  }

  /** Subscribe to a track, whose frames go through `order`. @returns {() => void} what ends it */
  #follow(track, priority, order, arrived = (_frame) => {}) {
    const wish = { path: this.path, track, priority, maxLatencyMs: MAX_LATENCY_MS };
    const end = this.session.subscribe(wish, (sequence, frames) => order.add(sequence, frames, arrived));
    return () => {
      end();
      order.end();
    };
  }

  async #read(frame) {
    try {
      this.#catalog = JSON.parse(new TextDecoder().decode(frame));
      await this.#choose();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #choose() {
    const chosen = await choose(this.#catalog, this.height(), this.#ceiling);
    if (this.#ended) return;
    for (const kind of ["audio", "video"]) this.#play(kind, chosen[kind]);
  }

  #play(kind, rendition) {
    const same = JSON.stringify(rendition) === JSON.stringify(this.#playing[kind]?.rendition ?? null);
    if (same) return;
    this.#stop(kind);
    if (rendition === null) return;
    this.#clock.joins();
    const isVideo = kind === "video";
    const output = isVideo
      ? new Picture(this.#clock, () => this.#tell("shown"))
      : new Sound(this.#clock, rendition.config.sampleRate);
    output.configure(rendition.config, (error) => this.#fail(error));
    const take = (frame, isFirst) => {
      const { timestamp, data } = unwrapped(frame);
      output.decode(data, timestamp, isFirst);
    };
    const isDue = (frame) => this.#clock.due(unwrapped(frame).timestamp / 1000) <= performance.now();
    const arrived = (frame) => this.#clock.arrived(unwrapped(frame).timestamp / 1000);
    const order = new GroupOrder(take, isDue);
    const end = this.#follow(rendition.track, isVideo ? VIDEO_PRIORITY : AUDIO_PRIORITY, order, arrived);
    this.#playing[kind] = { rendition, output, order, end };
    this.media.addTrack(output.track);
    this.#tell("track");
  }

  #stop(kind) {
    const playing = this.#playing[kind];
    this.#playing[kind] = null;
    if (playing === null) return;
    playing.end();
    this.media.removeTrack(playing.output.track);
    playing.output.end();
  }

  /** Where the picture does not keep up, a smaller one may. */
  #look() {
    const playing = this.#playing.video;
    if (playing === null) return;
    const skipped = playing.order.skipped;
    playing.order.skipped = 0;
    if (skipped < TOO_MANY_SKIPPED || !playing.rendition.height) return;
    this.#ceiling = playing.rendition.height;
    this.#choose().catch((error) => this.#fail(error));
  }

  #fail(error) {
    if (!this.#ended) this.dispatchEvent(new CustomEvent("fault", { detail: error }));
  }

  #tell(type) {
    if (!this.#ended) this.dispatchEvent(new CustomEvent(type));
  }
}

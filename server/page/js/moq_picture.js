/** Decodes a track's picture and shows each frame when it is due, as a track of a MediaStream (WebCodecs). */

const MAX_WAITING = 40; // decoded frames, which are large; more than the longest delay holds are never shown
const MAX_UNDECODED = 60; // a decoder that is so far behind does not catch up

export class Picture {
  #clock;
  #canvas = document.createElement("canvas");
  #paint = this.#canvas.getContext("2d", { alpha: false });
  #decoder = null;
  #hasKey = false;
  /** @type {VideoFrame[]} */ #waiting = [];
  #tick = 0;
  #onShown;

  /** @param {import("./playout.js").PlayoutClock} clock @param {() => void} onShown after each frame */
  constructor(clock, onShown) {
    this.#clock = clock;
    this.#onShown = onShown;
    this.track = this.#canvas.captureStream().getVideoTracks()[0];
    this.#tick = requestAnimationFrame(() => this.#show());
  }

  /** @param {VideoDecoderConfig} config @param {(error: Error) => void} onFault */
  configure(config, onFault) {
    this.#decoder?.close();
    this.#decoder = new VideoDecoder({ output: (frame) => this.#keep(frame), error: onFault });
    this.#decoder.configure({ ...config, optimizeForLatency: true });
    this.#hasKey = false;
  }

  /** @param {Uint8Array} data @param {number} timestamp in µs @param {boolean} isKey */
  decode(data, timestamp, isKey) {
    if (this.#decoder?.state !== "configured") return;
    if (this.#decoder.decodeQueueSize > MAX_UNDECODED) this.#hasKey = false;
    this.#hasKey ||= isKey;
    if (this.#hasKey) this.#decoder.decode(new EncodedVideoChunk({ type: isKey ? "key" : "delta", timestamp, data }));
  }

  end() {
    cancelAnimationFrame(this.#tick);
    if (this.#decoder?.state !== "closed") this.#decoder?.close();
    for (const frame of this.#waiting.splice(0)) frame.close();
    this.track.stop();
  }

  #keep(frame) {
    this.#waiting.push(frame);
    if (this.#waiting.length > MAX_WAITING) this.#waiting.shift().close();
  }

  #show() {
    this.#tick = requestAnimationFrame(() => this.#show());
    const now = performance.now();
    let shown = null;
    while (this.#waiting.length && this.#clock.due(this.#waiting[0].timestamp / 1000) <= now) {
      shown?.close();
      shown = this.#waiting.shift();
    }
    if (shown === null) return;
    if (this.#canvas.width !== shown.displayWidth) this.#canvas.width = shown.displayWidth;
    if (this.#canvas.height !== shown.displayHeight) this.#canvas.height = shown.displayHeight;
    this.#paint.drawImage(shown, 0, 0);
    shown.close();
    this.#onShown();
  }
}

/** Decodes a track's sound and plays it when it is due, as a track of a MediaStream (WebCodecs, Web Audio). */

const TOGETHER_S = 0.03; // closer than that one piece follows the other without a gap, and the ear hears no drift
const GESTURES = ["pointerdown", "keydown"];

export class Sound {
  #clock;
  #context;
  #out;
  #decoder = null;
  #end = 0; // of what is scheduled, in s of the context's clock
  #resume = () => this.#context.resume().catch(() => {});

  /** @param {import("./playout.js").PlayoutClock} clock @param {number} sampleRate */
  constructor(clock, sampleRate) {
    this.#clock = clock;
    this.#context = new AudioContext({ sampleRate, latencyHint: "interactive" });
    this.#out = this.#context.createMediaStreamDestination();
    this.track = this.#out.stream.getAudioTracks()[0];
    // Where a page may not make a sound by itself, it may after a click or a key.
    for (const gesture of GESTURES) document.addEventListener(gesture, this.#resume, { capture: true });
    this.#resume();
  }

  /** @param {AudioDecoderConfig} config @param {(error: Error) => void} onFault */
  configure(config, onFault) {
    this.#decoder?.close();
    this.#decoder = new AudioDecoder({ output: (data) => this.#play(data), error: onFault });
    this.#decoder.configure(config);
  }

  /** @param {Uint8Array} data @param {number} timestamp in µs */
  decode(data, timestamp) {
    if (this.#decoder?.state === "configured") this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data }));
  }

  end() {
    for (const gesture of GESTURES) document.removeEventListener(gesture, this.#resume, { capture: true });
    if (this.#decoder?.state !== "closed") this.#decoder?.close();
    this.track.stop();
    this.#context.close().catch(() => {});
  }

  #play(data) {
    const here = this.#context.currentTime;
    const due = here + (this.#clock.due(data.timestamp / 1000) - performance.now()) / 1000;
    const at = Math.abs(due - this.#end) < TOGETHER_S ? this.#end : due;
    if (this.#context.state === "running" && at >= here) {
      const source = new AudioBufferSourceNode(this.#context, { buffer: bufferOf(data) });
      source.connect(this.#out);
      source.start(at);
      this.#end = at + source.buffer.duration;
    }
    data.close();
  }
}

/** @param {AudioData} data */
function bufferOf(data) {
  const buffer = new AudioBuffer({ numberOfChannels: data.numberOfChannels, length: data.numberOfFrames, sampleRate: data.sampleRate });
  for (let planeIndex = 0; planeIndex < data.numberOfChannels; planeIndex++) {
    data.copyTo(buffer.getChannelData(planeIndex), { planeIndex, format: "f32-planar" });
  }
  return buffer;
}

// An AudioWorklet that tells when the tone begins, in its context's time.
import { ToneFinder } from "/tone.js";

class Ear extends AudioWorkletProcessor {
  #finder = new ToneFinder();

  process([[samples]]) {
    const found = samples && this.#finder.take(samples, sampleRate, currentTime * 1000);
    if (found) this.port.postMessage(found);
    return true;
  }
}

registerProcessor("ear", Ear);

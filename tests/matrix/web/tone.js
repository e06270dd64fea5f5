// Finds the tone in sound.

const HZ = 1000, LOUD = 0.1, QUIET_MS = 300, LASTS_MS = 50;

export class ToneFinder {
  #lastLoud = -Infinity;
  #began; // when the tone began, until it has lasted for long enough to be judged

  // Takes a block of samples, and its time (ms). Returns when the tone began, and how much of the sound it is.
  take(samples, rate, at) {
    let cosine = 0, sine = 0, square = 0;
    for (let place = 0; place < samples.length; place += 1) {
      const angle = (2 * Math.PI * HZ * place) / rate;
      cosine += samples[place] * Math.cos(angle);
      sine += samples[place] * Math.sin(angle);
      square += samples[place] ** 2;
    }
    const amplitude = (2 * Math.hypot(cosine, sine)) / samples.length;
    if (amplitude <= LOUD) return null;
    if (at - this.#lastLoud > QUIET_MS) this.#began = at;
    this.#lastLoud = at;
    if (this.#began === undefined || at - this.#began < LASTS_MS) return null;
    const found = { at: this.#began, purity: (amplitude ** 2 / 2) / (square / samples.length) };
    this.#began = undefined;
    return found;
  }
}

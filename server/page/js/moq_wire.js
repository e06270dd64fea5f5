/** QUIC's numbers, and bounded reading of streams that are made of them (RFC 9000 section 16). */

const NOTHING = new Uint8Array(0);
const SIZES = [1, 2, 4, 8];

/** @param {number} value below 2^53 @returns {Uint8Array} the fewest bytes */
export function varint(value) {
  const kind = value < 0x40 ? 0 : value < 0x4000 ? 1 : value < 0x4000_0000 ? 2 : 3;
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value) | (BigInt(kind) << BigInt(8 * SIZES[kind] - 2)));
  return new Uint8Array(view.buffer, 8 - SIZES[kind]);
}

/** @param {...Uint8Array} parts */
export function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Put the length of all in front. @param {...Uint8Array} parts */
export function prefixed(...parts) {
  const body = joined(...parts);
  return joined(varint(body.length), body);
}

/** @param {string} text */
export function written(text) {
  return prefixed(new TextEncoder().encode(text));
}

/** Reads numbers and bytes off a stream as they come; every method throws when it is reset or ends too early. */
export class StreamReader {
  #reader;
  #held = NOTHING;

  /** @param {ReadableStream<Uint8Array>} readable */
  constructor(readable) {
    this.#reader = readable.getReader();
  }

  /** Whether there is nothing more; waits until that is known. */
  async isOver() {
    return !(await this.#hold(1));
  }

  async varint() {
    await this.#demand(1);
    const size = SIZES[this.#held[0] >> 6];
    await this.#demand(size);
    const [value] = readVarint(this.#take(size));
    return value;
  }

  /** @param {number} limit of its length; a longer one throws before its bytes are waited for */
  async prefixed(limit) {
    const size = await this.varint();
    if (size > limit) throw new RangeError(`${size} bytes where ${limit} are the most`);
    await this.#demand(size);
    return this.#take(size);
  }

  /** Read all there is, for nothing but its end. */
  async drain() {
    this.#held = NOTHING;
    while (!(await this.#reader.read()).done);
  }

  /** Read no more. */
  cancel() {
    this.#reader.cancel().catch(() => {});
  }

  async #demand(size) {
    if (!(await this.#hold(size))) throw new RangeError("the stream ends too early");
  }

  async #hold(size) {
    if (this.#held.length >= size) return true;
    const parts = [this.#held];
    for (let length = this.#held.length; length < size; ) {
      const { value, done } = await this.#reader.read();
      if (done) {
        this.#held = joined(...parts);
        return false;
      }
      parts.push(value);
      length += value.length;
    }
    this.#held = joined(...parts);
    return true;
  }

  #take(size) {
    const taken = this.#held.subarray(0, size);
    this.#held = this.#held.subarray(size);
    return taken;
  }
}

/**
 * @param {Uint8Array} bytes that begin with a number
 * @returns {[number, Uint8Array]} it, and what follows
 */
export function readVarint(bytes) {
  const size = bytes.length && SIZES[bytes[0] >> 6];
  if (!size || bytes.length < size) throw new RangeError("ends within a number");
  let value = bytes[0] & 0x3f;
  for (let at = 1; at < size; at++) value = value * 256 + bytes[at];
  return [value, bytes.subarray(size)];
}

/** @param {Uint8Array} bytes that begin with a text @returns {[string, Uint8Array]} it, and what follows */
export function readText(bytes) {
  const [size, rest] = readVarint(bytes);
  if (rest.length < size) throw new RangeError("ends within a text");
  return [new TextDecoder().decode(rest.subarray(0, size)), rest.subarray(size)];
}

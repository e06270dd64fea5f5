/** A moq-lite session over WebTransport, as far as watching needs it (draft-lcurley-moq-lite-04). */

import { StreamReader, joined, prefixed, readText, readVarint, varint, written } from "./moq_wire.js";

const VERSION = "moq-lite-04";
const ANNOUNCE = 1;
const SUBSCRIBE = 2;
const GROUP = 0;
const MAX_MESSAGE_BYTES = 16_384;
const MAX_FRAME_BYTES = 4 << 20; // as the server's: a keyframe of 4K video has half of it

/** Whether this browser can agree on a version; who can't say what it offers is not let in. */
export function hasWebTransport() {
  return typeof WebTransport === "function" && "protocol" in WebTransport.prototype;
}

/** @typedef {(sequence: number, frames: AsyncGenerator<Uint8Array>) => void} OnGroup */

/** `closed` says how the server ended it: {closeCode, reason}; null when the connection was lost. */
export class MoqSession {
  /** @type {Map<number, OnGroup>} */ #subscriptions = new Map();
  #asked = 0;
  #transport;

  /** @param {string} address https, with its token @param {Uint8Array} hash SHA-256 of the certificate to expect */
  constructor(address, hash) {
    const serverCertificateHashes = [{ algorithm: "sha-256", value: hash }];
    this.#transport = new WebTransport(address, { serverCertificateHashes, protocols: [VERSION] });
    this.closed = this.#transport.closed.then((how) => how, () => null);
    this.ready = this.#begin();
  }

  close() {
    try {
      this.#transport.close();
    } catch {
      // It never opened, or is closed already.
    }
  }

  /**
   * Hear whether a broadcast is there, at once and whenever that changes; until the session ends.
   * @param {string} path
   * @param {(isThere: boolean) => void} listener
   */
  async announcements(path, listener) {
    const { reader } = await this.#ask(ANNOUNCE, written(path), varint(0));
    while (!(await reader.isOver())) {
      const message = await reader.prefixed(MAX_MESSAGE_BYTES);
      const [suffix] = readText(message.subarray(1));
      listener(suffix.replace(/^\//, ""), message[0] === 1);
    }
  }

  /**
   * Ask for a track from its latest group on; it also ends with the broadcast, and with the right to it.
   * @param {{path: string, track: string, priority: number, maxLatencyMs: number}} wish
   * @param {OnGroup} onGroup
   * @returns {() => void} what ends it
   */
  subscribe({ path, track, priority, maxLatencyMs }, onGroup) {
    const id = this.#asked++;
    this.#subscriptions.set(id, onGroup);
    const wish = [Uint8Array.of(priority, 0), varint(maxLatencyMs), varint(0), varint(0)];
    const asked = this.#ask(SUBSCRIBE, varint(id), written(path), written(track), ...wish);
    const end = () => {
      this.#subscriptions.delete(id);
      asked.then(({ cancel }) => cancel(), () => {});
    };
    asked.then(({ reader }) => reader.drain()).then(end, end);
    return end;
  }

  async #begin() {
    await this.#transport.ready;
    this.#receive().catch(() => {}); // it ends with the session, which `closed` tells
    this.#turnAway().catch(() => {});
  }

  async #ask(type, ...fields) {
    const stream = await this.#transport.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    writer.closed.catch(() => {});
    // Not closed: that would end what is asked for.
    await writer.write(joined(varint(type), prefixed(...fields)));
    const reader = new StreamReader(stream.readable);
    const cancel = () => {
      reader.cancel();
      writer.close().catch(() => {});
    };
    return { reader, cancel };
  }

  async #receive() {
    for await (const stream of inTurn(this.#transport.incomingUnidirectionalStreams)) {
      this.#read(new StreamReader(stream)).catch(() => {}); // reset before it said what it is
    }
  }

  async #read(reader) {
    const type = await reader.varint();
    const [subscription, rest] = type === GROUP ? readVarint(await reader.prefixed(MAX_MESSAGE_BYTES)) : [-1, null];
    const onGroup = this.#subscriptions.get(subscription);
    if (onGroup) onGroup(readVarint(rest)[0], framesOf(reader));
    else reader.cancel();
  }

  /** The server asks every client what it publishes, and takes silence for an answer. */
  async #turnAway() {
    for await (const stream of inTurn(this.#transport.incomingBidirectionalStreams)) {
      stream.readable.cancel().catch(() => {});
      stream.writable.abort().catch(() => {});
    }
  }
}

async function* framesOf(reader) {
  try {
    while (!(await reader.isOver())) yield await reader.prefixed(MAX_FRAME_BYTES);
  } finally {
    reader.cancel();
  }
}

/** Not every browser iterates over a ReadableStream. */
async function* inTurn(readable) {
  const reader = readable.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

/** Reads a hang catalog and chooses of its renditions (draft-lcurley-moq-hang). */

import { readVarint } from "./moq_wire.js";

/** @typedef {{track: string, config: any, height: number}} Rendition */

/**
 * Choose the picture and the sound to play; null where there is none. Throws NotSupportedError when there are some
 * and this browser can play none of them.
 * @param {any} catalog
 * @param {number} height of the place where the picture is shown, in its pixels
 * @param {number} ceiling pixels of height that proved to be too many; Infinity for none
 * @returns {Promise<{video: Rendition|null, audio: Rendition|null}>}
 */
export async function choose(catalog, height, ceiling) {
  const pictures = await playable(catalog.video?.renditions, VideoDecoder, videoConfig);
  const sounds = await playable(catalog.audio?.renditions, AudioDecoder, audioConfig);
  return { video: fitting(pictures, height, ceiling), audio: sounds[0] ?? null };
}

/** The smallest that fills its place, of those below the ceiling; else the nearest. @param {Rendition[]} pictures */
export function fitting(pictures, height, ceiling) {
  const rising = [...pictures].sort((one, other) => one.height - other.height);
  const possible = rising.filter((one) => one.height < ceiling);
  return possible.find((one) => one.height >= height) ?? possible.at(-1) ?? rising[0] ?? null;
}

/** hang's `legacy` container: the timestamp in µs, then what the codec wrote. @param {Uint8Array} frame */
export function unwrapped(frame) {
  const [timestamp, data] = readVarint(frame);
  return { timestamp, data };
}

async function playable(renditions, Decoder, configOf) {
  const all = Object.entries(renditions ?? {}).filter(([, one]) => (one.container?.kind ?? "legacy") === "legacy");
  const usable = [];
  for (const [track, one] of all) {
    const config = configOf(one);
    const { supported } = await Decoder.isConfigSupported(config).catch(() => ({ supported: false }));
    if (supported) usable.push({ track, config, height: one.codedHeight ?? 0 });
  }
  if (!usable.length && Object.keys(renditions ?? {}).length) throw new DOMException("no rendition can be played", "NotSupportedError");
  return usable;
}

function videoConfig({ codec, codedWidth, codedHeight, description }) {
  return defined({ codec, codedWidth, codedHeight, description: description && bytesOf(description) });
}

function audioConfig({ codec, sampleRate, numberOfChannels, description }) {
  return defined({ codec, sampleRate, numberOfChannels, description: codec === "opus" ? undefined : description && bytesOf(description) });
}

function defined(fields) {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** @param {string} hex */
export function bytesOf(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

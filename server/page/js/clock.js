/** Knows the server's time, whatever this device's clock says, and counts down to its deadlines. */

const KEPT = 16; // samples; an old one is forgotten, should the server's clock be set back
const TICK_MS = 250; // so that no second is skipped on the screen

/** @type {number[]} */
const offsets = [];

/** Learn from a message. Delays only make `serverNow` look older, so the largest offset is the best. */
export function noteServerTime(serverNow) {
  offsets.push(serverNow - performance.now());
  if (offsets.length > KEPT) offsets.shift();
}

/** The server's time now, epoch ms. */
export function serverNow() {
  return offsets.length ? performance.now() + Math.max(...offsets) : Date.now();
}

/** Whole seconds until `endsAt`, never below 0. */
export function secondsLeft(endsAt) {
  return Math.max(0, Math.ceil((endsAt - serverNow()) / 1000));
}

/** 4:07, or 1:02:33. */
export function clockface(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : String(part))).join(":");
}

/** 40 seconds, 5 minutes, 2 hours, 3 days: for sentences. */
export function inWords(seconds) {
  const [count, unit] =
    seconds < 100 ? [seconds, "second"] : seconds < 5400 ? [Math.round(seconds / 60), "minute"]
      : seconds < 172_800 ? [Math.round(seconds / 3600), "hour"] : [Math.round(seconds / 86_400), "day"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** The time of day of a deadline, as this device writes it. */
export function timeOfDay(at) {
  return here(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/** The day and the time of day of a moment, as this device writes it. */
export function dayAndTime(at) {
  return here(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** A moment of the server's clock on this device's. */
function here(at) {
  return new Date(at + Date.now() - serverNow());
}

/**
 * Show the time left in an element, from now on; null empties it.
 * @param {HTMLElement} element
 * @param {number|null} endsAt
 */
export function countDown(element, endsAt) {
  if (endsAt === null) {
    delete element.dataset.endsAt;
    element.textContent = "";
  } else {
    element.dataset.endsAt = String(endsAt);
    draw(element);
  }
}

function draw(element) {
  const text = clockface(secondsLeft(Number(element.dataset.endsAt)));
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => document.querySelectorAll("[data-ends-at]").forEach(draw), TICK_MS);

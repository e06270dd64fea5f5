/** Shows the files of a message: pictures, videos and sounds in place, all others to be saved. */

import { ask } from "./api.js";
import { serverNow } from "./clock.js";
import { make } from "./dom.js";
import { inBytes } from "./words.js";

const EARLY_MS = 300_000; // before a ticket runs out another is fetched
const WIDEST = 320;

let ticket = "";
let holdsUntil = 0;
/** @type {Promise<void>|null} */ let asking = null;

/** Get what opens files in addresses, where the browser can send no token; called before files are shown. */
export function learnTicket() {
  if (holdsUntil - EARLY_MS > serverNow()) return Promise.resolve();
  asking ??= ask("POST", "/me/file_ticket").then((given) => {
    ticket = given.ticket;
    holdsUntil = given.expires_at;
  }).finally(() => { asking = null; });
  return asking;
}

/** @param {any[]} files @param {string} [place] where they are served */
export function attachments(files, place = "/media") {
  return make("div", { class: "attachments" }, ...files.map((file) => attachment({ ...file, place })));
}

/** Files in a few words. @param {any[]} files */
export function inWords(files) {
  return files.length === 1 ? `File: ${files[0].name}` : `${files.length} files`;
}

function attachment(file) {
  const [kind] = file.type.split("/");
  if (kind === "image") return picture(file);
  if (kind === "video") return playable(file, make("video", { controls: true, preload: "none", playsinline: true, "aria-label": file.name, ...box(file) }));
  if (kind === "audio") return playable(file, make("audio", { controls: true, preload: "none", "aria-label": file.name }));
  const link = make("a", { class: "file", href: address(file), download: file.name }, make("span", { class: "file-name" }, file.name), make("span", { class: "soft small" }, ` ${inBytes(file.size)}`));
  link.addEventListener("pointerenter", () => learnTicket().then(() => { link.href = address(file); }, () => {}));
  return link;
}

function picture(file) {
  const image = make("img", { alt: file.name, loading: "lazy", ...box(file), src: address(file, "/preview") });
  const link = make("a", { href: address(file), target: "_blank", rel: "noopener" }, image);
  onceStale(image, () => {
    image.src = address(file, "/preview");
    link.href = address(file);
  });
  return link;
}

function playable(file, player) {
  if (file.preview) player.poster = address(file, "/preview");
  player.src = address(file);
  onceStale(player, () => {
    const at = player.currentTime;
    player.src = address(file);
    player.currentTime = at;
  });
  return player;
}

/** When an element can't be shown as its ticket has run out, show it with another. */
function onceStale(element, renew) {
  element.addEventListener("error", () => {
    if (holdsUntil > serverNow()) return;
    learnTicket().then(renew, () => {});
  });
}

function address({ id, place }, part = "") {
  return `${place}/${encodeURIComponent(id)}${part}?ticket=${encodeURIComponent(ticket)}`;
}

/** The room that a picture takes before it has come, so that nothing moves when it does. */
function box({ width, height }) {
  if (!width || !height) return {};
  const shown = Math.min(width, WIDEST, (WIDEST * width) / height);
  return { width: String(Math.round(shown)), height: String(Math.round((shown * height) / width)) };
}

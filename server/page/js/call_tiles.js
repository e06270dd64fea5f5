/** Shows who is in a call: a picture or an arch for each, one's own among them. */

import { arch, make, show } from "./dom.js";
import { hostEndpoint } from "./hosts.js";
import { Viewing } from "./whep.js";

const STAGES = { rung: "ringing", joining: "connecting", in: "", lost: "connection lost" };

export class CallTiles {
  /** @type {Map<string, any>} */ #tiles = new Map();
  #list;

  /** @param {HTMLElement} list @param {string} me */
  constructor(list, me) {
    this.#list = list;
    this.me = me;
  }

  /** @param {any} call @param {MediaStream|null} own */
  show(call, own) {
    const parties = call.parties.filter(({ stage }) => stage !== "out");
    for (const [id, tile] of this.#tiles) if (!parties.some(({ account }) => account.id === id)) this.#drop(id, tile);
    for (const { account, stage } of parties) this.#one(call, account, stage, account.id === this.me ? own : null);
    this.#list.dataset.count = String(parties.length);
  }

  clear() {
    for (const [id, tile] of this.#tiles) this.#drop(id, tile);
  }

  #one(call, account, stage, own) {
    const mine = account.id === this.me;
    const tile = this.#tiles.get(account.id) ?? this.#make(account, mine);
    tile.state.textContent = STAGES[stage] ? ` (${STAGES[stage]})` : "";
    const source = mine ? null : sourceOf(call, account.id, stage);
    if (tile.source !== source) {
      tile.source = source;
      tile.viewing?.stop();
      tile.viewing = source === null ? null : this.#watch(tile, source);
    }
    this.#look(tile, mine ? own : (tile.viewing?.media ?? null));
  }

  #watch(tile, source) {
    const viewing = source.startsWith("/") ? new Viewing("", source) : new Viewing(source);
    viewing.addEventListener("track", () => tile.viewing === viewing && this.#look(tile, viewing.media));
    viewing.start();
    return viewing;
  }

  #make(account, mine) {
    const video = make("video", { autoplay: true, playsinline: true, "aria-hidden": "true" });
    video.muted = mine;
    const state = make("span", { class: "soft" });
    const element = make("li", { class: `tile${mine ? " own" : ""}`, "data-account": account.name }, arch(account.name), video, make("p", {}, mine ? "You" : account.name, state));
    this.#list.append(element);
    const tile = { element, video, state, viewing: null, source: null };
    this.#tiles.set(account.id, tile);
    return tile;
  }

  #look(tile, media) {
    if (tile.video.srcObject !== media) tile.video.srcObject = media;
    if (media) tile.video.play().catch(() => {});
    const pictured = Boolean(media?.getVideoTracks().some((track) => track.readyState === "live" && track.enabled));
    tile.element.classList.toggle("pictured", pictured);
    show(tile.element.querySelector(".arch"), !pictured);
  }

  #drop(id, tile) {
    tile.viewing?.stop();
    tile.video.srcObject = null;
    tile.element.remove();
    this.#tiles.delete(id);
  }
}

/** Where what somebody sends is watched: in the call, or, of who took it live, in the stream; null for nowhere. */
function sourceOf(call, id, stage) {
  if (call.state === "live" && call.named.includes(id)) return hostEndpoint(call.stream, id);
  if (call.state === "live") return id === call.starter ? call.stream : null;
  if (call.state !== "running" || stage === "rung") return null;
  return `/api/v1/calls/${encodeURIComponent(call.id)}/whep/${encodeURIComponent(id)}`;
}

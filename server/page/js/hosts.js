/** Shows those who are live beside a streamer, over the way by which the streamer is watched. */

import { arch, make, show } from "./dom.js";
import { Viewing } from "./whep.js";

/** Where one who is live beside a streamer is watched. @param {string} stream @param {string} account */
export function hostEndpoint(stream, account) {
  return `/api/v1/streams/${encodeURIComponent(stream)}/hosts/${encodeURIComponent(account)}/whep`;
}

export class Hosts {
  /** @type {Map<string, {element: HTMLElement, video: HTMLVideoElement, viewing: Viewing}>} */ #shown = new Map();

  /** @param {HTMLElement} list @param {string} stream @param {import("./viewing_ways.js").ViewingWays} ways */
  constructor(list, stream, ways) {
    this.list = list;
    this.stream = stream;
    this.ways = ways;
    for (const word of ["way", "beside"]) ways.addEventListener(word, () => this.#shown.forEach((tile, id) => this.#fit(id, tile)));
  }

  /** @param {{id: string, name: string}[]} hosts */
  show(hosts) {
    for (const [id, { element, viewing }] of this.#shown) {
      if (hosts.some((each) => each.id === id)) continue;
      viewing.stop();
      element.remove();
      this.#shown.delete(id);
    }
    for (const host of hosts) if (!this.#shown.has(host.id)) this.#add(host);
    show(this.list, hosts.length > 0);
  }

  #add({ id, name }) {
    const video = make("video", { autoplay: true, playsinline: true, "aria-hidden": "true" });
    const element = make("li", { class: "tile", "data-account": name }, arch(name), video, make("p", {}, name));
    const viewing = new Viewing("", hostEndpoint(this.stream, id));
    const tile = { element, video, viewing };
    viewing.addEventListener("track", () => this.#fit(id, tile));
    this.#shown.set(id, tile);
    this.list.append(element);
    this.#fit(id, tile);
  }

  #fit(id, { element, video, viewing }) {
    const over = this.ways.way === "webtransport";
    if (over) viewing.stop();
    else if (!viewing.isOn) viewing.start();
    const media = over ? this.ways.beside(id) : viewing.media;
    if (video.srcObject !== media) video.srcObject = media;
    const pictured = (media?.getVideoTracks().length ?? 0) > 0;
    element.classList.toggle("pictured", pictured);
    show(element.querySelector(".arch"), !pictured);
    if (media?.getTracks().length) video.play().catch(() => {});
  }
}

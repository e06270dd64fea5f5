/** Shows those who are live beside a streamer. */

import { arch, make, show } from "./dom.js";
import { Viewing } from "./whep.js";

/** Where one who is live beside a streamer is watched. @param {string} stream @param {string} account */
export function hostEndpoint(stream, account) {
  return `/api/v1/streams/${encodeURIComponent(stream)}/hosts/${encodeURIComponent(account)}/whep`;
}

export class Hosts {
  /** @type {Map<string, {element: HTMLElement, viewing: Viewing}>} */ #shown = new Map();

  /** @param {HTMLElement} list @param {string} stream */
  constructor(list, stream) {
    this.list = list;
    this.stream = stream;
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
    video.srcObject = viewing.media;
    viewing.addEventListener("track", () => {
      const pictured = viewing.media.getVideoTracks().length > 0;
      element.classList.toggle("pictured", pictured);
      show(element.querySelector(".arch"), !pictured);
      video.play().catch(() => {});
    });
    this.#shown.set(id, { element, viewing });
    this.list.append(element);
    viewing.start();
  }
}

/** Plays a MediaStream in a <video> with the few controls that a live picture needs. */

import { byId, make, show } from "./dom.js";

/** The controls are made beside the video with `id`; they all work with the keyboard. */
export class Player {
  /** @param {string} id of the <video>; its parent is what goes full screen */
  constructor(id) {
    this.video = byId(id);
    this.frame = this.video.parentElement;
    this.sound = make("button", { type: "button", class: "small", onclick: () => this.#toggleSound() });
    this.volume = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, "aria-label": "Volume" });
    this.volume.addEventListener("input", () => {
      this.video.volume = Number(this.volume.value);
      this.video.muted = this.video.volume === 0;
    });
    this.whole = make("button", { type: "button", class: "small", onclick: () => this.#toggleWhole() });
    this.controls = make("div", { class: "player-controls", role: "group", "aria-label": "Player" }, this.sound, this.volume, this.whole);
    this.frame.append(this.controls);
    this.video.addEventListener("volumechange", () => this.#label());
    document.addEventListener("fullscreenchange", () => this.#label());
    show(this.whole, document.fullscreenEnabled);
    this.#label();
  }

  /** Show a stream; where the browser allows no sound before a click it starts silent and says so. */
  async play(media) {
    if (this.video.srcObject !== media) this.video.srcObject = media;
    try {
      await this.video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") return; // a newer play() or pause() took over
      this.video.muted = true;
      await this.video.play().catch(() => {});
      this.sound.classList.add("calling");
    }
  }

  stop() {
    this.video.pause();
    this.video.srcObject = null;
  }

  #toggleSound() {
    this.video.muted = !this.video.muted;
    if (!this.video.muted && this.video.volume === 0) this.volume.value = String((this.video.volume = 0.5));
    this.sound.classList.remove("calling");
    this.video.play().catch(() => {});
  }

  #toggleWhole() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.frame.requestFullscreen().catch(() => {});
  }

  #label() {
    this.sound.textContent = this.video.muted ? "Turn sound on" : "Mute";
    this.whole.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
  }
}

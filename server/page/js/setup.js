/** The form before going live: chooses picture and sound, and shows them before anyone else sees them. */

import { busy, byId, make, show } from "./dom.js";
import { meterLevel } from "./meter.js";
import { devices, openSource, stopSource } from "./sources.js";
import { videoCodecs } from "./whip.js";

export class Setup {
  /** @type {MediaStream|null} */ media = null;
  /** Hears of each new picture and sound. @type {((media: MediaStream) => void)|null} */ changed = null;
  #form = byId("setup-form");
  #stopMeter = () => {};
  #turn = 0;

  /** @param {() => Promise<void>} goLive */
  constructor(goLive) {
    const { source, camera, microphone, kind, height, codec } = this.#form.elements;
    const wanted = new URLSearchParams(location.search).get("source");
    if (["camera", "screen", "test"].includes(wanted)) source.value = wanted;
    codec.replaceChildren(...videoCodecs().map((name) => make("option", { value: name }, name)));
    for (const field of [...source, camera, microphone, ...kind, height]) field.addEventListener("change", () => this.#choose());
    byId("preview-start").onclick = () => busy(byId("preview-start"), () => this.preview());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(byId("go"), goLive);
    });
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#listDevices());
    this.#choose();
    this.#listDevices();
  }

  /** What was chosen. */
  get choice() {
    const { title, description, mode, best_picture, kind, source, camera, microphone, height, codec, bitrate } = this.#form.elements;
    return {
      title: title.value.trim(), description: description.value.trim(), mode: mode.value, bestPicture: best_picture.value, kind: kind.value,
      source: source.value,      camera: camera.value, microphone: microphone.value, height: Number(height.value), codec: codec.value,
      maxBitrate: Number(bitrate.value) * 1000, withVideo: kind.value === "video",
    };
  }

  /** Open what is chosen and show it. @returns {Promise<MediaStream|null>} null when that failed, which is told */
  async preview() {
    const turn = ++this.#turn;
    const fault = byId("setup-fault");
    show(fault, false);
    try {
      const media = await openSource(this.choice);
      if (turn !== this.#turn) {
        stopSource(media);
        return null;
      }
      this.#take(media);
      await this.#listDevices();
      return media;
    } catch (error) {
      fault.textContent = error.message;
      show(fault, true);
      return null;
    }
  }

  /** Let go of camera and microphone. */
  drop() {
    this.#turn++;
    this.#stopMeter();
    stopSource(this.media);
    this.media = null;
    byId("preview").srcObject = null;
    show(byId("preview-cover"), true);
  }

  #take(media) {
    const former = this.media;
    this.#stopMeter();
    this.media = media;
    byId("preview").srcObject = media;
    byId("preview").play().catch(() => {});
    show(byId("preview-cover"), false);
    this.#stopMeter = meterLevel(byId("level"), media);
    this.changed?.(media);
    if (former !== media) stopSource(former);
  }

  #choose() {
    const { source, kind } = this.#form.elements;
    show(byId("camera-field"), source.value === "camera" && kind.value === "video");
    show(byId("best-field"), kind.value === "video");
    show(byId("microphone-field"), source.value !== "test");
    if (this.media || source.value === "test") this.preview();
  }

  async #listDevices() {
    const { cameras, microphones } = await devices();
    const { camera, microphone } = this.#form.elements;
    for (const [field, found, word] of [[camera, cameras, "Camera"], [microphone, microphones, "Microphone"]]) {
      const chosen = field.value;
      field.replaceChildren(make("option", { value: "" }, "The browser's choice"), ...found.map((device, index) => make("option", { value: device.deviceId }, device.label || `${word} ${index + 1}`)));
      if (found.some((device) => device.deviceId === chosen)) field.value = chosen;
    }
  }
}

/** It is the viewer's turn for a one-to-one: says so, for how long, and takes a yes or a no. Nobody is seen without a yes. */

import { countDown } from "./clock.js";
import { busy, byId, say, show } from "./dom.js";
import { complain } from "./notices.js";

export class Turn {
  #dialog = byId("turn-dialog");
  /** @type {number|null} */ #until = null;

  /**
   * @param {import("./socket.js").Socket} socket
   * @param {string} stream
   * @param {() => Promise<any>} openCamera throws what keeps it from being opened
   */
  constructor(socket, stream, openCamera) {
    Object.assign(this, { socket, stream, openCamera });
    byId("turn-come").onclick = () => busy(byId("turn-come"), () => this.#come());
    byId("turn-not").onclick = () => busy(byId("turn-not"), () => this.#decline());
    byId("come").onclick = () => this.#dialog.showModal();
  }

  /** @param {number|null} until when the turn is over, null when it is not one's turn @param {string} streamer */
  show(until, streamer) {
    show(byId("come"), until !== null);
    if (until === this.#until) return;
    this.#until = until;
    countDown(byId("turn-time"), until);
    if (until === null) return this.#dialog.close();
    say(byId("turn-title"), `${streamer} is ready for your one-to-one`);
    show(byId("turn-fault"), false);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.openCamera().catch((error) => this.#say(error)); // so that it can be seen what will be sent
    return undefined;
  }

  async #come() {
    try {
      await this.openCamera();
      await this.socket.request("confirm_one_to_one", { stream: this.stream });
      this.#dialog.close();
    } catch (error) {
      this.#say(error);
    }
  }

  async #decline() {
    try {
      await this.socket.request("cancel_one_to_one", { stream: this.stream });
    } catch (error) {
      if (error.code !== "request_unknown") complain(error); // else it was over meanwhile
    }
    this.#dialog.close();
  }

  #say(error) {
    say(byId("turn-fault"), error.message);
    show(byId("turn-fault"), true);
  }
}

/** The streamer's choice of who has the best picture while the stream is open. */

import { busy, byId, say, show } from "./dom.js";
import { complain } from "./notices.js";

const NOW = {
  everyone: "Whoever watches has it.",
  entitled: "While the stream is open, it is for whoever may watch when it is private: see the rules there. All others see the next best. Who has a ticket for a ticket-only stream always has it.",
};

export class BestPicture {
  #buttons = [...byId("best").querySelectorAll("button")];

  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    for (const button of this.#buttons) {
      button.onclick = () => busy(button, () => socket.request("set_best_picture", { stream, best_picture: button.value }).catch((error) => complain(error)));
    }
  }

  /** @param {import("./wire.js").Card} card */
  show({ best_picture, kind }) {
    show(byId("best-choice"), kind === "video");
    for (const button of this.#buttons) button.setAttribute("aria-pressed", String(button.value === best_picture));
    say(byId("best-now"), NOW[best_picture]);
  }
}

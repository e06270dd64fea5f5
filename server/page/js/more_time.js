/** More time in a running one-to-one: its guest asks, with what it costs held, and its streamer answers. */

import { ask, newKey, order } from "./api.js";
import { inWords } from "./clock.js";
import { openDialog } from "./dialogs.js";
import { busy, byId, make, say, show } from "./dom.js";
import { inMoney, learnAssets } from "./money.js";
import { complain } from "./notices.js";

const LENGTHS_S = [60, 120, 300, 600, 900, 1200, 1500];
const USUAL_S = 300;

/** The streamer's side. */
export class MoreTimeAsked {
  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    Object.assign(this, { socket, stream });
    byId("more-yes").onclick = () => this.#answer(byId("more-yes"), "accept_extension", { seconds: this.seconds });
    byId("more-no").onclick = () => this.#answer(byId("more-no"), "decline_extension", {});
  }

  /** @param {import("./stream_model.js").Model["call"]} call */
  show(call) {
    this.seconds = call?.asked ?? 0;
    show(byId("more"), this.seconds > 0);
    if (this.seconds) say(byId("more-what"), `Your guest asks for ${inWords(this.seconds)} more, at the price you agreed on.`);
  }

  #answer(button, type, fields) {
    return busy(button, () => this.socket.request(type, { stream: this.stream, ...fields }).catch((error) => complain(error)));
  }
}

/** The guest's side. */
export class MoreTime {
  /** @param {import("./socket.js").Socket} socket @param {string} stream */
  constructor(socket, stream) {
    this.path = `/streams/${encodeURIComponent(stream)}/one_to_one/extension`;
    byId("call-more").onclick = () => busy(byId("call-more"), () => this.#offer());
    byId("more-back").onclick = () => busy(byId("more-back"), () => socket.request("cancel_extension", { stream }).catch((error) => complain(error)));
  }

  /** @param {import("./stream_model.js").Model["call"]} call */
  show(call) {
    show(byId("call-more"), call !== null && call.phase !== "setup" && !call.asked);
    show(byId("more"), Boolean(call?.asked));
    if (call?.asked) say(byId("more-what"), `You asked for ${inWords(call.asked)} more. It is longer once the streamer agrees.`);
  }

  async #offer() {
    try {
      const [{ longest_s }] = await Promise.all([this.#look(60), learnAssets().catch(() => {})]);
      const lengths = LENGTHS_S.filter((seconds) => seconds <= longest_s);
      if (!lengths.length) throw new Error("It is as long as a one-to-one can be.");
      this.#open(lengths);
    } catch (error) {
      complain(error);
    }
  }

  #open(lengths) {
    const key = { of: "", is: "" }; // of one wish, however often it is sent
    const usual = lengths.includes(USUAL_S) ? USUAL_S : lengths.at(-1);
    const choice = make("select", {}, ...lengths.map((seconds) => make("option", { value: seconds, selected: seconds === usual }, inWords(seconds))));
    const cost = make("p", { class: "soft small", role: "status" });
    let price = null;
    const look = async () => {
      const seconds = Number(choice.value);
      yes.disabled = true; // until it is known what it costs
      try {
        const found = await this.#look(seconds);
        if (Number(choice.value) !== seconds) return;
        price = found.price;
        say(cost, price ? `${inMoney(price)} are held, and come back if the streamer says no. You pay only for what takes place.` : "It costs nothing.");
        say(yes, price ? `Ask, and hold ${inMoney(price)}` : "Ask");
        yes.disabled = false;
      } catch (error) {
        say(cost, error.message);
      }
    };
    const run = async () => {
      const body = { seconds: Number(choice.value), ...(price && { max_price: price }) };
      if (key.of !== JSON.stringify(body)) Object.assign(key, { of: JSON.stringify(body), is: newKey() });
      try {
        await order("POST", this.path, body, key.is);
      } catch (error) {
        if (error.code !== "unreachable") key.of = ""; // it was refused: nothing is held
        if (error.code === "price_changed") await look();
        throw error.code === "insufficient_funds" ? new Error("There is not enough in your wallet, and nothing is held. A shorter time may do.") : error;
      }
    };
    const { element } = openDialog("More time?", [make("label", {}, "How much", choice), cost], { yes: "Ask", run });
    const yes = element.querySelector(".yes");
    choice.onchange = look;
    look();
  }

  /** @param {number} seconds */
  #look(seconds) {
    return ask("GET", `${this.path}?seconds=${seconds}`);
  }
}

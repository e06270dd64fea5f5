/** Orders that cost: the same order, sent again because no answer came, is still done once. */

import { newKey, order } from "./api.js";

const PAUSE_MS = 1000; // after an order its button rests: a second click within it is a double click

export class Orders {
  /** @type {Map<string, {key: string, body: object}>} orders of which it is not known whether they were done */
  #open = new Map();

  /**
   * @param {string} path
   * @param {object} body
   * @param {object} [beside] more of the body that does not make it another order, such as a quote
   * @returns {Promise<any>}
   */
  async send(path, body, beside = {}) {
    const wish = `${path} ${JSON.stringify(body)}`;
    const sent = this.#open.get(wish) ?? { key: newKey(), body: { ...body, ...beside } };
    this.#open.set(wish, sent);
    try {
      const answer = await order("POST", path, sent.body, sent.key);
      this.#open.delete(wish);
      return answer;
    } catch (error) {
      if (!isOpen(error)) this.#open.delete(wish);
      throw error;
    }
  }
}

/** Whether it is unknown if an order was done. @param {{code?: string, status?: number}} error */
export function isOpen({ code, status = 0 }) {
  return code === "unreachable" || code === "idempotency_in_flight" || status >= 500;
}

/** Wait until a second click is no double click any more. */
export function rest() {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}

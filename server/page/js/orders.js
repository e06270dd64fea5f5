/** Orders that cost: the same order, sent again because no answer came, is still done once. */

import { newKey, order } from "./api.js";

const PAUSE_MS = 1000; // after an order its button rests: a second click within it is a double click

export class Orders {
  /** @type {Map<string, string>} the keys of orders of which it is not known whether they were done */
  #keys = new Map();

  /** @param {string} path @param {object} body @returns {Promise<any>} */
  async send(path, body) {
    const wish = `${path} ${JSON.stringify(body)}`;
    const key = this.#keys.get(wish) ?? newKey();
    this.#keys.set(wish, key);
    try {
      const answer = await order("POST", path, body, key);
      this.#keys.delete(wish);
      return answer;
    } catch (error) {
      if (!isOpen(error)) this.#keys.delete(wish);
      throw error;
    }
  }
}

/** Whether it is unknown if an order was done. @param {{code?: string, status?: number}} error */
export function isOpen({ code, status = 0 }) {
  return code === "unreachable" || code === "idempotency_in_flight" || status >= 500;
}

export function rest() {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}

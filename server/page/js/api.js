/** Asks the HTTP API, and turns its problem documents into one kind of error. */

import { current } from "./identity.js";

const ATTEMPTS = 4; // of an order whose answer does not come
const AGAIN_MS = 1500;

/** A refusal of the server: `code` is stable, `message` is for people, `extra` what else it said. */
export class Problem extends Error {
  /**
   * @param {{code?: string, title?: string, detail?: string}} said
   * @param {number} status of HTTP, 0 over the socket
   * @param {number|null} retryAfterMs
   */
  constructor(said, status = 0, retryAfterMs = null) {
    super(said.detail || said.title || "The server did not say why");
    this.code = said.code ?? "unknown";
    this.status = status;
    this.retryAfterMs = retryAfterMs;
    this.extra = said;
  }
}

/**
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {object} [body]
 * @param {Record<string, string>} [more] headers
 * @returns {Promise<any>} the answer; throws Problem, code "unreachable" when there is none
 */
export async function ask(method, path, body, more = {}) {
  const headers = { ...authorization(), ...more };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await send(`/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  return response.status === 204 ? null : response.json();
}

/**
 * Ask for something that costs, under a key: sent again after a lost answer it is still done once.
 * @param {string} method
 * @param {string} path
 * @param {object} body
 * @param {string} key of `newKey`; the same for each attempt at one thing
 */
export async function order(method, path, body, key) {
  for (let left = ATTEMPTS; ; left--) {
    try {
      return await ask(method, path, body, { "Idempotency-Key": key });
    } catch (error) {
      const again = error.code === "unreachable" || error.code === "idempotency_in_flight";
      if (!again || left === 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? AGAIN_MS));
    }
  }
}

/** A key for one thing that is ordered. */
export function newKey() {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}

/** Fetch, and throw what is no success as a Problem. @param {string} address @param {RequestInit} request */
export async function send(address, request) {
  let response;
  try {
    response = await fetch(address, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "unreachable", detail: "The server can't be reached" });
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After"));
  throw new Problem(said, response.status, seconds > 0 ? seconds * 1000 : null);
}

/** @returns {Record<string, string>} */
export function authorization() {
  const session = current();
  return session ? { Authorization: `Bearer ${session.token}` } : {};
}

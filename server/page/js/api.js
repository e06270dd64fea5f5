/** Asks the HTTP API, and turns its problem documents into one kind of error. */

import { current } from "./identity.js";

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
 * @returns {Promise<any>} the answer; throws Problem, code "unreachable" when there is none
 */
export async function ask(method, path, body) {
  const headers = authorization();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await send(`/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  return response.status === 204 ? null : response.json();
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

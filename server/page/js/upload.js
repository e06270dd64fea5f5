/** Sends one file by the tus protocol: in pieces, and on from where the server has it after anything that breaks. */

import { ask, authorization, Problem } from "./api.js";

const PIECE = 32 * 1024 * 1024; // bytes in one request: what a proxy lets through, and is lost at most
const LOOK_MS = 400; // while the server looks at what arrived
const PAUSE_MS = 1000; // after something broke; longer each time
const LONGEST_PAUSE_MS = 10_000;
const PASSING = ["unreachable", "request_timeout", "upload_offset", "too_many_uploads", "rate_limited", "not_stored"];

/**
 * Send a file until it is ready to be shown; goes on for as long as it takes.
 * @param {File} file
 * @param {{upload: string|null, begun: (upload: string) => void, progress: (bytes: number) => void, signal: AbortSignal}} how
 *   `upload` is its address where it was begun before
 * @returns {Promise<{id: string}>} what the server made of it; throws Problem when it is refused, AbortError when aborted
 */
export async function sendFile(file, { upload, begun, progress, signal }) {
  for (let pause = PAUSE_MS; ; ) {
    try {
      if (upload === null) begun((upload = await begin(file, signal)));
      const view = await look(upload);
      progress(view.offset);
      if (view.state === "ready") return view;
      if (view.state === "refused") throw new Problem({ code: view.problem, detail: refusal(view.problem) });
      if (view.state === "uploading") {
        await sendPiece(upload, file, view.offset, progress, signal);
        pause = PAUSE_MS;
      } else await rest(LOOK_MS, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error.code === "upload_unknown") upload = null; // it was too old
      else if (!PASSING.includes(error.code)) throw error;
      await rest(pause, signal);
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
  }
}

/** Give an upload up. @param {string} upload */
export async function giveUp(upload) {
  await ask("DELETE", path(upload), undefined, { "Tus-Resumable": "1.0.0" }).catch(() => {}); // it goes by itself in a day
}

async function begin(file, signal) {
  const headers = { ...authorization(), "Tus-Resumable": "1.0.0", "Upload-Length": String(file.size), "Upload-Metadata": `filename ${inBase64(file.name)}` };
  let response;
  try {
    response = await fetch("/api/v1/uploads", { method: "POST", headers, signal });
  } catch {
    throw new Problem({ code: "unreachable" });
  }
  if (!response.ok) throw new Problem(await response.json().catch(() => ({})), response.status);
  return response.headers.get("Location");
}

function look(upload) {
  return ask("GET", path(upload));
}

/** With XMLHttpRequest, as fetch tells nothing of how far it is. */
function sendPiece(upload, file, offset, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("PATCH", upload);
    for (const [name, value] of Object.entries({ ...authorization(), "Tus-Resumable": "1.0.0", "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" })) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded }) => progress(offset + loaded);
    request.onload = () => (request.status === 204 ? resolve(null) : reject(new Problem(parsed(request.responseText), request.status)));
    request.onerror = request.onabort = () => reject(new Problem({ code: "unreachable" }));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    signal.addEventListener("abort", stop);
    request.send(file.slice(offset, offset + PIECE));
  });
}

function path(upload) {
  return new URL(upload, location.origin).pathname.replace("/api/v1", "");
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

function rest(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

function inBase64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text.slice(-200))));
}

function refusal(code) {
  return {
    file_type_not_allowed: "Files of this kind are not taken",
    file_too_demanding: "It is too large to be shown",
    checksum_mismatch: "It was damaged on the way",
  }[code] ?? "It can't be read";
}

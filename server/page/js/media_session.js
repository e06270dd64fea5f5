/** Opens one WHIP or WHEP session over HTTP and says when it is over (RFC 9725, draft-ietf-wish-whep-04). */

import { ask, authorization, send } from "./api.js";

const CONNECT_MS = 15_000;
const DISCONNECTED_MS = 4_000; // a change of network heals within that; the server's consent lasts 30 s

const DEPENDENCIES = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

let known = { iceServers: [], until: 0 };

/** A connection that may go through the TURN servers of the platform: who gathers must know of them before. */
export async function newConnection() {
  if (Date.now() >= known.until) {
    const { ice_servers, lifetime_s } = await ask("GET", "/ice_servers").catch(() => ({ ice_servers: [], lifetime_s: 0 }));
    known = { iceServers: ice_servers, until: Date.now() + (lifetime_s * 1000) / 2 };
  }
  return new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: known.iceServers });
}

/** Where a stream is published or watched. @param {"whip"|"whep"} kind @param {string} stream */
export function endpointOf(kind, stream) {
  return `/${kind}/${encodeURIComponent(stream)}`;
}

/** Chromium can tell and be told which frames need which, and offers it where it is asked to: layers of AV1 take it. */
function offerDependencies(connection) {
  for (const transceiver of connection.getTransceivers()) {
    const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
    const told = extensions.find(({ uri }) => uri === DEPENDENCIES);
    if (!told) continue;
    told.direction = "sendrecv";
    transceiver.setHeaderExtensionsToNegotiate(extensions);
  }
}

/**
 * The offer goes out without candidates: the server is ICE-lite, names its own address in the answer and learns ours
 * from our checks.
 *
 * @param {string} endpoint of WHIP or WHEP
 * @param {RTCPeerConnection} connection with its transceivers
 * @returns {Promise<{over: Promise<"closed"|"failed">, connected: Promise<boolean>, close: () => void, address: URL}>}
 *   `over` is "closed" when the server ended it; throws Problem when it does not let us in
 */
export async function openMediaSession(endpoint, connection) {
  offerDependencies(connection);
  await connection.setLocalDescription();
  const address = new URL(endpoint, location.origin);
  const headers = { ...authorization(), "Content-Type": "application/sdp" };
  let response;
  try {
    response = await send(address.href, { method: "POST", headers, body: connection.localDescription.sdp });
  } catch (problem) {
    connection.close();
    throw problem;
  }
  const session = new URL(response.headers.get("Location"), address);
  const end = () => fetch(session, { method: "DELETE", headers: authorization(), keepalive: true }).catch(() => {});
  addEventListener("pagehide", end);
  const close = () => {
    removeEventListener("pagehide", end);
    connection.close();
    end();
  };
  try {
    await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
  } catch (error) {
    close();
    throw error;
  }
  return { ...lifeOf(connection), close, address: session };
}

/** @param {RTCPeerConnection} connection */
function lifeOf(connection) {
  let settle, connect;
  const over = new Promise((resolve) => (settle = resolve));
  const connected = new Promise((resolve) => (connect = resolve));
  over.then(() => connect(false));
  let timer = setTimeout(() => settle("failed"), CONNECT_MS);
  const look = () => {
    clearTimeout(timer);
    const state = connection.connectionState;
    if (state === "connected") connect(true);
    else if (state === "failed" || state === "closed") settle("failed");
    else timer = setTimeout(() => settle("failed"), state === "disconnected" ? DISCONNECTED_MS : CONNECT_MS);
  };
  connection.addEventListener("connectionstatechange", look);
  // When the server says goodbye only the DTLS transport tells, and connectionState goes on as "connected".
  for (const { sender, receiver } of connection.getTransceivers()) {
    const transport = sender.transport ?? receiver.transport;
    transport?.addEventListener("statechange", () => transport.state === "closed" && settle("closed"));
  }
  return { over, connected };
}

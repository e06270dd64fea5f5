/** Says what became of a one-to-one's money, to both of its people. */

import { clockface, inWords } from "./clock.js";
import { inMoney, learnAssets } from "./money.js";

/** Why a request came to nothing. */
const WITHDRAWN = {
  declined: "The streamer said no.",
  cancelled: "The request was taken back.",
  expired: "Nobody accepted it in time.",
  missed: "The viewer did not come in time.",
  left: "The viewer left.",
  access_revoked: "The viewer may not watch any more.",
  mode_changed: "The stream is no longer one where this can be asked.",
  stream_ended: "The stream ended.",
  setup_timeout: "One side's camera did not start in time.",
  kyf_denied: "What was asked about the viewer was not disclosed.",
  server_restarted: "The server had to start anew.",
};

/**
 * Tell each result that money depended on.
 * @param {import("./socket.js").Socket} socket
 * @param {string} stream
 * @param {(text: string) => void} tell
 */
export function followSettlements(socket, stream, tell) {
  socket.on("one_to_one.settled", async (event) => {
    if (event.stream !== stream || event.asset === null) return;
    await learnAssets().catch(() => {});
    tell(resultInWords(event));
  });
}

/** @param {{reason: string, delivered_s: number, asset: string, captured: string, refunded: string}} event */
function resultInWords({ reason, delivered_s, asset, captured, refunded }) {
  const back = inMoney({ asset, units: refunded });
  if (captured === "0") return `Nothing was charged for the one-to-one, ${back} went back. ${WITHDRAWN[reason] ?? ""}`.trim();
  const rest = refunded === "0" ? "nothing went back" : `${back} went back`;
  const took = delivered_s < 100 ? inWords(delivered_s) : `${clockface(delivered_s)} minutes`;
  return `The one-to-one took ${took}: ${inMoney({ asset, units: captured })} charged, ${rest}.`;
}

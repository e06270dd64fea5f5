/** Says of calls what people call it. */

import { inWords } from "./clock.js";

const OVER = {
  connection_lost: "the connection was lost",
  cancelled: "taken back",
  declined: "declined",
  missed: "not answered",
  busy: "busy",
  interrupted: "cut off",
  internal_error: "broken off",
};

/** What the entry of a call says. @param {any} card @param {boolean} mine whether I called */
export function callIn({ video, state, reason, seconds }, mine) {
  const kind = video ? "Video call" : "Voice call";
  if (state === "ringing") return `${kind}: ringing`;
  if (state === "running") return `${kind}: going on`;
  if (state === "live") return "Live now";
  if (seconds > 0) return `${kind}: ${inWords(seconds)}`;
  if (!mine && ["missed", "cancelled", "busy"].includes(reason)) return `Missed ${kind.toLowerCase()}`;
  return `${kind}: ${OVER[reason] ?? "ended"}`;
}

/** Why a call is over, for who was in it. @param {any} call */
export function whyOver({ reason, seconds }) {
  if (seconds > 0 && reason === "ended") return `The call has ended after ${inWords(seconds)}.`;
  return { missed: "Nobody answered.", declined: "Your call was declined.", busy: "They are busy.", cancelled: "The call was taken back.", connection_lost: "The connection was lost." }[reason] ?? "The call has ended.";
}

const FOR = { members: "for the group", followers: "for followers, too", everyone: "for everyone" };

/** What the entry of a stream says. @param {any} card */
export function liveIn({ state, audience, seconds }) {
  return state === "live" ? `Live now, ${FOR[audience]}` : `Was live for ${inWords(seconds)}`;
}

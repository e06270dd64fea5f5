/** Says which of the two in a one-to-one is heard. */

import { byId, say } from "./dom.js";

const HEARD_DB = 60; // below the loudest there can be: what is quieter is a room in which nobody speaks

/** @param {import("./socket.js").Socket} socket @param {string} stream @param {string} me */
export function followSpeaking(socket, stream, me) {
  socket.on("room.speaking", (event) => event.stream === stream && say(byId("call-speaking"), words(event, me)));
}

/** @param {{speaker: string|null, levels: Object<string, number>}} event */
function words({ speaker, levels }, me) {
  if (speaker === null || (levels[speaker] ?? 127) > HEARD_DB) return "";
  return speaker === me ? "You are heard." : "The other one is speaking.";
}

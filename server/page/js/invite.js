/** Where an invitation's link lands: uses it, and leads to the stream. */

import { byId, say } from "./dom.js";
import { codeOf, redeem } from "./invite_code.js";
import { dressPage, leadTo, waysIn } from "./shell.js";

const session = dressPage();
const KEY = "mesi.invitation"; // kept in this tab over the log-in, since no server is to see it in an address
const code = location.hash.length > 1 ? codeOf(location.hash) : sessionStorage.getItem(KEY) ?? "";

async function use() {
  sessionStorage.removeItem(KEY);
  try {
    const { stream, state } = await redeem(code);
    const address = `/watch?stream=${encodeURIComponent(stream)}`;
    if (state === "granted") return location.replace(address);
    say(byId("title"), "The streamer was asked");
    say(byId("text"), "This invitation needs the streamer's yes. Wait on the stream's page: it opens by itself.");
    return leadTo(["Go to the stream", address, "strong"]);
  } catch (error) {
    say(byId("title"), "This invitation does not work");
    say(byId("text"), error.code === "invite_unknown" ? "It has run out, was used up or taken back, or its link is not whole. Ask whoever sent it for a new one." : error.message);
    return leadTo(["See who is live", "/"]);
  }
}

if (!code) {
  say(byId("title"), "No invitation");
  say(byId("text"), "The link is not whole: what follows # is missing.");
} else if (session === null) {
  say(byId("title"), "You are invited");
  say(byId("text"), "Log in, or make an account. Then the stream opens.");
  sessionStorage.setItem(KEY, code);
  leadTo(...waysIn());
} else use();

/** Where a tip link leads: to whom, with which suggestion. Opening it gives nothing; a tip is asked about first. */

import { ask } from "./api.js";
import { byId, say, show } from "./dom.js";
import { dressPage, leadTo, waysIn } from "./shell.js";
import { TipBar } from "./tips.js";

const code = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const path = `/tip_links/${encodeURIComponent(code)}`;
const session = dressPage();

async function open() {
  let link;
  try {
    link = await ask("GET", path);
  } catch (error) {
    return deadEnd(error);
  }
  document.title = `Tip ${link.to} · mesi`;
  say(byId("title"), `${link.to} is glad about tips`);
  say(byId("note"), `“${link.note}”`);
  show(byId("note"), link.note !== "");
  if (session === null) {
    say(byId("text"), "Log in to tip. Nothing is charged before you have said yes to an amount.");
    return leadTo(...waysIn());
  }
  if (link.to === session.account.name) {
    say(byId("text"), "This link is yours: others tip you here.");
    return leadTo(["Your page", pageOf(link.to), "strong"]);
  }
  say(byId("text"), "Nothing is charged before you have said yes to an amount.");
  ask("POST", `${path}/visits`).catch(() => {}); // only its owner's count lacks one then
  new TipBar(byId("tips"), link.to, { link: code, suggested: link.suggested, gone: () => deadEnd({ code: "tip_link_unknown" }) }).show(true);
  return leadTo([`See ${link.to}'s page`, pageOf(link.to), "quiet"]);
}

/** Whom its owner blocked sees what a link shows that is none. */
function deadEnd(error) {
  document.title = "Tip · mesi";
  show(byId("note"), false);
  const gone = error.code === "tip_link_unknown";
  say(byId("title"), gone ? "This link leads nowhere" : "The link could not be looked at");
  say(byId("text"), gone ? "It was taken back, has run out, or is not whole. Nothing was charged." : `${error.message}. Nothing was charged.`);
  return gone ? leadTo(["See who is live", "/"]) : leadTo(["Try again", location.pathname, "strong"]);
}

function pageOf(name) {
  return `/u/${encodeURIComponent(name)}`;
}

open();

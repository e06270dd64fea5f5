/** Where a tip link leads: to whom, with which suggestion. Opening it gives nothing; a tip is asked about first. */

import { ask } from "./api.js";
import { byId, make, say, show } from "./dom.js";
import { logInAddress } from "./identity.js";
import { dressPage } from "./shell.js";
import { TipBar } from "./tips.js";

const code = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const path = `/tip_links/${encodeURIComponent(code)}`;
const session = dressPage();

async function open() {
  let link;
  try {
    link = await ask("GET", path);
  } catch (error) {
    say(byId("title"), "This link leads nowhere");
    say(byId("text"), error.code === "tip_link_unknown" ? "It was taken back, has run out, or is not whole. Nothing was charged." : error.message);
    return lead("/", "See who is live");
  }
  document.title = `Tip ${link.to} · mesi`;
  say(byId("title"), `${link.to} is glad about tips`);
  say(byId("note"), `“${link.note}”`);
  show(byId("note"), link.note !== "");
  if (session === null) {
    say(byId("text"), "Log in to tip. Nothing is charged before you have said yes to an amount.");
    return lead(logInAddress(), "Log in");
  }
  if (link.to === session.account.name) {
    say(byId("text"), "This link is yours: others tip you here.");
    return lead(`/u/${encodeURIComponent(link.to)}`, "Your page");
  }
  say(byId("text"), "Nothing is charged before you have said yes to an amount.");
  ask("POST", `${path}/visits`).catch(() => {}); // only its owner's count lacks one then
  const bar = new TipBar(byId("tips"), link.to, { link: code });
  await bar.load();
  await bar.suggest(link.suggested);
  return undefined;
}

function lead(address, label) {
  byId("lead").replaceChildren(make("a", { href: address, class: "button strong" }, label));
  show(byId("lead"), true);
}

open();

/** Somebody's page: to follow and tip; to its owner also the desk where menu, goals and links are made. */

import { ask } from "./api.js";
import { arch, busy, byId, make, say, show } from "./dom.js";
import { FollowButton } from "./follow.js";
import { Goals } from "./goals.js";
import { learnAssets, read } from "./money.js";
import { offerAssets } from "./purse.js";
import { connect, dressPage } from "./shell.js";
import { TipLinks } from "./tip_links.js";
import { TipMenu } from "./tip_menu.js";
import { TipBar } from "./tips.js";

const name = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const session = dressPage();

async function open() {
  const socket = connect(session);
  let profile;
  try {
    profile = await ask("GET", `/profiles/${encodeURIComponent(name)}`);
  } catch (error) {
    return shut(error.code === "account_unknown" ? `Nobody is called ${name} here.` : error.message);
  }
  document.title = `${profile.name} · mesi`;
  say(byId("name"), profile.name);
  byId("arch").append(arch(profile.name));
  show(byId("on-air"), profile.stream !== null);
  if (profile.stream) byId("on-air").href = `/watch?stream=${encodeURIComponent(profile.stream.id)}`;
  const mine = profile.id === session.account.id;
  const goals = new Goals(byId("goals"), profile.name, { mine });
  socket.on("goal", (event) => mine && goals.take(event));
  show(byId("profile"), true);
  if (mine) await openDesk(goals);
  else {
    new FollowButton(() => {}).show(profile, session.account.id);
    const bar = new TipBar(byId("tips"), profile.name, { done: () => goals.refresh() });
    await Promise.all([goals.refresh(), bar.load()]);
  }
  return undefined;
}

/** @param {Goals} goals */
async function openDesk(goals) {
  await learnAssets();
  for (const select of document.querySelectorAll("#own select[name=asset]")) offerAssets(select);
  const form = byId("goal-form");
  const fault = form.querySelector(".fault");
  form.onsubmit = (event) => {
    event.preventDefault();
    const { title, amount, asset } = form.elements;
    return busy(form.querySelector("[type=submit]"), async () => {
      show(fault, false);
      try {
        await ask("POST", "/goals", { title: title.value, amount: read(amount.value, asset.value) });
        title.value = amount.value = "";
        await goals.refresh();
      } catch (error) {
        say(fault, error.message);
        show(fault, true);
      }
    });
  };
  show(byId("own"), true);
  await Promise.all([goals.refresh(), new TipMenu(session.account.name).refresh(), new TipLinks().refresh()]);
}

function shut(text) {
  byId("shut").replaceChildren(text, " ", make("a", { href: "/" }, "See who is live"));
  show(byId("shut"), true);
}

if (session) open();
else show(byId("shut"), true);

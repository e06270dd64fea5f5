/** Somebody's page: to see live, follow and tip; to its owner also the desk where menu, goals and links are made. */

import { ask } from "./api.js";
import { dayAndTime, serverNow } from "./clock.js";
import { arch, busy, byId, say, show } from "./dom.js";
import { FollowButton } from "./follow.js";
import { Goals } from "./goals.js";
import { learnAssets, offerAssets, read } from "./money.js";
import { complain } from "./notices.js";
import { openBlock, openReport } from "./reporting.js";
import { connect, dressPage, shut, waysIn } from "./shell.js";
import { TipLinks } from "./tip_links.js";
import { TipMenu } from "./tip_menu.js";
import { TipBar } from "./tips.js";
import { MODES } from "./words.js";

const name = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const session = dressPage();

class ProfilePage {
  #stream = "";

  /** @param {import("./socket.js").Socket} socket @param {any} profile */
  constructor(socket, profile) {
    document.title = `${profile.name} · mesi`;
    say(byId("name"), profile.name);
    byId("arch").append(arch(profile.name));
    const mine = profile.id === session.account.id;
    this.goals = new Goals(byId("goals"), profile.name, { mine });
    socket.on("goal", (event) => mine && this.goals.take(event));
    this.#showStream(profile.stream);
    socket.on("directory.delta", ({ stream, card }) => this.#followStream(profile.id, stream, card));
    socket.on("welcome", () => this.#watch(socket));
    this.#watch(socket);
    addEventListener("focus", () => this.goals.refresh());
    show(byId("profile"), true);
    if (mine) this.#openDesk();
    else {
      new FollowButton(() => {}).show(profile, session.account.id);
      byId("write").href = `/messages?with=${encodeURIComponent(profile.name)}`;
      show(byId("write"), true);
      this.#keepAway(profile.name);
      new TipBar(byId("tips"), profile.name, { done: () => this.goals.refresh() }).show(true);
      this.#showSubscription(profile.id);
    }
    this.goals.refresh();
  }

  /** Learn of streams as they start and end, and look at what may have been missed. */
  async #watch(socket) {
    try {
      await socket.request("watch_directory");
      this.#showStream((await ask("GET", `/profiles/${encodeURIComponent(name)}`)).stream);
      await this.goals.refresh();
    } catch (error) {
      if (error.code === "account_unknown") location.reload();
      else if (error.code !== "disconnected") complain(error); // the next connection asks again
    }
  }

  #followStream(owner, stream, card) {
    if (card?.streamer.id === owner || stream === this.#stream) this.#showStream(card);
  }

  /** @param {import("./wire.js").Card|null} card */
  #showStream(card) {
    this.#stream = card?.id ?? "";
    show(byId("on-air"), card !== null);
    show(byId("off-air"), card === null);
    if (card === null) return;
    byId("on-air").href = card.streamer.id === session.account.id ? "/live" : `/watch?stream=${encodeURIComponent(card.id)}`;
    say(byId("on-air-title"), card.title);
    say(byId("on-air-mode"), MODES[card.mode].name);
    byId("on-air-mode").dataset.mode = card.mode;
    say(byId("on-air-viewers"), `${card.viewers.toLocaleString()} watching`);
  }

  #keepAway(name) {
    byId("report").onclick = () => openReport({ kind: "account", name }, name);
    byId("block").onclick = () => openBlock(name, () => location.reload());
    for (const id of ["report", "block"]) show(byId(id), true);
  }

  async #showSubscription(id) {
    try {
      const { subscriptions } = await ask("GET", "/subscriptions?limit=200");
      const found = subscriptions.find((each) => each.id === id && (each.expires_at === null || each.expires_at > serverNow()));
      show(byId("subscription"), found !== undefined);
      if (found) say(byId("subscription"), `You are subscribed, tier ${found.tier}${found.expires_at === null ? "" : `, until ${dayAndTime(found.expires_at)}`}.`);
    } catch (error) {
      complain(error);
    }
  }

  async #openDesk() {
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
          await this.goals.refresh();
        } catch (error) {
          say(fault, error.message);
          show(fault, true);
        }
      });
    };
    try {
      await learnAssets();
    } catch (error) {
      complain(error);
      return;
    }
    for (const select of document.querySelectorAll("#own select[name=asset]")) offerAssets(select);
    show(byId("own"), true);
    show(byId("own-links"), true);
    ask("GET", "/mod/role").then(() => show(byId("to-review"), true), () => {}); // there is none for who does not review
    await Promise.all([new TipMenu(session.account.name).refresh(), new TipLinks().refresh()]);
  }
}

async function open() {
  const socket = connect(session);
  try {
    new ProfilePage(socket, await ask("GET", `/profiles/${encodeURIComponent(name)}`));
  } catch (error) {
    shut(error.code === "account_unknown" ? `Nobody is called ${name} here` : error.message, ["See who is live", "/"]);
  }
  show(byId("loading"), false);
}

if (session) open();
else {
  show(byId("loading"), false);
  shut(`Log in to see ${name}'s page`, ...waysIn());
}

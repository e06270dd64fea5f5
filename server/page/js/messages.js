/** The messenger's page: who has written, one conversation, and what comes while it is open. */

import { ask } from "./api.js";
import { learnTicket } from "./attachments.js";
import { Calls } from "./calls.js";
import { busy, byId, make, say, show } from "./dom.js";
import { openNewGroup } from "./group_dialogs.js";
import { learnAssets } from "./money.js";
import { complain } from "./notices.js";
import { Presence } from "./presence.js";
import { openPrivacy } from "./privacy.js";
import { connect, dressPage, shut, waysIn } from "./shell.js";
import { Talk } from "./talk.js";
import { TalkFeed } from "./talk_feed.js";
import { Talks, titleOf } from "./talks.js";

class MessengerPage {
  /** @param {import("./socket.js").Socket} socket @param {import("./identity.js").Session} session */
  constructor(socket, session) {
    const presence = new Presence(socket);
    this.talks = new Talks(session.account.id, (id) => this.open(id), presence);
    this.calls = new Calls(session.account.id, (id) => this.#titleOf(id));
    socket.ringing.hears = (call) => this.calls.take(call);
    socket.ringing.answers = (call, withVideo) => this.#answer(call.conversation, call.id, withVideo);
    this.talk = new Talk(socket, session.account, presence, {
      changed: (id) => this.talks.refresh(id),
      closed: () => this.close(),
      forward: () => this.talks.all(),
      call: (id, video) => this.calls.start(id, video),
      calling: () => this.calls.conversation,
      comeIn: (id, call, withVideo) => this.#answer(id, call, withVideo),
    });
    const feed = new TalkFeed(socket);
    feed.on("message", (entry) => this.#take(socket, session, entry));
    feed.on("conversation", (entry) => this.#renew(entry.subject));
    feed.on("anew", () => this.#fetchAll());
    byId("start-form").onsubmit = (event) => this.#start(event);
    byId("find-form").onsubmit = (event) => this.#find(event);
    byId("new-group").onclick = () => openNewGroup((id) => this.open(id));
    byId("privacy").onclick = () => openPrivacy().catch(complain);
    byId("back").onclick = () => this.close();
    addEventListener("popstate", () => this.#follow());
    show(byId("messenger"), true);
  }

  /** @param {string} id @param {number} [seq] a message to show */
  async open(id, seq) {
    const address = `/messages?c=${encodeURIComponent(id)}`;
    if (location.pathname + location.search !== address) history.pushState(null, "", address);
    await this.#show(id, seq);
  }

  close() {
    history.pushState(null, "", "/messages");
    this.#follow();
  }

  async #answer(conversation, call, withVideo) {
    try {
      await this.calls.answer(call, withVideo);
      await this.open(conversation);
    } catch (error) {
      complain(error);
    }
  }

  #titleOf(id) {
    const talk = this.talks.all().find((each) => each.id === id);
    return talk ? titleOf(talk) : "";
  }

  async #fetchAll() {
    await learnAssets().catch(complain); // amounts of tips can be written then
    await learnTicket().catch(complain);
    await this.talks.fetch();
    await this.#follow();
  }

  /** Show what the address says. */
  async #follow() {
    const given = new URLSearchParams(location.search);
    const name = given.get("with");
    if (name) await this.#writeTo(name);
    else if (given.get("c")) await this.#show(given.get("c"));
    else {
      this.talk.leave();
      this.talks.choose("");
    }
  }

  async #show(id, seq) {
    try {
      const found = await this.talks.refresh(id);
      if (!found) return this.close();
      this.talks.choose(id);
      await this.talk.open(found, seq);
    } catch (error) {
      complain(error);
    }
  }

  async #renew(id) {
    try {
      this.talk.renew(id, await this.talks.refresh(id));
    } catch (error) {
      complain(error);
    }
  }

  #take(socket, session, { type, subject, data }) {
    this.talk.take(subject, data.seq, data.message ?? null); // what I hid myself comes without one
    if (type === "message.created" && data.message && data.message.from.id !== session.account.id && !this.talk.reads(subject))
      socket.request("conversation.mark", { conversation: subject, delivered: data.seq }).catch(() => {});
    this.talks.refreshSoon(subject);
  }

  #start(event) {
    event.preventDefault();
    const { name } = event.target.elements;
    return busy(event.target.querySelector("[type=submit]"), async () => {
      if (await this.#writeTo(name.value.trim())) name.value = "";
    });
  }

  async #writeTo(name) {
    try {
      const { id } = await ask("PUT", `/conversations/direct/${encodeURIComponent(name)}`);
      if (new URLSearchParams(location.search).has("with")) history.replaceState(null, "", `/messages?c=${encodeURIComponent(id)}`);
      await this.open(id);
      return true;
    } catch (error) {
      complain(error);
      if (new URLSearchParams(location.search).has("with")) this.close();
      return false;
    }
  }

  #find(event) {
    event.preventDefault();
    const text = event.target.elements.text.value.trim();
    const list = byId("found");
    return busy(event.target.querySelector("[type=submit]"), async () => {
      show(list, text !== "");
      if (!text) return;
      try {
        const { messages } = await ask("GET", `/messages?text=${encodeURIComponent(text)}`);
        list.replaceChildren(...messages.map((each) => make("li", {}, make("button", { type: "button", onclick: () => this.open(each.conversation, each.seq) },
          make("strong", {}, each.from.name), make("span", { class: "line" }, each.text)))));
        if (!messages.length) list.replaceChildren(make("li", { class: "soft" }, "Nothing found."));
      } catch (error) {
        say(list, error.message);
      }
    });
  }
}

const session = dressPage();
if (session) new MessengerPage(connect(session), session);
else shut("Log in to see your messages", ...waysIn());

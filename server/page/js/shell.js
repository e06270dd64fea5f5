/** What every page has around it: who is logged in, the state of the connection, and the way out. */

import { renew, turnOff } from "./device.js";
import { byId, make, show } from "./dom.js";
import { current, forget, leaveForLogIn, logInAddress } from "./identity.js";
import { complain, notice } from "./notices.js";
import { openNotices } from "./notifying.js";
import { Ringing } from "./ringing.js";
import { Socket } from "./socket.js";

const CASE_TOLD = {
  open: "A case of yours is being looked at.",
  decided: "A case of yours is decided.",
  appealed: "A case of yours is looked at anew.",
  closed: "A case of yours is decided for good.",
};

/** Fill the head of the page. @returns {import("./identity.js").Session|null} */
export function dressPage() {
  const session = current();
  const place = byId("who");
  if (session === null) {
    const address = location.pathname === "/account" ? "/account" : logInAddress();
    place.replaceChildren(make("a", { href: address, class: "button small" }, "Log in"));
    return null;
  }
  const leave = async () => {
    await turnOff().catch(() => {}); // whoever uses this device next is told nothing of mine
    forget();
    location.assign("/");
  };
  const here = (address) => (location.pathname === address ? "page" : null);
  const own = `/u/${encodeURIComponent(session.account.name)}`;
  document.querySelector(".top nav").append(
    make("a", { href: "/messages", "aria-current": here("/messages") }, "Messages"),
    make("a", { href: "/wallet", "aria-current": here("/wallet") }, "Wallet"),
  );
  place.replaceChildren(
    make("a", { class: "name", href: own, title: "Your page", "aria-current": here(own) }, session.account.name),
    make("button", { type: "button", class: "quiet small", id: "notices-button", onclick: () => openNotices(session.account.id).catch(complain) }, "Notices"),
    make("button", { type: "button", class: "quiet small", onclick: leave }, "Log out"),
  );
  return session;
}

/** Say where to go from here. @param {...[string, string, string?]} ways label, address and class of each */
export function leadTo(...ways) {
  byId("lead").replaceChildren(...ways.map(([label, address, kind = ""]) => make("a", { href: address, class: `button ${kind}` }, label)));
  show(byId("lead"), true);
}

/** Show instead of the page why there is none, and where to go. @param {string} text @param {...[string, string, string?]} ways */
export function shut(text, ...ways) {
  byId("shut-text").textContent = text;
  leadTo(...ways);
  show(byId("shut"), true);
}

/** The ways of who is not logged in. @returns {[string, string, string?][]} */
export function waysIn() {
  return [["Log in", logInAddress(), "strong"], ["Create an account", logInAddress("new")]];
}

/** Open the signalling socket of a page whose user is logged in. @param {import("./identity.js").Session} session */
export function connect(session) {
  const socket = new Socket(session.token);
  socket.ringing = new Ringing(socket, session.account.id);
  const badge = byId("connection");
  socket.on("connection", (state) => {
    badge.textContent = state === "lost" ? "Connection lost. Trying again …" : "";
    show(badge, state === "lost");
  });
  socket.on("no_session", leaveForLogIn);
  socket.on("suspended", () => {
    badge.replaceChildren("Your account is suspended. ", make("a", { href: "/cases" }, "See why"));
    show(badge, true);
  });
  const told = (key, text, address) => location.pathname === address || notice(text, { key, action: { label: "Look", run: () => location.assign(address) } });
  socket.on("case", ({ state }) => told("case", CASE_TOLD[state], "/cases"));
  socket.on("review.waiting", () => told("review", "A case waits for a reviewer.", "/review"));
  const saySight = () => socket.request("page.in_sight", { in_sight: document.visibilityState === "visible" }).catch(() => {});
  socket.on("welcome", saySight);
  addEventListener("visibilitychange", saySight);
  renew(session.account.id).catch(() => {}); // the next visit does it
  socket.open();
  return socket;
}

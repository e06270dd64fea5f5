/** The dialog of notices: on this device or not, and of what. */

import { ask } from "./api.js";
import { busy, make } from "./dom.js";
import { canBeTold, deviceOf, turnOff, turnOn } from "./device.js";
import { openDialog } from "./dialogs.js";

const KINDS = [
  ["message", "Somebody writes to me"],
  ["mention", "Somebody mentions me"],
  ["call", "Somebody calls"],
  ["live", "Somebody I follow goes live"],
  ["tip", "I get a tip"],
  ["ticket", "News of tickets: mine, or for my shows"],
  ["case", "A case of mine is decided"],
];

/** @param {string} account whose page this is */
export async function openNotices(account) {
  const known = await ask("GET", "/me/push");
  const ticks = KINDS.map(([kind, words]) =>
    make("label", { class: "tick" }, make("input", { type: "checkbox", name: kind, checked: known.kinds[kind] }), ` ${words}`));
  const others = make("p", { class: "soft small" });
  const dialog = openDialog("Notices", [
    make("p", {}, "This device can tell you what happens while this page is closed."),
    make("p", { class: "soft small" }, "A notice says who, and where to look. It never shows what was written, amounts, or what is private."),
    here(account, known, (text) => dialog.fault(text), others),
    others,
    make("fieldset", {}, make("legend", {}, "Tell me when"), ...ticks),
  ], {
    yes: "Save",
    run: () => ask("PUT", "/me/push/kinds", Object.fromEntries(KINDS.map(([kind], place) => [kind, ticks[place].querySelector("input").checked]))),
  });
}

/** The switch of this device. */
function here(account, known, fault, others) {
  if (!canBeTold()) return make("p", { class: "callout" }, "This browser can't be told of anything while the page is closed.");
  const says = make("span", { class: "grow", role: "status" });
  const turn = make("button", { type: "button", class: "small", id: "turn-device" });
  const draw = () => {
    const mine = deviceOf(account);
    const rest = known.devices.filter(({ id }) => id !== mine).length;
    says.textContent = mine ? "This device is told." : "This device is not told.";
    turn.textContent = mine ? "Turn off here" : "Turn on here";
    others.textContent = rest ? `Besides, ${rest === 1 ? "another device of yours is" : `${rest} other devices of yours are`} told.` : "";
  };
  turn.onclick = () => busy(turn, async () => {
    fault("");
    try {
      await (deviceOf(account) ? turnOff() : turnOn(account, known.public_key));
      known.devices = (await ask("GET", "/me/push")).devices;
    } catch (error) {
      fault(error.message);
    }
    draw();
  });
  draw();
  return make("p", { class: "row" }, says, turn);
}

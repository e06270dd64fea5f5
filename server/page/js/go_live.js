/** Takes a group live: for its members with one click, for others where that is chosen. */

import { ask } from "./api.js";
import { openDialog } from "./dialogs.js";
import { make } from "./dom.js";

const AUDIENCES = [
  ["members", "The members of this group", "Nobody else finds it."],
  ["followers", "My followers and subscribers, too", "They find it among the streams that are live."],
  ["everyone", "Everyone", "It is public."],
];

/**
 * @param {string} conversation
 * @param {string} [audience]
 * @param {string[]} [named] who may be live, too, by id
 * @returns {Promise<any>} the stream that the group has on
 */
export function goLive(conversation, audience = "members", named = []) {
  return ask("POST", `/conversations/${encodeURIComponent(conversation)}/go_live`, { audience, named });
}

/**
 * Ask for whom and with whom, then go live.
 * @param {string} conversation
 * @param {(live: any) => void} gone
 * @param {{id: string, name: string}[]} [others] who may be asked to be live, too
 */
export function chooseAudience(conversation, gone, others = []) {
  const choices = AUDIENCES.map(([value, label, words]) =>
    make("label", { class: "choice" }, make("input", { type: "radio", name: "audience", value, checked: value === "members" }), ` ${label} `, make("span", { class: "soft" }, words)));
  const dialog = openDialog("Go live for …", [make("p", { class: "soft" }, "What is written in the group stays in the group."), make("fieldset", {}, make("legend", { class: "unseen" }, "For whom"), ...choices), others.length ? beside(others) : ""], {
    yes: "Go live",
    run: async () => gone(await goLive(conversation, dialog.element.querySelector("[name=audience]:checked").value, [...dialog.element.querySelectorAll("[name=named]:checked")].map(({ value }) => value))),
  });
}

function beside(others) {
  const choices = others.map(({ id, name }) => make("label", { class: "choice" }, make("input", { type: "checkbox", name: "named", value: id }), ` ${name}`));
  return make("fieldset", {}, make("legend", {}, "Who is asked to be live, too"), ...choices);
}

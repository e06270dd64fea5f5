/** Uses an invitation: by its link, or by its code typed in. */

import { ask } from "./api.js";
import { openDialog } from "./dialogs.js";
import { make } from "./dom.js";

/** The address that an invitation is sent as. What follows # is not sent to any server, so no log has it. */
export function inviteAddress(code) {
  return `${location.origin}/invite#${encodeURIComponent(code)}`;
}

/** What was pasted: the whole link or the code alone. */
export function codeOf(pasted) {
  const text = pasted.trim();
  return decodeURIComponent(text.slice(text.indexOf("#") + 1));
}

/** @param {string} code @returns {Promise<{stream: string, state: "granted"|"pending"}>} */
export function redeem(code) {
  return ask("POST", "/invites/redeem", { code });
}

/** Ask for the invitation that somebody has. */
export function openRedeem() {
  const field = make("input", { name: "code", required: true, maxlength: 400, autocomplete: "off", autocapitalize: "none", spellcheck: "false" });
  openDialog("Use an invitation", [make("label", {}, "Its link, or its code ", field)], {
    yes: "Use it",
    run: async () => {
      const { stream, state } = await redeem(codeOf(field.value));
      if (state === "pending") throw new Error("The streamer was asked to let you in. You need not do anything more.");
      const address = `/watch?stream=${encodeURIComponent(stream)}`;
      if (location.pathname + location.search !== address) location.assign(address);
    },
  });
}

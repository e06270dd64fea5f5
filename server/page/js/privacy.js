/** The dialog of what others see of me in the messenger, and who may reach me. */

import { ask } from "./api.js";
import { make } from "./dom.js";
import { openDialog } from "./dialogs.js";

const WHO = [["everyone", "Everybody"], ["followed", "Whom I follow"], ["nobody", "Nobody"]];

export async function openPrivacy() {
  const known = await ask("GET", "/me/messenger");
  const choice = (name, words) => make("label", {}, words, make("select", { name }, ...WHO.map(([value, label]) => make("option", { value, selected: known[name] === value }, label))));
  const seen = choice("presence", "Who of those I write with sees that I am here, and when I last was");
  const reached = choice("reached_by", "Who may begin to write to me, or invite me to groups");
  const receipts = make("label", { class: "tick" }, make("input", { type: "checkbox", name: "receipts", checked: known.receipts }), " Others see what I have read");
  openDialog("Privacy", [seen, reached, receipts], {
    yes: "Save",
    run: () => ask("PUT", "/me/messenger", {
      presence: seen.querySelector("select").value,
      reached_by: reached.querySelector("select").value,
      receipts: receipts.querySelector("input").checked,
    }),
  });
}

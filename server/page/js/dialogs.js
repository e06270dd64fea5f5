/** Opens a dialog that is made for one question, and removes it afterwards. */

import { busy, make, show } from "./dom.js";

let made = 0;

/**
 * @typedef {{close: (answer?: string) => void, fault: (text: string) => void, element: HTMLDialogElement}} Dialog
 * @param {string} title
 * @param {(Node|string)[]} content
 * @param {{yes: string, run: () => Promise<any>, no?: string, danger?: boolean, closed?: (answer: string) => void}} how
 *   `no` is "" where there is nothing to decide; `run` does it; what it throws is told in the dialog, which then stays open
 * @returns {Dialog}
 */
export function openDialog(title, content, { yes, run, no = "Cancel", danger = false, closed }) {
  const id = `dialog-title-${++made}`;
  const fault = make("p", { class: "fault", role: "alert", hidden: true });
  const confirm = make("button", { type: "submit", class: danger ? "danger yes" : "strong yes" }, yes);
  const cancel = make("button", { type: "button", class: "quiet no", hidden: no === "" }, no);
  const form = make("form", {}, make("h2", { id }, title), ...content, fault, make("div", { class: "row end" }, cancel, confirm));
  const element = make("dialog", { "aria-labelledby": id }, form);
  const dialog = {
    element,
    close: (answer = "") => element.close(answer),
    fault: (text) => {
      fault.textContent = text;
      show(fault, text !== "");
    },
  };
  cancel.onclick = () => dialog.close("no");
  form.onsubmit = (event) => {
    event.preventDefault();
    return busy(confirm, async () => {
      dialog.fault("");
      try {
        await run();
        dialog.close("yes");
      } catch (error) {
        dialog.fault(error.message);
      }
    });
  };
  element.onclose = () => {
    element.remove();
    closed?.(element.returnValue);
  };
  document.body.append(element);
  element.showModal();
  return dialog;
}

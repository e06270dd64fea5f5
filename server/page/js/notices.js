/** Shows short notices above the page; screen readers hear each when it comes. */

import { countDown } from "./clock.js";
import { byId, make } from "./dom.js";

const SHOWN_MS = 9000; // long enough to read two lines; what matters longer is sticky
const MOST = 4;

/**
 * @param {string} text
 * @param {{kind?: "info"|"warn"|"bad", key?: string, endsAt?: number|null, sticky?: boolean,
 *   action?: {label: string, run: () => void}}} [how] a notice with a key takes the place of the former one
 */
export function notice(text, { kind = "info", key = "", endsAt = null, sticky = false, action } = {}) {
  const shelf = byId("notices");
  if (key) withdraw(key);
  const left = endsAt === null ? null : make("time", { class: "count" });
  const element = make("div", { class: `notice ${kind}`, data: { key } }, make("p", {}, text, left ? " " : null, left));
  if (left) countDown(left, endsAt);
  if (action) element.append(make("button", { type: "button", class: "small", onclick: action.run }, action.label));
  const close = () => element.remove();
  element.append(make("button", { type: "button", class: "quiet small", "aria-label": "Dismiss this notice", onclick: close }, "×"));
  shelf.append(element);
  while (shelf.childElementCount > MOST) shelf.firstElementChild.remove();
  if (!sticky) setTimeout(close, SHOWN_MS);
}

/** Take a notice back that no longer holds. */
export function withdraw(key) {
  for (const element of byId("notices").querySelectorAll("[data-key]")) {
    if (element.dataset.key === key) element.remove();
  }
}

/** Copy what a field holds, and say so; where the browser lets no page copy, select it. @param {any} field @param {string} text */
export async function copyFrom(field, text) {
  try {
    await navigator.clipboard.writeText(field.value);
    notice(text, { key: "copied" });
  } catch {
    field.focus();
    field.select();
  }
}

/** Tell a failed action. @param {Error} error @param {string} [doing] */
export function complain(error, doing = "") {
  notice(doing ? `${doing}: ${error.message}` : error.message, { kind: "bad", key: "complaint" });
}

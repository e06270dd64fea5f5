/** Finds, makes and shows elements: the few things that every page does with its document. */

/** @param {string} id @returns {any} the element, which is known to be there */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * Make an element. Properties that start with "on" are listeners, `data` is its dataset, the rest are attributes;
 * text is always text, never markup.
 * @param {string} tag
 * @param {Record<string, any>} [given]
 * @param {...(Node|string|null)} children
 * @returns {any}
 */
export function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** @param {HTMLElement} element @param {boolean} visible */
export function show(element, visible) {
  element.hidden = !visible;
}

/** Set text only where it differs, so that screen readers hear it once. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** While `work` runs its button can't be pressed again; where the focus was it stays. */
export async function busy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return undefined;
  button.setAttribute("aria-disabled", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** A colour's hue that always belongs to one name. */
export function hueOf(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

/** The arch that stands for a streamer where there is no picture. */
export function arch(name) {
  const element = make("span", { class: "arch", "aria-hidden": "true" }, [...name][0]?.toUpperCase() ?? "·");
  element.style.setProperty("--hue", String(hueOf(name)));
  return element;
}

/** Tells what is new of a call from what is older than what is known: an answer may come after the event that followed it. */

const MOST = 100; // calls to remember

/** @type {Map<string, number>} */
const known = new Map();

/** Whether a call was not heard of as it became later; none goes on once it has ended. @param {{id: string, version: number, state: string}} call */
export function isNews({ id, version, state }) {
  const is = state === "ended" ? Infinity : version;
  if (is < (known.get(id) ?? 0)) return false;
  known.delete(id); // and goes to the end
  known.set(id, is);
  if (known.size > MOST) known.delete(known.keys().next().value);
  return true;
}

/** This device among those that notices are pushed to: turned on by a click, renewed by each visit, off after logging out. */

import { ask } from "./api.js";

const KEY = "mesi.device"; // {id, account}: what the server calls this device, and whose notices it gets
let isOff = false; // whoever logs out while the device is being renewed does not want it to come back
let telling = Promise.resolve(); // the server where this device is reached

/** Whether this browser can be told at all. */
export function canBeTold() {
  return "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
}

/** @returns {{id: string, account: string}|null} */
function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}

/** The id of this device where it gets an account's notices. @param {string} account @returns {string|null} */
export function deviceOf(account) {
  const known = kept();
  return canBeTold() && Notification.permission === "granted" && known?.account === account ? known.id : null;
}

/** Ask the person, then the browser, then tell the server. To be called by a click. @param {string} account @param {string} key */
export async function turnOn(account, key) {
  if ((await Notification.requestPermission()) !== "granted")
    throw new Error("Your browser does not let this site show notices. You can change that in its settings for this site.");
  isOff = false;
  await subscribe(account, key);
}

/** Have nothing pushed here any more. */
export async function turnOff() {
  isOff = true;
  await telling;
  const known = kept();
  localStorage.removeItem(KEY);
  const registration = await navigator.serviceWorker?.getRegistration("/");
  await (await registration?.pushManager?.getSubscription())?.unsubscribe();
  if (known) await ask("DELETE", `/me/push/devices/${encodeURIComponent(known.id)}`).catch(() => {});
}

/** Say that this device is still there, where it was turned on: browsers change where they are reached. @param {string} account */
export async function renew(account) {
  if (!deviceOf(account)) return;
  const { public_key: key } = await ask("GET", "/me/push");
  await subscribe(account, key);
}

async function subscribe(account, key) {
  await navigator.serviceWorker.register("/sw.js");
  const registration = await navigator.serviceWorker.ready;
  const wanted = { userVisibleOnly: true, applicationServerKey: bytes(key) };
  let found;
  try {
    found = await registration.pushManager.subscribe(wanted);
  } catch {
    await (await registration.pushManager.getSubscription())?.unsubscribe(); // one for another server's key
    found = await registration.pushManager.subscribe(wanted);
  }
  const { endpoint, keys } = found.toJSON();
  if (isOff) return;
  const told = ask("POST", "/me/push/devices", { endpoint, keys }).then(({ id }) => localStorage.setItem(KEY, JSON.stringify({ id, account })));
  telling = told.catch(() => {}); // heard of by who asked
  await told;
}

function bytes(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

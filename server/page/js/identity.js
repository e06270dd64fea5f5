/** Remembers who is logged in, on this device or in this tab, and nothing else. */

const KEY = "mesi.session";

/**
 * @typedef {{token: string, expires_at: number, account: import("./wire.js").Person}} Session
 * @returns {Session|null} the log-in that still holds
 */
export function current() {
  const written = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  if (written === null) return null;
  try {
    const session = JSON.parse(written);
    return session.token && session.expires_at > Date.now() ? session : null;
  } catch {
    return null;
  }
}

/**
 * @param {Session} session
 * @param {boolean} keep on this device; else until the tab closes
 */
export function remember(session, keep) {
  forget();
  (keep ? localStorage : sessionStorage).setItem(KEY, JSON.stringify(session));
}

export function forget() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

/** Where to log in, or sign up, and come back from to this page. @param {""|"new"} [way] */
export function logInAddress(way = "") {
  return `/account?${way ? `${way}&` : ""}next=${encodeURIComponent(location.pathname + location.search)}`;
}

/** Leave for the log-in page; what runs here until then changes nothing. */
export function leaveForLogIn() {
  forget();
  location.replace(logInAddress());
}

/** Where the log-in page leads afterwards: an address of this site only. */
export function nextAddress() {
  const next = new URLSearchParams(location.search).get("next") ?? "/";
  const there = new URL(next, location.origin);
  return there.origin === location.origin ? there.pathname + there.search : "/";
}

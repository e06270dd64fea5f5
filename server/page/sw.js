/**
 * The service worker of the page: shows notices that are pushed while no page is looked at, and leads to what they are about.
 * It keeps no copy of anything, and answers no request.
 */

const SAID = {
  message: ({ who, group }) => [who, group ? "New message in a group" : "New message"],
  mention: ({ who }) => [who, "Mentioned you"],
  call: ({ who, group }) => [who, group ? "Calls a group" : "Calls you"],
  live: ({ who, title }) => [`${who} is live`, title ?? ""],
  tip: () => ["You got a tip", ""],
  ticket: () => ["News of a ticket", ""],
  case: () => ["News of a case of yours", ""],
};

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  const words = event.data.json();
  const [title, body] = SAID[words.kind]?.(words) ?? ["Something happened", ""];
  event.waitUntil(
    self.registration.showNotification(title, { body, tag: words.tag, renotify: true, timestamp: words.at, icon: "/icon.svg", data: { url: words.url } }),
  );
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(lead(new URL(event.notification.data.url, self.location.origin)));
});

/** Go there in a page that is open, or in a new one. @param {URL} address */
async function lead(address) {
  if (address.origin !== self.location.origin) return;
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find(({ url }) => url === address.href) ?? pages.find(({ url }) => new URL(url).pathname === address.pathname);
  if (!page) await self.clients.openWindow(address.href);
  else {
    await page.focus();
    if (page.url !== address.href) await page.navigate(address.href);
  }
}

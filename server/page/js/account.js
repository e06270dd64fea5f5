/** The account page: log in or sign up, and go back to where one came from. */

import { Problem, ask } from "./api.js";
import { busy, byId, make, show } from "./dom.js";
import { current, nextAddress, remember } from "./identity.js";
import { dressPage } from "./shell.js";

const form = byId("account-form");
const fault = byId("fault");

function choose() {
  const signingUp = form.elements.way.value === "sign_up";
  byId("submit").textContent = signingUp ? "Create account" : "Log in";
  form.elements.password.autocomplete = signingUp ? "new-password" : "current-password";
  show(byId("password-hint"), signingUp);
  show(fault, false);
}

async function submit(event) {
  event.preventDefault();
  const credentials = { name: form.elements.name.value.trim(), password: form.elements.password.value };
  show(fault, false);
  await busy(byId("submit"), async () => {
    try {
      if (form.elements.way.value === "sign_up") await ask("POST", "/accounts", credentials);
      remember(await ask("POST", "/sessions", credentials), form.elements.keep.checked);
      location.assign(nextAddress());
    } catch (error) {
      fault.textContent = inWords(error);
      show(fault, true);
      form.elements.password.focus();
    }
  });
}

function inWords(error) {
  if (!(error instanceof Problem)) return String(error);
  if (error.code === "bad_credentials" || error.code === "no_session") return "Name and password don't belong together.";
  if (error.code === "name_taken") return "Someone already has this name. Is it you? Then log in instead.";
  return error.message;
}

const session = dressPage();
if (session) {
  byId("title").textContent = `You are logged in as ${current().account.name}`;
  form.replaceWith(make("p", {}, make("a", { href: nextAddress(), class: "button" }, "Go on")));
} else {
  form.addEventListener("change", choose);
  form.addEventListener("submit", submit);
  if (new URLSearchParams(location.search).has("new")) form.elements.way.value = "sign_up";
  choose();
  byId("submit").disabled = false; // sooner, a browser would send the password by itself, in an address
  form.elements.name.focus();
}

/** Proves something about oneself: the claim of an issuer that this site trusts is handed in here. */

import { ask } from "./api.js";
import { openDialog } from "./dialogs.js";
import { make } from "./dom.js";
import { complain, notice } from "./notices.js";

/** @param {string} why what has to be proven @param {() => void} done */
export async function openProof(why, done) {
  let nonce;
  try {
    nonce = await ask("POST", "/kyf/nonces");
  } catch (error) {
    return complain(error);
  }
  const token = make("textarea", { name: "token", rows: 4, required: true, spellcheck: "false", autocapitalize: "none" });
  const number = make("input", { readonly: true, value: nonce.nonce, onfocus: () => number.select() });
  openDialog("Prove it", [
    make("p", {}, `${why} A service that checks documents says so in a signed claim. Nothing but its answer (your age group, your region, or that you are you) is kept here.`),
    make("label", {}, "Give the service this number ", number),
    make("label", {}, "Its signed claim ", token),
  ], {
    yes: "Hand it in",
    run: async () => {
      await ask("POST", "/kyf/claims", { token: token.value.trim() });
      notice("It is proven. What it opens, opens by itself.", { key: "proof" });
      done();
    },
  });
  return undefined;
}

/** One's own part in a call on this device: calling, coming in, what is sent, the question for pictures, hanging up. */

import { ask, newKey } from "./api.js";
import { CallTiles } from "./call_tiles.js";
import { whyOver } from "./call_words.js";
import { isNews } from "./call_versions.js";
import { clockface, serverNow } from "./clock.js";
import { busy, byId, say, show } from "./dom.js";
import { chooseAudience, goLive } from "./go_live.js";
import { complain, notice } from "./notices.js";
import { thisDevice } from "./ringing.js";
import { openSource, stopSource } from "./sources.js";
import { Publishing } from "./whip.js";

const TICK_MS = 500;
const STATES = { ringing: "Ringing …", running: "", live: "Live" };

export class Calls {
  /** @type {any} */ #call = null;
  /** @type {MediaStream|null} */ #media = null;
  /** @type {Publishing|null} */ #publishing = null;
  #wantsCamera = false;
  #declined = false; // to be live beside who took the call there
  #opening = 0; // counts attempts to get camera and microphone
  #tiles;

  /** @param {string} me @param {(conversation: string) => string} titleOf */
  constructor(me, titleOf) {
    this.me = me;
    this.titleOf = titleOf;
    this.#tiles = new CallTiles(byId("call-tiles"), me);
    byId("call-end").onclick = () => busy(byId("call-end"), () => this.#do("POST", "/hang_up"));
    byId("call-microphone").onclick = () => this.#toggle("audio");
    byId("call-camera").onclick = () => this.#toggleCamera();
    byId("call-agree").onclick = () => busy(byId("call-agree"), () => this.#agree(true));
    byId("call-agree-only").onclick = () => busy(byId("call-agree-only"), () => this.#agree(false));
    byId("call-refuse").onclick = () => busy(byId("call-refuse"), () => this.#do("PUT", "/video", { agreed: false }));
    byId("call-live").onclick = () => busy(byId("call-live"), () => goLive(this.conversation).catch(complain));
    byId("call-live-with").onclick = () => chooseAudience(this.conversation, () => {}, this.#call.parties.filter(({ account, stage }) => account.id !== this.me && stage === "in").map(({ account }) => account));
    byId("call-host-yes").onclick = () => busy(byId("call-host-yes"), () => this.#beLive());
    byId("call-host-no").onclick = () => {
      this.#declined = true;
      this.#draw();
    };
    byId("call-live-end").onclick = () => busy(byId("call-live-end"), () => ask("POST", `/streams/${encodeURIComponent(this.#call.stream)}/end`).catch(complain));
    setInterval(() => this.#showTime(), TICK_MS);
  }

  /** The conversation in which the call is, "" without one. */
  get conversation() {
    return this.#call?.conversation ?? "";
  }

  /** Call the others of a conversation. @param {string} conversation @param {boolean} video */
  async start(conversation, video) {
    this.#wantsCamera = video;
    const call = await ask("POST", `/conversations/${encodeURIComponent(conversation)}/calls`, { device: thisDevice(), client_txn: newKey(), video });
    if (call.state === "ended") notice(whyOver(call));
    else this.take(call);
  }

  /** Answer, or come in later. @param {string} id @param {boolean} withVideo */
  async answer(id, withVideo) {
    this.#wantsCamera = withVideo;
    this.take(await ask("POST", `/calls/${encodeURIComponent(id)}/answer`, { device: thisDevice() }));
  }

  /** A call is as it is now. */
  take(call) {
    if (!isNews(call)) return;
    const mine = call.parties.find(({ account }) => account.id === this.me);
    const here = mine?.device === thisDevice() && ["joining", "in", "lost"].includes(mine.stage);
    if (call.state !== "ended" && here) this.#go(call);
    else if (this.#call?.id === call.id) this.#leave(call, mine);
  }

  #go(call) {
    const isNew = this.#call?.id !== call.id;
    if (isNew && this.#call) this.#leave({ state: "ended", reason: "ended", seconds: 0 }, null); // it is over where one is in another
    const before = this.#call;
    this.#call = call;
    show(byId("call"), true);
    document.body.classList.add("calling");
    if (isNew) byId("call-title").focus();
    if (call.state === "live") {
      if (before?.state !== "live") this.#broadcast();
    } else if (isNew || before.state === "live" || (call.video && !before.video)) this.#send();
    this.#draw();
  }

  #leave(call, mine) {
    const { state, named, conversation } = this.#call;
    if (state === "live" && named.includes(this.me) && this.#media) ask("DELETE", `/conversations/${encodeURIComponent(conversation)}/go_live/me`).catch(() => {});
    this.#call = null;
    this.#opening++;
    this.#silence();
    this.#tiles.clear();
    show(byId("call"), false);
    document.body.classList.remove("calling");
    if (call.state === "ended") notice(whyOver(call));
    else notice(mine?.why === "removed" ? "You are not in this call any more." : "You have left the call.");
  }

  /** Get microphone, and the camera where it is wanted and agreed on, and send them. */
  async #send() {
    const turn = ++this.#opening;
    const { id, video } = this.#call;
    try {
      const media = await openSource({ source: "camera", height: 480, withVideo: video && this.#wantsCamera });
      if (turn !== this.#opening) return stopSource(media);
      this.#silence();
      this.#media = media;
      const publishing = (this.#publishing = new Publishing("", media, { maxBitrate: 900_000, endpoint: `/api/v1/calls/${encodeURIComponent(id)}/whip` }));
      publishing.start();
      this.#draw();
    } catch (error) {
      complain(error);
      if (turn === this.#opening && !this.#media) await this.#do("POST", "/hang_up");
    }
  }

  /** The call has become a stream: who took it live sends there what was sent here, and nobody else sends anything. */
  #broadcast() {
    this.#opening++;
    this.#declined = false;
    this.#publishing?.stop();
    this.#publishing = null;
    if (this.#onAir && this.#media) (this.#publishing = new Publishing(this.#call.stream, this.#media, { maxBitrate: 1_500_000 })).start();
    else this.#silence();
  }

  /** Send into the stream what would have been sent in the call: asked by who took it there, and agreed to here. */
  async #beLive() {
    const turn = ++this.#opening;
    const { conversation, stream } = this.#call;
    try {
      const media = await openSource({ source: "camera", height: 480, withVideo: this.#call.video && this.#wantsCamera });
      if (turn !== this.#opening) return stopSource(media);
      this.#media = media;
      await ask("PUT", `/conversations/${encodeURIComponent(conversation)}/go_live/me`);
      if (turn !== this.#opening) return this.#silence();
      (this.#publishing = new Publishing(stream, media, { maxBitrate: 900_000 })).start();
    } catch (error) {
      this.#silence();
      complain(error);
    }
    this.#draw();
  }

  get #onAir() {
    return this.#call?.starter === this.me;
  }

  #silence() {
    this.#publishing?.stop();
    stopSource(this.#media);
    this.#publishing = this.#media = null;
  }

  #toggle(kind) {
    for (const track of this.#tracks(kind)) track.enabled = !track.enabled;
    this.#draw();
  }

  async #toggleCamera() {
    if (this.#tracks("video").length) return this.#toggle("video");
    this.#wantsCamera = true;
    if (this.#call.video) return this.#send();
    return busy(byId("call-camera"), () => this.#do("POST", "/video"));
  }

  async #agree(withCamera) {
    this.#wantsCamera = withCamera;
    await this.#do("PUT", "/video", { agreed: true });
  }

  async #do(method, path, body) {
    if (!this.#call) return;
    try {
      this.take(await ask(method, `/calls/${encodeURIComponent(this.#call.id)}${path}`, body));
    } catch (error) {
      if (error.code === "call_unknown" || error.code === "call_ended") this.#leave({ state: "ended", reason: "ended", seconds: 0 }, null);
      else complain(error);
    }
  }

  #draw() {
    const call = this.#call;
    if (!call) return;
    say(byId("call-title"), `${call.video ? "Video call" : "Call"}: ${this.titleOf(call.conversation)}`);
    say(byId("call-state"), call.asked === this.me ? "Asked for pictures …" : STATES[call.state]);
    const asks = call.asked !== null && call.asked !== this.me;
    const asker = call.parties.find(({ account }) => account.id === call.asked)?.account.name;
    show(byId("call-asked"), asks);
    say(byId("call-asked-text"), asks ? `${asker} would like a video call.` : "");
    const live = call.state === "live";
    const asked = live && call.named.includes(this.me) && !this.#media && !this.#declined;
    show(byId("call-host"), asked);
    say(byId("call-host-text"), asked ? `${call.parties.find(({ account }) => account.id === call.starter)?.account.name} asks you to be live, too.` : "");
    show(byId("call-live-with"), call.kind === "group" && call.state === "running");
    show(byId("call-live"), call.kind === "group" && call.state === "running");
    show(byId("call-live-end"), live && this.#onAir);
    show(byId("call-live-note"), live);
    say(byId("call-live-note"), live ? (this.#onAir ? "You are live. The call goes on when you end the stream." : this.#media ? "You are live, too." : "Your camera and microphone are off. The call goes on when the stream ends.") : "");
    this.#label("call-microphone", "audio");
    this.#label("call-camera", "video");
    this.#tiles.show(call, this.#media);
    this.#showTime();
  }

  #label(id, kind) {
    const tracks = this.#tracks(kind);
    byId(id).setAttribute("aria-pressed", String(tracks.some((track) => track.enabled)));
    show(byId(id), tracks.length > 0 || (kind === "video" && this.#call.state === "running"));
  }

  #tracks(kind) {
    return this.#media?.getTracks().filter((track) => track.kind === kind) ?? [];
  }

  #showTime() {
    const met = this.#call?.met_at ?? null;
    byId("call-time").textContent = met === null ? "" : clockface(Math.max(0, Math.floor((serverNow() - met) / 1000)));
  }
}

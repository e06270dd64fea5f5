// The WHIP publisher and the player of Eyevinn, as they come from npm; who drives the page calls these.
import { WebRTCPlayer } from "@eyevinn/webrtc-player";
import { WHIPClient } from "@eyevinn/whip-web-client";

let client, player;

window.publish = async (endpoint, authkey) => {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  client = new WHIPClient({ endpoint, opts: { authkey, iceServers: [] } });
  await client.setIceServersFromEndpoint();
  await client.ingest(stream);
};
window.stop = () => client.destroy();

window.watch = async (url, token) => {
  const video = document.querySelector("video");
  player = new WebRTCPlayer({ video, type: "whep", iceServers: [] });
  await player.load(new URL(url), `Bearer ${token}`);
  player.unmute();
};
window.leave = () => player.unload();

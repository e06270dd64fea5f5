// The WebRTC of @roamhq/wrtc: publishes over WHIP, or watches over WHEP until enough is decoded, which it then reports.
import { createRequire } from "node:module";

const require = createRequire(new URL("../browser/package.json", import.meta.url));
const { RTCPeerConnection, nonstandard } = require("@roamhq/wrtc");
const [role, url, token] = process.argv.slice(2);
const FRAMES = 20;
setTimeout(() => process.exit(1), 40_000); // a process that nobody ends stops by itself

const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
const decoded = { audio: 0, video: 0 };
if (role === "publish") publish();
else watch();
await connection.setLocalDescription(await connection.createOffer());
const response = await fetch(url, {
  method: "POST",
  headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/sdp" },
  body: connection.localDescription.sdp,
});
if (!response.ok) {
  console.log(JSON.stringify({ refused: await response.json() }));
  process.exit(1);
}
await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });

function publish() {
  const picture = new nonstandard.RTCVideoSource();
  const sound = new nonstandard.RTCAudioSource();
  connection.addTransceiver(picture.createTrack(), { direction: "sendonly" });
  connection.addTransceiver(sound.createTrack(), { direction: "sendonly" });
  const [width, height] = [320, 240];
  const data = new Uint8ClampedArray((width * height * 3) / 2);
  const samples = new Int16Array(480);
  let turn = 0;
  setInterval(() => {
    data.fill((turn = (turn + 5) % 250), 0, width * height);
    picture.onFrame({ width, height, data });
  }, 40);
  setInterval(() => {
    for (let place = 0; place < samples.length; place++) samples[place] = 8000 * Math.sin(place / 8);
    sound.onData({ samples, sampleRate: 48000, bitsPerSample: 16, channelCount: 1, numberOfFrames: 480 });
  }, 10);
}

function watch() {
  connection.addTransceiver("audio", { direction: "recvonly" });
  connection.addTransceiver("video", { direction: "recvonly" });
  const report = () => {
    if (Math.min(decoded.audio, decoded.video) < FRAMES) return;
    console.log(JSON.stringify({ decoded }));
    process.exit(0);
  };
  connection.ontrack = ({ track }) => {
    const sink = track.kind === "video" ? new nonstandard.RTCVideoSink(track) : new nonstandard.RTCAudioSink(track);
    sink.onframe = sink.ondata = () => {
      decoded[track.kind]++;
      report();
    };
  };
}

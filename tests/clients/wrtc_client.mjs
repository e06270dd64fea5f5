// The WebRTC of @roamhq/wrtc: publishes over WHIP, or watches over WHEP and reports what is decoded.
// The line "restart" has it restart ICE; any other is said in the chat, and as whom is reported once it is heard.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { negotiate, openEvents, restartIce } from "./session.mjs";

const require = createRequire(new URL("../browser/package.json", import.meta.url));
const { RTCPeerConnection, nonstandard } = require("@roamhq/wrtc");
const [role, url, token] = process.argv.slice(2);
const FRAMES = 20; // before the first report
const REPORTED = 5; // frames between two
setTimeout(() => process.exit(1), 60_000); // a process that nobody ends stops by itself

const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
const decoded = { audio: 0, video: 0 };
const say = words => console.log(JSON.stringify(words));
const talk = role === "watch" && openEvents(connection);
if (role === "publish") publish();
else watch();
const session = await negotiate(connection, url, token);
createInterface({ input: process.stdin }).on("line", async line => {
  if (line === "restart") await restartIce(session);
  else say({ heard: await talk(line) });
});

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
  connection.ontrack = ({ track }) => {
    const sink = track.kind === "video" ? new nonstandard.RTCVideoSink(track) : new nonstandard.RTCAudioSink(track);
    sink.onframe = sink.ondata = () => {
      decoded[track.kind]++;
      if (track.kind === "audio" || decoded.video % REPORTED || Math.min(decoded.audio, decoded.video) < FRAMES) return;
      say({ decoded });
    };
  };
}

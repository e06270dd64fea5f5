// werift, WebRTC in TypeScript: watches over WHEP and reports how many packets came, each counted once.
import { createRequire } from "node:module";
import { negotiate } from "./session.mjs";

const require = createRequire(new URL("../browser/package.json", import.meta.url));
const { RTCPeerConnection, useH264, useOPUS, useVP8 } = require("werift");
const [url, token] = process.argv.slice(2);
const PACKETS = 20; // before the first report
const REPORTED = 5; // packets between two
setTimeout(() => process.exit(1), 60_000); // a process that nobody ends stops by itself

const connection = new RTCPeerConnection({
  bundlePolicy: "max-bundle",
  iceServers: [],
  codecs: { audio: [useOPUS()], video: [useVP8(), useH264()] },
});
const received = { audio: new Set(), video: new Set() };
connection.onTrack.subscribe(track => {
  track.onReceiveRtp.subscribe(({ header: { sequenceNumber } }) => {
    received[track.kind].add(sequenceNumber);
    const counts = { audio: received.audio.size, video: received.video.size };
    if (track.kind === "audio" || counts.video % REPORTED || Math.min(counts.audio, counts.video) < PACKETS) return;
    console.log(JSON.stringify({ received: counts }));
  });
});
for (const kind of ["audio", "video"]) connection.addTransceiver(kind, { direction: "recvonly" });
await negotiate(connection, url, token);

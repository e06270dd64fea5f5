// A camera and a microphone that show a clapper board (see clapper.py), for whoever asks this page for them.

const PERIOD_MS = 1000, CLAP_MS = 200, FRAME_MS = 40;
const AHEAD_MS = 10; // what a canvas is captured sooner than sound of the same moment
const canvas = document.createElement("canvas");
canvas.width = 320;
canvas.height = 240;
const paint = canvas.getContext("2d");
const sound = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
const tone = new OscillatorNode(sound, { frequency: 1000 });
const gain = new GainNode(sound, { gain: 0 });
const microphone = new MediaStreamAudioDestinationNode(sound, { channelCount: 1, channelCountMode: "explicit" });
tone.connect(gain).connect(microphone);
tone.start();
const camera = canvas.captureStream().getVideoTracks()[0];

function show(isClap, number) {
  paint.fillStyle = isClap ? "rgb(255 255 255)" : "rgb(20 30 170)";
  paint.fillRect(0, 0, 320, 240);
  if (isClap) return;
  paint.fillStyle = "rgb(30 200 60)";
  paint.fillRect((number % 8) * 40, 120, 40, 120);
}

let number = 0;
setInterval(() => {
  const isClap = performance.now() % PERIOD_MS < CLAP_MS;
  gain.gain.setValueAtTime(isClap ? 0.5 : 0.002, sound.currentTime);
  setTimeout(show, AHEAD_MS, isClap, number++);
}, FRAME_MS);

navigator.mediaDevices.getUserMedia = async ({ audio, video }) => new MediaStream([
  ...(video ? [camera.clone()] : []),
  ...(audio ? [microphone.stream.getAudioTracks()[0].clone()] : []),
]);

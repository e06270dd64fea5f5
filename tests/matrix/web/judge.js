// Sees and hears a clapper board as a person at this page does: when it flashes and sounds, and whether all else is right.
// Times are performance.now()'s: what the screen shows and the sound card plays, and when, counts; no player is asked.

export const seen = (window.seen = { flashes: [], beeps: [], places: [], frames: 0, blue: null, white: null,
  h264: RTCRtpReceiver.getCapabilities("video").codecs.some(({ mimeType }) => mimeType === "video/H264") });
const small = document.createElement("canvas");
small.width = 32;
small.height = 24;
const paint = small.getContext("2d", { willReadFrequently: true });
let wasWhite = true;

export function look(source, at) {
  paint.drawImage(source, 0, 0, 32, 24);
  const { data } = paint.getImageData(0, 0, 32, 24);
  const pixel = (x, y) => [...data.slice((y * 32 + x) * 4, (y * 32 + x) * 4 + 3)];
  const top = pixel(16, 6);
  const isWhite = Math.min(...top) > 160;
  if (isWhite && !wasWhite) seen.flashes.push(at);
  wasWhite = isWhite;
  if (isWhite) {
    seen.white = top;
    return;
  }
  if (top[2] < 90) return; // nothing yet
  seen.blue = top;
  const place = [0, 1, 2, 3, 4, 5, 6, 7].find(each => pixel(each * 4 + 2, 18)[1] > 130);
  if (place !== undefined && seen.places.at(-1) !== place) seen.places.push(place);
  seen.frames += 1;
}

// Times are when `node`'s sound would be heard if it went straight to the sound card.
export async function listen(node) {
  const { context } = node;
  await context.audioWorklet.addModule("/ear.js");
  const ear = new AudioWorkletNode(context, "ear", { numberOfInputs: 1, numberOfOutputs: 1 });
  const mute = new GainNode(context, { gain: 0 });
  node.connect(ear).connect(mute).connect(context.destination);
  const played = navigator.userAgent.includes("Firefox") ? unaskedOutput(context) : () => context.getOutputTimestamp();
  ear.port.onmessage = ({ data }) => {
    const { performanceTime, contextTime } = played();
    seen.beeps.push([performanceTime + data.at - contextTime * 1000, data.purity]);
  };
}

// Firefox asks PulseAudio for its latency with the audio graph locked; when PulseAudio waits for the graph just then,
// both wait for ever, and the page with them. So there it is not asked: the buffer's 50 ms are nearly full.
// A busy page learns its context's time late, never early: the least late of the last moments counts.
const FIREFOX_LATENCY_MS = 40, LOOK_MS = 20, MOMENTS = 50;
function unaskedOutput(context) {
  const behind = [];
  setInterval(() => {
    behind.push(performance.now() - context.currentTime * 1000);
    if (behind.length > MOMENTS) behind.shift();
  }, LOOK_MS);
  return () => ({ performanceTime: Math.min(...behind) + FIREFOX_LATENCY_MS, contextTime: 0 });
}

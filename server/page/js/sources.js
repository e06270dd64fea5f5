/** Gets pictures and sound to publish: camera and microphone, the screen, or a test picture. */

const SOUND = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/**
 * @param {{source: "camera"|"screen"|"test", camera?: string, microphone?: string, height?: number, withVideo?: boolean,
 *   title?: string}} wanted device ids, "" for whichever the browser takes
 * @returns {Promise<MediaStream>} throws an Error with a message for people
 */
export async function openSource({ source, camera = "", microphone = "", height = 720, withVideo = true, title = "" }) {
  if (source === "test") return testPicture(title, withVideo);
  const sound = { ...SOUND, ...(microphone && { deviceId: { exact: microphone } }) };
  const picture = { height: { ideal: height }, frameRate: { ideal: 30 }, ...(camera && { deviceId: { exact: camera } }) };
  try {
    if (source === "camera") return await navigator.mediaDevices.getUserMedia({ audio: sound, video: withVideo && picture });
    const screen = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: true });
    if (screen.getAudioTracks().length) return screen;
    const voice = await navigator.mediaDevices.getUserMedia({ audio: sound });
    return new MediaStream([...screen.getTracks(), ...voice.getTracks()]);
  } catch (error) {
    throw new Error(WHY[error.name] ?? `The browser gave neither picture nor sound: ${error.message}`);
  }
}

const WHY = {
  NotAllowedError: "The browser was not allowed to use it. Allow camera and microphone beside the address, then try again.",
  NotFoundError: "There is no such camera or microphone on this device.",
  NotReadableError: "Another program is using the camera or microphone. Close it, then try again.",
  OverconstrainedError: "The chosen device is gone. Choose another one.",
  AbortError: "The device did not start. Try again.",
};

/** @param {MediaStream|null} media */
export function stopSource(media) {
  media?.getTracks().forEach((track) => track.stop());
}

/** The devices by kind; they have names once the browser was allowed to use one. */
export async function devices() {
  const found = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const of = (kind) => found.filter((device) => device.kind === kind && device.deviceId);
  return { cameras: of("videoinput"), microphones: of("audioinput") };
}

/** A moving picture with a clock, and a tone: to try things out without a camera. */
function testPicture(title, withVideo) {
  const sound = new AudioContext();
  sound.resume();
  const tone = new OscillatorNode(sound, { frequency: 330 });
  const quiet = new GainNode(sound, { gain: 0.08 });
  const out = sound.createMediaStreamDestination();
  tone.connect(quiet).connect(out);
  tone.start();
  const tracks = [...out.stream.getAudioTracks()];
  let timer = 0;
  if (withVideo) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [640, 360];
    const paint = canvas.getContext("2d");
    const draw = () => drawTestPicture(paint, title);
    draw();
    timer = setInterval(draw, 40);
    tracks.push(...canvas.captureStream(25).getVideoTracks());
  }
  const media = new MediaStream(tracks);
  const stopping = tracks[0].stop.bind(tracks[0]);
  tracks[0].stop = () => {
    clearInterval(timer);
    sound.close();
    stopping();
  };
  return media;
}

/** @param {CanvasRenderingContext2D} paint */
function drawTestPicture(paint, title) {
  const { width, height } = paint.canvas;
  const now = Date.now();
  const bars = 8;
  for (let bar = 0; bar < bars; bar++) {
    paint.fillStyle = `hsl(${((bar * 360) / bars + now / 50) % 360} 55% 55%)`;
    paint.fillRect((bar * width) / bars, 0, width / bars + 1, height);
  }
  const x = width / 2 + Math.sin(now / 900) * width * 0.38;
  paint.fillStyle = "#fff";
  paint.beginPath();
  paint.arc(x, height * 0.3, 26, 0, Math.PI * 2);
  paint.fill();
  paint.fillStyle = "#10211fd9";
  paint.fillRect(0, height * 0.55, width, height * 0.3);
  paint.fillStyle = "#fff";
  paint.textAlign = "center";
  paint.font = "600 56px ui-monospace, monospace";
  paint.fillText(new Date(now).toISOString().slice(11, 21), width / 2, height * 0.7);
  paint.font = "22px system-ui, sans-serif";
  paint.fillText(title || "Test picture", width / 2, height * 0.81, width * 0.9);
}

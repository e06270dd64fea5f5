// Looks at what a publisher hands to this browser's encoders, and at the times that it has put on it.
import { look, seen } from "/judge.js";
import { ToneFinder } from "/tone.js";

const finder = new ToneFinder();
const { encode: encodeSound } = AudioEncoder.prototype, { encode: encodePicture } = VideoEncoder.prototype;

AudioEncoder.prototype.encode = function encode(sound) {
  const samples = new Float32Array(sound.numberOfFrames);
  sound.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
  const found = finder.take(samples, sound.sampleRate, sound.timestamp / 1000);
  if (found) seen.beeps.push([found.at, found.purity]);
  return encodeSound.call(this, sound);
};

VideoEncoder.prototype.encode = function encode(picture, ...options) {
  look(picture, picture.timestamp / 1000);
  return encodePicture.call(this, picture, ...options);
};

/** Shows how loud a MediaStream is, so that one sees the microphone work. */

const EVERY_MS = 100;

/**
 * @param {HTMLMeterElement} meter from 0 to 1
 * @param {MediaStream} media
 * @returns {() => void} stops it
 */
export function meterLevel(meter, media) {
  if (!media.getAudioTracks().length) return () => {};
  const sound = new AudioContext();
  const analyser = new AnalyserNode(sound, { fftSize: 512 });
  sound.createMediaStreamSource(media).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    // A square root spreads speech over the scale; 0.3 is a loud voice.
    meter.value = Math.min(1, Math.sqrt(Math.sqrt(power) / 0.3));
  }, EVERY_MS);
  return () => {
    clearInterval(timer);
    meter.value = 0;
    sound.close();
  };
}

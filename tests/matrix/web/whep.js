// A WHEP viewer: a video element, and what it shows and plays is judged.
import { listen, look } from "/judge.js";

const video = document.querySelector("video");

window.offer = async () => {
  const connection = (window.connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
  connection.ontrack = ({ track, streams: [stream] }) => {
    video.srcObject = stream;
    video.play();
    if (track.kind === "audio") listen(new MediaStreamAudioSourceNode(new AudioContext(), { mediaStream: stream }));
  };
  connection.addTransceiver("audio", { direction: "recvonly" });
  connection.addTransceiver("video", { direction: "recvonly" });
  await connection.setLocalDescription();
  return connection.localDescription.sdp;
};
window.answer = sdp => window.connection.setRemoteDescription({ type: "answer", sdp });

const frame = (now, { expectedDisplayTime }) => {
  look(video, expectedDisplayTime);
  video.requestVideoFrameCallback(frame);
};
video.requestVideoFrameCallback(frame);

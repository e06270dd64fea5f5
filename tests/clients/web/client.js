// A browser as a WHIP publisher or WHEP viewer; who drives the page calls these.
import { negotiate, openEvents, restartIce } from "/session.js";

const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
let session;

window.publish = async (url, token) => {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 240 } });
  for (const track of stream.getTracks()) connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
  session = await negotiate(connection, url, token);
};
window.watch = async (url, token) => {
  const video = document.querySelector("video");
  video.srcObject = new MediaStream();
  connection.ontrack = ({ track }) => {
    video.srcObject.addTrack(track);
    video.play();
  };
  for (const kind of ["audio", "video"]) connection.addTransceiver(kind, { direction: "recvonly" });
  window.talk = openEvents(connection);
  session = await negotiate(connection, url, token);
};
window.restart = () => restartIce(session);

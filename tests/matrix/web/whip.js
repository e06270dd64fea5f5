// A WHIP publisher of this page's camera; who drives the page carries offer and answer.

window.offer = async () => {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  const connection = (window.connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
  for (const track of stream.getTracks()) connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
  await connection.setLocalDescription();
  return connection.localDescription.sdp;
};
window.answer = sdp => window.connection.setRemoteDescription({ type: "answer", sdp });

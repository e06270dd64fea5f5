// A WHIP or WHEP session (RFC 9725), in Node and in browsers alike: what its client asks of the server.

/** Send an offer and take the answer; returns what `restartIce` needs. */
export async function negotiate(connection, url, token) {
  await connection.setLocalDescription(await connection.createOffer());
  const response = await fetch(url, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/sdp" },
    body: connection.localDescription.sdp,
  });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  const answer = await response.text();
  await connection.setRemoteDescription({ type: "answer", sdp: answer });
  return { connection, answer, token, url: new URL(response.headers.get("Location"), url).href };
}

/** Open the channel of a stream's events; returns what says something in its chat, and tells as whom it was heard. */
export function openEvents(connection) {
  const channel = connection.createDataChannel("mesi.events");
  const heard = [];
  let stir = () => {};
  channel.onmessage = ({ data }) => {
    heard.push(JSON.parse(data));
    stir();
  };
  const hear = async wanted => {
    for (;;) {
      const found = heard.find(wanted);
      if (found) return found;
      await new Promise(resolve => (stir = resolve));
    }
  };
  return async text => {
    const { stream } = await hear(({ type }) => type === "stream.state");
    channel.send(JSON.stringify({ type: "chat", id: 1, stream, text, client_txn: text }));
    const said = await hear(event => event.type === "chat.message" && event.text === text);
    return said.from.name;
  };
}

/** Restart ICE (section 4.3.3): new credentials go in a fragment, and those of the server come back in one. */
export async function restartIce({ connection, answer, token, url }) {
  await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
  const { sdp } = connection.localDescription;
  const response = await fetch(url, {
    method: "PATCH",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*" },
    body: [sdp.match(/^m=.*$/m)[0], ...["mid", "ice-ufrag", "ice-pwd"].map(name => line(sdp, name)), ""].join("\r\n"),
  });
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
  const fragment = await response.text();
  for (const name of ["ice-ufrag", "ice-pwd"]) answer = answer.replaceAll(line(answer, name), line(fragment, name));
  await connection.setRemoteDescription({ type: "answer", sdp: answer });
}

function line(sdp, name) {
  return sdp.match(new RegExp(`^a=${name}:.*$`, "m"))[0].trim();
}

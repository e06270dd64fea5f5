"""Real Chromium publishes and watches: frames are decoded, sound arrives, and the cut is seen by the viewer."""

from __future__ import annotations

import json

import pytest
import trio

from media.door import Media, MediaSettings, Negotiated
from media.forwarding.admission import Grant, Holding
from media.forwarding.layers.wishes import Quality, Wish
from tests.clients.chromium import Page, open_pages
from tests.media.test_door import LIMITS, attribute

# A moving canvas and a tone need no camera and no permission.
PUBLISH = """
  const canvas = document.createElement('canvas'); canvas.width = WIDTH; canvas.height = WIDTH * 3 / 4;
  const paint = canvas.getContext('2d'); let turn = 0;
  // Many small pieces: congestion control finds out what a path carries only from what it has to send.
  setInterval(() => {
    for (let piece = 0; piece < PIECES; piece++) {
      paint.fillStyle = `hsl(${turn++ * 7 % 360} 90% 50%)`;
      paint.fillRect(piece * 37 % WIDTH, Math.random() * WIDTH, WIDTH / (1 + piece), WIDTH / (1 + piece));
    }
  }, 40);
  const sound = new AudioContext(), tone = sound.createOscillator(), out = sound.createMediaStreamDestination();
  tone.connect(out); tone.start();
  const stream = new MediaStream([...out.stream.getTracks(), ...canvas.captureStream(25).getTracks()]);
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  for (const track of stream.getTracks()) {
    track.contentHint = track.kind === 'video' ? HINT : '';
    const sendEncodings = track.kind === 'video' ? ENCODINGS : [{}];
    const sender = pc.addTransceiver(track, {direction: 'sendonly', streams: [stream], sendEncodings});
    if (track.kind === 'video') sender.setCodecPreferences(
      RTCRtpSender.getCapabilities('video').codecs.filter(c => [CODEC, 'video/rtx'].includes(c.mimeType)));
  }
  window.whenMade?.(pc);  // within the task that made it, or Chromium lets frames go by
  await pc.setLocalDescription(); return pc.localDescription.sdp;
"""
WATCH = """
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  const video = document.createElement('video'); document.body.append(video);
  const stream = video.srcObject = new MediaStream();
  pc.ontrack = event => { stream.addTrack(event.track); video.play(); };
  pc.addTransceiver('audio', {direction: 'recvonly'}); pc.addTransceiver('video', {direction: 'recvonly'});
  window.whenMade?.(pc);
  await pc.setLocalDescription(); return pc.localDescription.sdp;
"""
# Frames are sealed before they are cut into packets, and opened after they are put together, as pages do that let no
# server hear them. Ten octets of a picture and one of sound stay as they were: decoders and servers read them.
SEAL = """
  const worker = new Worker(URL.createObjectURL(new Blob([`
    let intact = 0, broken = 0;
    const sum = data => data.reduce((total, octet) => (total * 31 + octet) >>> 0, 7);
    const veil = (data, clear) => data.map((octet, place) => place < clear ? octet : octet ^ 0x5a);
    function transform(frame, controller) {
      const clear = 'type' in frame ? 10 : 1, data = new Uint8Array(frame.data);
      if (this.options === 'seal') {
        const sealed = new Uint8Array(data.length + 4);
        sealed.set(veil(data, clear));
        new DataView(sealed.buffer).setUint32(data.length, sum(data));
        frame.data = sealed.buffer;
      } else {
        const opened = veil(data.subarray(0, -4), clear);
        const told = new DataView(frame.data).getUint32(data.length - 4);
        if (told === sum(opened)) intact++; else broken++;
        frame.data = opened.buffer;
        postMessage({intact, broken});
      }
      controller.enqueue(frame);
    }
    onrtctransform = ({transformer: {readable, writable, options}}) =>
      readable.pipeThrough(new TransformStream({transform: transform.bind({options})})).pipeTo(writable);
  `])));
  worker.onmessage = ({data}) => window.opened = data;
  window.whenMade = pc => {
    for (const {sender, receiver, direction} of pc.getTransceivers())
      if (direction === 'sendonly') sender.transform = new RTCRtpScriptTransform(worker, 'seal');
      else receiver.transform = new RTCRtpScriptTransform(worker, 'open');
  };
"""
LAYERS = """
  [['q', 4], ['h', 2], ['f', 1]].map(([rid, by]) => ({rid, scaleResolutionDownBy: by, maxFramerate: 10}))
"""
ANSWER = "await pc.setRemoteDescription({type: 'answer', sdp: SDP});"
STATS = """
  const seen = {};
  (await pc.getStats()).forEach(s => { if (s.type === 'inbound-rtp')
    seen[s.kind] = {frames: s.framesDecoded, packets: s.packetsReceived, lost: s.packetsLost,
                    energy: s.totalAudioEnergy, width: s.frameWidth}; });
  return seen;
"""


def publishing(
    codec: str, *, width: int = 320, encodings: str = "[{}]", pieces: int | None = None, hint: str = "detail"
) -> str:
    """Return what the publisher's page runs; "detail" asks for fewer pictures when busy, not for smaller ones."""
    return (
        PUBLISH.replace("CODEC", repr(codec))
        .replace("WIDTH", str(width))
        .replace("ENCODINGS", encodings)
        .replace("PIECES", str(width if pieces is None else pieces))
        .replace("HINT", repr(hint))
    )


async def stats(page: Page) -> dict[str, dict[str, float]]:
    return await page.run(STATS)  # type: ignore[return-value]


async def decoded(page: Page, more_than: float) -> dict[str, dict[str, float]]:
    with trio.fail_after(20):
        while True:
            seen = await stats(page)
            if seen.get("video", {}).get("frames", 0) > more_than and seen["audio"]["packets"] > 10:
                return seen
            await trio.sleep(0.1)


def reached_by(protocol: str, answer: str) -> str:
    """Return an answer with the candidates of one protocol alone, as JSON."""
    lines = answer.splitlines(keepends=True)
    return json.dumps("".join(line for line in lines if "a=candidate:" not in line or f" {protocol} " in line))


async def restart_ice(media: Media, page: Page, watched: Negotiated) -> None:
    """Have a page restart ICE as after a change of network, and go on with the answer's new credentials."""
    offer = str(await page.run("pc.restartIce(); await pc.setLocalDescription(); return pc.localDescription.sdp;"))
    fresh = "".join(f"a={name}:{attribute(offer, name)}\r\n" for name in ("ice-ufrag", "ice-pwd"))
    assert media.is_ice_restart(watched.transport, fresh)
    _, fragment = media.restart_ice(watched.transport, fresh)
    answer = watched.answer_sdp
    for name in ("ice-ufrag", "ice-pwd"):
        answer = answer.replace(attribute(answer, name), attribute(fragment, name))
    await page.run(ANSWER.replace("SDP", json.dumps(answer)))
    with trio.fail_after(20):
        while media._endpoints.by_id[watched.transport].peer.local.ufrag != attribute(fragment, "ice-ufrag"):  # noqa: ASYNC110
            await trio.sleep(0.05)


@pytest.mark.parametrize(
    ("codec", "protocol", "is_sealed"),
    [
        ("video/VP8", "udp", True),
        ("video/VP9", "tcp", False),
        ("video/H264", "udp", False),
        ("video/AV1", "udp", False),
    ],
)
async def test_chromium_publishes_and_chromium_decodes_until_it_is_cut_off(
    codec: str, protocol: str, is_sealed: bool
) -> None:
    async with trio.open_nursery() as nursery, open_pages(2) as (publisher, viewer):
        media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        room = media.open_room(Grant.WELCOME)
        for page in (publisher, viewer):
            await page.run(SEAL if is_sealed else "")
        offer = await publisher.run(publishing(codec))
        answer = media.publish(room, "streamer", str(offer)).answer_sdp
        await publisher.run(ANSWER.replace("SDP", reached_by(protocol, answer)))
        offer = await viewer.run(WATCH)
        watched = media.watch(room, "streamer", str(offer), Holding(Grant.WELCOME))
        await viewer.run(ANSWER.replace("SDP", reached_by(protocol, watched.answer_sdp)))
        seen = await decoded(viewer, more_than=40)
        assert seen["video"]["lost"] == 0
        assert seen["audio"]["energy"] > 0
        assert media.counters()["ice_tcp_connections"] == (2 if protocol == "tcp" else 0)
        if codec == "video/H264":
            await restart_ice(media, viewer, watched)
            seen = await decoded(viewer, more_than=seen["video"]["frames"] + 25)
            assert seen["video"]["lost"] == 0
        if is_sealed:
            opened = await viewer.run("return window.opened")
            assert isinstance(opened, dict)
            assert opened["intact"] > 50
            assert opened["broken"] == 0

        media.require(room, Grant.WELCOME | Grant.TICKET)
        await media.fence()
        await trio.sleep(0.2)  # what had left before is counted by the browser by now
        before = await stats(viewer)
        await trio.sleep(0.5)
        after = await stats(viewer)
        assert [after[kind]["packets"] for kind in after] == [before[kind]["packets"] for kind in after]

        media.require(room, Grant.WELCOME)
        await decoded(viewer, more_than=after["video"]["frames"] + 10)
        nursery.cancel_scope.cancel()


async def watched_in(page: Page, width: int) -> None:
    """Wait until pictures of this width are decoded, and go on."""
    with trio.fail_after(30):
        while (await stats(page)).get("video", {}).get("width") != width:  # noqa: ASYNC110
            await trio.sleep(0.1)
    frames = (await stats(page))["video"]["frames"]
    await decoded(page, more_than=frames + 5)


@pytest.mark.parametrize("codec", ["video/VP8", "video/H264"])
async def test_chromium_s_simulcast_is_watched_in_the_layer_that_is_wished_for(codec: str) -> None:
    async with trio.open_nursery() as nursery, open_pages(2) as (publisher, viewer):
        media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        room = media.open_room(Grant.WELCOME)
        offer = await publisher.run(publishing(codec, width=960, encodings=LAYERS))
        answer = media.publish(room, "streamer", str(offer)).answer_sdp
        await publisher.run(ANSWER.replace("SDP", json.dumps(answer)))
        offer = await viewer.run(WATCH)
        watched = media.watch(room, "streamer", str(offer), Holding(Grant.WELCOME))
        await viewer.run(ANSWER.replace("SDP", json.dumps(watched.answer_sdp)))
        await watched_in(viewer, 960)
        media.prefer(watched.transport, Wish(Quality.LOW))
        await watched_in(viewer, 240)
        media.reserve_best(room, Grant.ENTITLED)
        media.prefer(watched.transport, Wish())
        await watched_in(viewer, 480)
        media.hold(watched.transport, Holding(Grant.WELCOME | Grant.ENTITLED))
        await watched_in(viewer, 960)
        assert (await stats(viewer))["video"]["lost"] == 0
        nursery.cancel_scope.cancel()

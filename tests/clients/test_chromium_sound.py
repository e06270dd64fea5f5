"""Two real Chromiums hear each other: redundant sound and plain, levels, capture times, and who of them speaks."""

from __future__ import annotations

import json

import trio

from media.door import Media, MediaSettings, RoomRow, Speaking
from media.forwarding.admission import Grant, Holding
from tests.clients.chromium import Page, open_pages
from tests.media.test_door import LIMITS

PUBLISH = """
  const sound = new AudioContext(), tone = sound.createOscillator(), out = sound.createMediaStreamDestination();
  const gain = window.gain = sound.createGain();
  gain.gain.value = LOUD; tone.connect(gain); gain.connect(out); tone.start();
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  const sent = pc.addTransceiver(out.stream.getTracks()[0], {direction: 'sendonly', streams: [out.stream]});
  const named = name => RTCRtpSender.getCapabilities('audio').codecs.filter(codec => codec.mimeType === name);
  sent.setCodecPreferences(CODECS.flatMap(named));
"""
WATCH = """
  const pc = window.pc = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  pc.ontrack = ({track}) => { const audio = new Audio(); audio.srcObject = new MediaStream([track]); audio.play(); };
  const sent = pc.addTransceiver('audio', {direction: 'recvonly'});
  const named = name => RTCRtpReceiver.getCapabilities('audio').codecs.filter(codec => codec.mimeType === name);
  sent.setCodecPreferences(CODECS.flatMap(named));
"""
# Browsers offer capture times only where a page asks for it.
OFFER = """
  const extensions = sent.getHeaderExtensionsToNegotiate();
  for (const one of extensions) if (one.uri.includes('abs-capture-time')) one.direction = 'sendrecv';
  sent.setHeaderExtensionsToNegotiate(extensions);
  await pc.setLocalDescription(); return pc.localDescription.sdp;
"""
ANSWER = "await pc.setRemoteDescription({type: 'answer', sdp: SDP});"
LOUDNESS = "window.gain.gain.value = LOUD;"
HEARD = """
  const [receiver] = pc.getReceivers(), [source] = receiver.getSynchronizationSources();
  const inbound = [...(await receiver.getStats()).values()].find(one => one.type === 'inbound-rtp');
  const {totalAudioEnergy: energy = 0, packetsReceived: packets = 0, bytesReceived: octets = 0, packetsLost: lost = 0} =
    inbound ?? {};
  return {level: source?.audioLevel ?? 0, captured: source?.captureTimestamp ?? 0, energy, packets, octets, lost};
"""
WITH_RED, PLAIN = ["audio/red", "audio/opus"], ["audio/opus"]


async def offer(page: Page, script: str, codecs: list[str], loud: float = 0.0) -> str:
    script = (script + OFFER).replace("CODECS", json.dumps(codecs)).replace("LOUD", str(loud))
    return str(await page.run(script))


async def answer(page: Page, sdp: str) -> None:
    await page.run(ANSWER.replace("SDP", json.dumps(sdp)))


async def watch(media: Media, room: RoomRow, source: str, page: Page, codecs: list[str]) -> None:
    await page.run("window.sending = window.pc;")
    watched = media.watch(room, source, await offer(page, WATCH, codecs), Holding(Grant.WELCOME))
    await answer(page, watched.answer_sdp)


async def heard(page: Page) -> dict[str, float]:
    """Return what a page has received, once it is enough to judge by."""
    while True:
        seen: dict[str, float] = await page.run(HEARD)  # type: ignore[assignment]
        if seen["packets"] > 100 and seen["level"] > 0 and seen["captured"] > 0:
            return seen
        await trio.sleep(0.1)


async def speaks(media: Media, room: RoomRow, source: str) -> None:
    """Wait until that source is told to speak."""
    async for fact in media.events:
        if isinstance(fact, Speaking) and fact.room == room and fact.speaker == source:
            assert set(fact.levels) == {"streamer", "guest"}
            return


async def test_two_chromiums_hear_each_other_and_who_speaks_is_told() -> None:
    async with trio.open_nursery() as nursery, open_pages(2) as (ann, ben):
        media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        room = media.open_room(Grant.WELCOME)
        await answer(ann, media.publish(room, "streamer", await offer(ann, PUBLISH, WITH_RED, 0.5)).answer_sdp)
        await answer(ben, media.publish(room, "guest", await offer(ben, PUBLISH, PLAIN)).answer_sdp)
        with trio.fail_after(60):
            await speaks(media, room, "streamer")
            assert media._forwarder.tables.cache_info["red_at"].any()
            await watch(media, room, "streamer", ben, WITH_RED)
            whole = await heard(ben)
            await watch(media, room, "streamer", ben, PLAIN)
            plain = await heard(ben)
            for seen in (whole, plain):
                assert seen["energy"] > 0
                assert seen["lost"] == 0
            # Of redundant sound each packet has the one before with it.
            assert whole["octets"] / whole["packets"] > 1.4 * plain["octets"] / plain["packets"]
            await ann.run(LOUDNESS.replace("LOUD", "0"))
            await ben.run(LOUDNESS.replace("LOUD", "0.5"))
            await speaks(media, room, "guest")
        nursery.cancel_scope.cancel()

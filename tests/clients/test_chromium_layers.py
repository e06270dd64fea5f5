"""Real Chromium publishes layers within one encoding (SVC); each viewer gets those that it wishes for or can take."""

from __future__ import annotations

import json
from collections.abc import Callable

import trio

from media.door import Media, MediaSettings, Quality, TransportId, Wish
from media.forwarding.admission import Grant, Holding
from tests.clients.chromium import Page, open_pages
from tests.clients.test_chromium import ANSWER, WATCH, publishing
from tests.media.test_door import LIMITS

# Which frames need which is told by who asks for it. (Chromium leaves it out of its offers by itself.)
DESCRIBE = """
  window.whenMade = pc => {
    for (const transceiver of pc.getTransceivers()) {
      const known = transceiver.getHeaderExtensionsToNegotiate();
      for (const one of known) if (one.uri.includes('dependency-descriptor')) one.direction = 'sendrecv';
      transceiver.setHeaderExtensionsToNegotiate(known);
    }
  };
"""
PIECES = 30
SETTLE_S = 20  # generous: two Chromiums and an encoder of three sizes fill two cores
FRAMES = """
  const seen = {frames: 0, width: 0};
  (await pc.getStats()).forEach(s => { if (s.type === DIRECTION && s.kind === 'video') Object.assign(seen,
    {frames: s.framesDecoded ?? s.framesSent, width: s.frameWidth ?? 0}); });
  return seen;
"""
SENT, DECODED = FRAMES.replace("DIRECTION", "'outbound-rtp'"), FRAMES.replace("DIRECTION", "'inbound-rtp'")


def layered(codec: str, width: int, mode: str, kbps: int) -> str:
    """Return the script of a publisher of one encoding with layers.

    Few pieces, which an encoder keeps to its rate with: else Chromium soon sends a smaller picture of fewer layers. And
    of what it takes for a screen it encodes no spatial layers of VP9 at all.
    """
    encodings = f"[{{scalabilityMode: '{mode}', maxFramerate: 10, maxBitrate: {1000 * kbps}}}]"
    return publishing(codec, width=width, encodings=encodings, pieces=PIECES, hint="motion")


async def go_live(media: Media, page: Page, script: str) -> int:
    room = media.open_room(Grant.WELCOME)
    answer = media.publish(room, "streamer", str(await page.run(script))).answer_sdp
    await page.run(ANSWER.replace("SDP", json.dumps(answer)))
    return room


async def look(page: Page, what: str) -> dict[str, int]:
    return await page.run(what)  # type: ignore[return-value]


async def keeps_moving(page: Page) -> None:
    """See that pictures are decoded second after second."""
    for _ in range(3):
        before = await look(page, DECODED)
        await trio.sleep(1)
        assert (await look(page, DECODED))["frames"] > before["frames"]


async def comes_to(page: Page, fits: Callable[[dict[str, int]], bool]) -> None:
    with trio.fail_after(SETTLE_S):
        while not fits(await look(page, DECODED)):  # noqa: ASYNC110
            await trio.sleep(0.1)


async def share_decoded(publisher: Page, viewer: Page, pictures: int) -> float:
    """Return how many of the next `pictures` that are sent are decoded."""
    sent, decoded = await look(publisher, SENT), await look(viewer, DECODED)
    with trio.fail_after(SETTLE_S):
        while (now := await look(publisher, SENT))["frames"] < sent["frames"] + pictures:  # noqa: ASYNC110
            await trio.sleep(0.1)
    return ((await look(viewer, DECODED))["frames"] - decoded["frames"]) / (now["frames"] - sent["frames"])


async def watch(media: Media, room: int, page: Page) -> TransportId:
    offer = str(await page.run(WATCH))
    watched = media.watch(room, "streamer", offer, Holding(Grant.WELCOME))  # type: ignore[arg-type]
    await page.run(ANSWER.replace("SDP", json.dumps(watched.answer_sdp)))
    return watched.transport


async def test_a_viewer_of_vp9_goes_to_a_smaller_picture_and_back_and_decodes_all_along() -> None:
    media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
    async with open_pages(2) as (publisher, viewer), trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        room = await go_live(media, publisher, layered("video/VP9", 960, "L3T3_KEY", 1500))
        transport = await watch(media, room, viewer)
        await comes_to(viewer, lambda seen: seen["width"] > 300)
        media.prefer(transport, Wish(Quality.LOW))
        await comes_to(viewer, lambda seen: 0 < seen["width"] <= 240)
        await keeps_moving(viewer)
        media.prefer(transport, Wish())
        await comes_to(viewer, lambda seen: seen["width"] > 300)
        await keeps_moving(viewer)
        nursery.cancel_scope.cancel()


async def test_a_viewer_of_vp8_gets_a_part_of_the_pictures_and_all_of_them_again_and_can_decode_each() -> None:
    media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
    async with open_pages(2) as (publisher, viewer), trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        room = await go_live(media, publisher, layered("video/VP8", 320, "L1T3", 300))
        transport = await watch(media, room, viewer)
        await comes_to(viewer, lambda seen: seen["frames"] > 5)
        with trio.fail_after(SETTLE_S):
            while await share_decoded(publisher, viewer, 12) < 0.8:
                pass
        media.prefer(transport, Wish(Quality.LOW))
        with trio.fail_after(SETTLE_S):
            while not 0.1 < await share_decoded(publisher, viewer, 16) < 0.4:  # one in four
                pass
        keys = media.counters()["keyframes"]
        media.prefer(transport, Wish())
        with trio.fail_after(SETTLE_S):
            while await share_decoded(publisher, viewer, 12) < 0.8:
                pass
        assert media.counters()["keyframes"] == keys  # the encoder says where more can be decoded
        nursery.cancel_scope.cancel()


async def test_viewers_of_layered_av1_get_what_they_can_decode() -> None:
    """The larger picture goes to who is told which frames need which, and on request the smaller; others get that.

    It takes more than the half megabit that a viewer begins with: probes have to find room for it first.
    """
    media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
    async with open_pages(3) as (publisher, told, plain), trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        for page in (publisher, told):
            await page.run(DESCRIBE)
        room = await go_live(media, publisher, layered("video/AV1", 480, "L2T2_KEY", 450))
        transport = await watch(media, room, told)
        await watch(media, room, plain)
        await comes_to(told, lambda seen: seen["width"] > 240)
        await comes_to(plain, lambda seen: 0 < seen["width"] <= 240)
        media.prefer(transport, Wish(Quality.LOW))
        await comes_to(told, lambda seen: 0 < seen["width"] <= 240)
        await keeps_moving(told)
        media.prefer(transport, Wish())
        await comes_to(told, lambda seen: seen["width"] > 240)
        await keeps_moving(told)
        await keeps_moving(plain)
        nursery.cancel_scope.cancel()

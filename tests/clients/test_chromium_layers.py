"""Real Chromium publishes layers within one encoding (SVC), and a viewer gets what its decoder takes."""

from __future__ import annotations

import json

import trio

from bench.impairment import relay
from media.door import Media, MediaSettings
from media.forwarding.admission import Grant
from tests.clients.chromium import Page, open_pages
from tests.clients.test_chromium import ANSWER, publishing
from tests.clients.test_chromium_networks import START_S, WIDE, shows, watch_through
from tests.media.test_door import LIMITS

DECODED = """
  let frames = 0;
  (await pc.getStats()).forEach(s => { if (s.type === 'inbound-rtp' && s.kind === 'video') frames = s.framesDecoded; });
  return frames;
"""


def layered(codec: str, width: int, mode: str, kbps: int) -> str:
    """Return the script of a publisher of one encoding with layers."""
    encodings = f"[{{scalabilityMode: '{mode}', maxFramerate: 10, maxBitrate: {1000 * kbps}}}]"
    return publishing(codec, width=width, encodings=encodings)


async def go_live(media: Media, page: Page, script: str) -> int:
    room = media.open_room(Grant.WELCOME)
    answer = media.publish(room, "streamer", str(await page.run(script))).answer_sdp
    await page.run(ANSWER.replace("SDP", json.dumps(answer)))
    return room


async def keeps_moving(page: Page) -> None:
    """See that pictures are decoded second after second."""
    for _ in range(3):
        before = await page.run(DECODED)
        await trio.sleep(1)
        assert await page.run(DECODED) > before  # type: ignore[operator]


async def test_a_viewer_of_layered_av1_gets_the_smallest_picture_which_is_all_that_it_can_decode() -> None:
    media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
    async with (
        open_pages(2) as (publisher, viewer),
        trio.open_nursery() as nursery,
        relay(media.address, WIDE, WIDE, seed=1) as way,
    ):
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        room = await go_live(media, publisher, layered("video/AV1", 480, "L2T1_KEY", 400))
        await watch_through(media, room, viewer, way)
        await shows(viewer, 240, START_S)
        await keeps_moving(viewer)
        nursery.cancel_scope.cancel()

"""Real browsers publish on the go-live page and watch on the watch page: pictures move, and sound is heard."""

from __future__ import annotations

import pytest
import trio

from tests.browser.test_ways import preload
from tests.browser.visitors import Theatre, Visitor, comes_true

BROWSERS = ("chromium", "firefox")
# As behind a firewall that lets no UDP through: of the server's addresses only those for TCP can be reached.
NO_UDP = """() => {
  const Made = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Made {
    setRemoteDescription({ type, sdp }) {
      return super.setRemoteDescription({ type, sdp: sdp.replace(/a=candidate:\\S+ 1 udp .*\\r\\n/g, '') });
    }
  };
}"""

REACHED_OVER = """const reports = await Promise.all(window.connections.map(connection => connection.getStats()));
return reports.flatMap(report => [...report.values()])
  .filter(({ type }) => type === 'remote-candidate').map(({ protocol }) => protocol);"""


@pytest.mark.parametrize("publishing", BROWSERS)
async def test_both_browsers_watch_what_either_publishes(theatre: Theatre, publishing: str) -> None:
    streamer = await theatre.stranger(publishing)
    if publishing == "firefox":
        await preload(streamer, NO_UDP)
    await streamer.sign_up(f"streamer-on-{publishing}", "a long password")
    stream = await streamer.go_live(f"From {publishing}")
    await streamer.sees_moving_picture("#preview")
    viewers = [await theatre.visitor(name, await theatre.person(f"{name}-sees-{publishing}")) for name in BROWSERS]
    if publishing == "firefox":
        for viewer in viewers:
            await preload(viewer, NO_UDP)
    async with trio.open_nursery() as nursery:
        for viewer in viewers:
            nursery.start_soon(watch_all, viewer, stream)
    await streamer.sees("#watching-count", "2")
    if publishing == "firefox":
        for visitor in (streamer, *viewers):
            assert set(await visitor.page.run(REACHED_OVER)) == {"tcp"}
    await viewers[0].shoot(f"watch-{publishing}")
    await streamer.shoot(f"studio-{publishing}")

    # The test picture takes the camera's place; nobody has to connect anew.
    before = await viewers[0].received()
    await streamer.press("[name=source][value=test]")
    await streamer.sees_moving_picture("#preview")
    for viewer in viewers:
        await viewer.sees_moving_picture()
        # Without a sound card Firefox starts no AudioContext, which makes the test picture's tone.
        if publishing == "chromium":
            await viewer.hears()
        assert await viewer.page.run("return window.connections.length") == 1
    assert (await viewers[0].received())["framesDecoded"] > before["framesDecoded"]

    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")
    await streamer.sees("#over", "The streamer has ended it")
    for viewer in viewers:
        await viewer.sees("#slate", "The stream is over")


async def watch_all(viewer: Visitor, stream: str) -> None:
    await viewer.watch(stream)
    await viewer.sees_moving_picture()
    await viewer.hears()
    received = await viewer.received()
    assert received["framesDecoded"] > 0
    assert received["audioPackets"] > 0


@pytest.mark.parametrize("publishing", BROWSERS)
async def test_who_wants_a_small_picture_gets_one_and_the_whole_one_back(theatre: Theatre, publishing: str) -> None:
    streamer = await theatre.stranger(publishing)
    await streamer.sign_up(f"layers-on-{publishing}", "a long password")
    stream = await streamer.go_live(f"Layers from {publishing}", source="test")
    await streamer.sees_moving_picture("#preview")
    whole = await width(streamer, "#preview")
    viewer = await theatre.visitor("chromium", await theatre.person(f"sees-layers-of-{publishing}"))
    await viewer.watch(stream)
    await viewer.sees_moving_picture()
    for quality, least, most in (("automatic", whole, whole), ("low", 1, whole // 2), ("automatic", whole, whole)):
        await viewer.fill("#quality", quality)

        async def fits(least: int = least, most: int = most) -> bool:
            return least <= await width(viewer, "#video") <= most

        assert await comes_true(fits, 30), (quality, whole, await width(viewer, "#video"))
        await viewer.sees_moving_picture()
    # Who shows it small is sent a small one, and the whole one when there is room for it again.
    for style, least, most in (("height: 60px; min-height: 0", 1, whole // 2), ("", whole, whole)):
        await viewer.page.run(f"document.querySelector('#video').style.cssText = '{style}'")

        async def fills(least: int = least, most: int = most) -> bool:
            return least <= await width(viewer, "#video") <= most

        assert await comes_true(fills, 30), (style, whole, await width(viewer, "#video"))
    assert await viewer.page.run("return window.connections.length") == 1


async def width(visitor: Visitor, selector: str) -> int:
    return int(await visitor.page.run(f"return document.querySelector('{selector}').videoWidth"))

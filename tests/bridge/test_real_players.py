"""A stream published over WHIP, watched by players that nobody here wrote: moq-rs, and @moq/watch in browsers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from media.moq.containers import unwrap_legacy_untrusted
from media.moq.hang import read_catalog_untrusted
from tests.bridge.decoding import decoded
from tests.bridge.shows import open_show
from tests.clients.chromium import open_pages
from tests.moq.firefox import open_firefox
from tests.moq.nodes import open_node
from tests.moq.pages import bundle, reporting_watch_page, watch_page
from tests.moq.test_browsers import COLOURS, show, watched
from tests.moq.test_moqrs import Process

PLAYER = Path(__file__).with_name("moqrs_player.py")


@pytest.mark.parametrize("scheme", ["https", "moqt"])
async def test_moqrs_receives_what_decoders_take(scheme: str, tmp_path: Path) -> None:
    with trio.fail_after(40):
        async with open_show(tmp_path) as live:
            viewer = await live.site.person("viewer")
            fingerprint = (await live.site.http.get("/certificate.sha256")).text
            url = f"{scheme}://127.0.0.1:{live.address[1]}{live.target(viewer)}"
            command = [sys.executable, str(PLAYER), url, fingerprint, live.stream]
            process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            frames: dict[str, list[tuple[int, int, bytes]]] = {"catalog.json": [], "video": [], "audio": []}
            try:
                lines = Process(process)
                while len(frames["video"]) < 60 or len(frames["audio"]) < 100:
                    said = await lines.read("track")
                    payload = bytes.fromhex(str(said["payload"]))
                    frames[str(said["track"])].append((int(str(said["group"])), int(str(said["at"])), payload))
            finally:
                process.kill()
                with trio.move_on_after(5, shield=True):
                    await process.wait()
                assert process.stdout is not None
                await trio.aclose_forcefully(process.stdout)
    assert read_catalog_untrusted(frames["catalog.json"][0][2]).video is not None
    for name in ("video", "audio"):
        assert all(at == unwrap_legacy_untrusted(payload)[0] for _, at, payload in frames[name])
    decoded(frames["video"], frames["audio"])


async def test_moq_watch_in_chromium_shows_it_over_webtransport_and_firefox_over_a_websocket(tmp_path: Path) -> None:
    async with open_show(tmp_path) as live, open_node() as pages:
        viewer = await live.site.person("viewer")
        port, root, token = live.address[1], f"moq/{live.stream}", f"?jwt={viewer.token}"
        pages.files["/watch.js"] = bundle("watch")
        pages.files["/watch.html"] = watch_page(port, live.stream, token, root)
        pages.files["/report.html"] = reporting_watch_page(port, live.stream, token, root)
        async with open_pages(1) as (page,):
            await show(page, f"http://127.0.0.1:{pages.port}/watch.html")
            seen = await watched(page, changes=10)
            assert seen["transport"] == "webtransport"
            assert seen["audio"]["bytesReceived"] > 0  # type: ignore[index]
        async with open_firefox(f"http://127.0.0.1:{pages.port}/report.html"):
            moved: set[object] = set()
            with trio.move_on_after(60):
                while len(moved) < 5:
                    await trio.sleep(0.2)
                    moved = {seen["sum"] for seen in pages.reports if int(str(seen["colours"])) >= COLOURS}
        assert len(moved) >= 5, json.dumps(pages.reports[-1:])
        assert pages.reports[-1]["transport"] == "websocket"

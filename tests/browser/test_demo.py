"""`mesi demo`: its picture is seen on the watch page of both browsers, its clock moves, its tone is heard."""

from __future__ import annotations

from pathlib import Path

from tests.browser.browsers import Browser
from tests.browser.servers import Server, running
from tests.browser.visitors import open_theatre


async def test_the_demo_is_seen_and_heard_in_both_browsers(tmp_path: Path, chromium: Browser, firefox: Browser) -> None:
    server = Server(tmp_path, "demo")
    with running(server):
        async with open_theatre(server, chromium, firefox) as theatre:
            for browser in ("chromium", "firefox"):
                viewer = await theatre.visitor(browser, await theatre.person(f"demo-{browser}"))
                await viewer.page.open(f"{viewer.url}/")
                await viewer.sees("#streams", "Test picture")
                await viewer.sees("#streams .chip", "Live")
                await viewer.press("#streams a")
                await viewer.sees("#title", "Test picture")
                await viewer.sees_moving_picture()
                await viewer.hears()
                await viewer.shoot(f"demo-{browser}")

"""Starts Chromium and Firefox, each with a fresh profile, a camera and a microphone that need no hardware."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.browser.bidi import Connection, connect

START_S = 180.0

CHROMIUM_FLAGS = [
    "--headless",
    "--hide-scrollbars",  # as on a phone; so 360 pixels of page are 360 pixels
    "--no-sandbox",  # root may not use it; nothing but our own page is shown
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream=fps=10",  # half of what it is by itself: encoding is most of the work
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",  # where a machine has no other address
    # Every page is one that somebody looks at: no throttled timers.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-features=CalculateNativeWinOcclusion",
]
FIREFOX_PREFERENCES: dict[str, object] = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    # Firefox pairs the loopback address, where the tests serve, with no other address. It gathers its own one only when
    # told to, and for pages that may use the camera.
    "media.peerconnection.ice.loopback": True,
    "permissions.default.camera": 1,
    "permissions.default.microphone": 1,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    # No service outside of this machine is asked for anything.
    "media.gmp-manager.updateEnabled": False,
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "services.settings.server": "data:,#",
    "extensions.update.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.aboutwelcome.enabled": False,
    # Every page is one that somebody looks at: no throttled timers.
    "dom.min_background_timeout_value": 4,
    "dom.timeout.enable_budget_timer_throttling": False,
    "widget.windows.window_occlusion_tracking.enabled": False,
    "remote.log.level": "Warn",
}


@dataclass(frozen=True)
class Browser:
    """A running browser. Each test connects anew, and shares the process with the others."""

    name: str
    address: str
    new_session: bool

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        async with connect(self.address, new_session=self.new_session) as connection:
            yield connection


@contextmanager
def start_chromium() -> Iterator[Browser]:
    """Start Chromium behind its driver, which translates BiDi for it."""
    with _process(["chromedriver", "--port=0"]) as (process, output):
        port = _wait_for(process, output, r"started successfully on port (\d+)")
        options = {"binary": shutil.which("chromium"), "args": CHROMIUM_FLAGS}
        always = {"browserName": "chrome", "webSocketUrl": True, "goog:chromeOptions": options}
        session = _post(f"http://127.0.0.1:{port}/session", {"capabilities": {"alwaysMatch": always}})
        try:
            yield Browser("chromium", str(session["capabilities"]["webSocketUrl"]), new_session=False)
        finally:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/session/{session['sessionId']}", method="DELETE")
            urllib.request.urlopen(request, timeout=20).close()


@contextmanager
def start_firefox(more: Mapping[str, object] | None = None) -> Iterator[Browser]:
    """Start Firefox, which speaks BiDi itself, with some preferences of a test's own."""
    profile = Path(tempfile.mkdtemp(prefix="firefox-"))
    preferences = FIREFOX_PREFERENCES | dict(more or {})
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
    (profile / "user.js").write_text("\n".join(lines))
    command = ["firefox-esr", "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    try:
        with _process(command) as (process, output):
            address = _wait_for(process, output, r"WebDriver BiDi listening on (ws://\S+)")
            yield Browser("firefox", f"{address}/session", new_session=True)
    finally:
        shutil.rmtree(profile, ignore_errors=True)


def _post(url: str, body: object) -> dict[str, dict[str, str]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=START_S) as answer:
        return dict(json.load(answer)["value"])


@contextmanager
def _process(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Run a program until the block ends; its output goes to a file, which can be read meanwhile."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process, output
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(process: subprocess.Popen[bytes], output: IO[bytes], pattern: str) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        output.seek(0)
        text = output.read().decode(errors="replace")
        found = re.search(pattern, text)
        if found:
            return found[1]
        assert process.poll() is None, f"{process.args} ended early: {text[-2000:]}"
        time.sleep(0.05)
    raise AssertionError(f"{process.args} did not start within {START_S:.0f} s")

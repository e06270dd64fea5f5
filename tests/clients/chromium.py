"""A real Chromium, driven over the Chrome DevTools Protocol with the project's own WebSocket client library."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

FLAGS = [
    "--headless",
    "--no-sandbox",  # root may not use it; nothing but our own page is shown
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # Every page is one that somebody looks at: no throttled timers.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--remote-debugging-port=0",
]


class Page:
    """One page; scripts run in it and give back JSON values."""

    def __init__(self, connection: WebSocketConnection, session: str, numbers: itertools.count[int]) -> None:
        self._connection, self._session, self._numbers = connection, session, numbers

    async def run(self, script: str) -> object:
        """Evaluate an async function's body and return what it returns; raises AssertionError with its error."""
        answer = await call(
            self._connection,
            self._numbers,
            "Runtime.evaluate",
            {"expression": f"(async () => {{{script}}})()", "awaitPromise": True, "returnByValue": True},
            self._session,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")  # type: ignore[attr-defined]


async def call(
    connection: WebSocketConnection,
    numbers: itertools.count[int],
    method: str,
    params: dict[str, object],
    session: str | None = None,
) -> dict[str, object]:
    """Send one command and wait for its answer; events in between are passed over."""
    number = next(numbers)
    request = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
    await connection.send_message(json.dumps(request))
    while True:
        message = json.loads(await connection.get_message())
        if message.get("id") == number:
            assert "error" not in message, message
            return message["result"]


@asynccontextmanager
async def open_pages(count: int, *flags: str) -> AsyncIterator[list[Page]]:
    """Start a browser with a fresh profile and open `count` pages; it ends with the block."""
    profile = Path(tempfile.mkdtemp(prefix="chromium-"))
    command = ["chromium", f"--user-data-dir={profile}", *FLAGS, *flags, "about:blank"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = await _debugger_address(trio.Path(profile / "DevToolsActivePort"))
        async with open_websocket_url(address, max_message_size=1 << 24) as connection:
            numbers = itertools.count(1)
            pages = []
            for _ in range(count):
                target = await call(
                    connection, numbers, "Target.createTarget", {"url": "about:blank", "newWindow": True}
                )
                attached = await call(
                    connection, numbers, "Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}
                )
                pages.append(Page(connection, str(attached["sessionId"]), numbers))
            yield pages
    finally:
        process.terminate()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _debugger_address(file: trio.Path) -> str:
    with trio.fail_after(30):
        while True:
            words = (await file.read_text()).split() if await file.exists() else []
            if len(words) == 2:
                return f"ws://127.0.0.1:{words[0]}{words[1]}"
            await trio.sleep(0.05)

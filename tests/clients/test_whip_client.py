"""The WHIP and WHEP client against a server that nobody here wrote: a full ICE agent that opens DTLS itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import trio

from server.client import publish, watch
from server.demo import send_picture
from tests.clients.test_aiortc import Process

SERVER = Path(__file__).with_name("aiortc_server.py")


@asynccontextmanager
async def open_server() -> AsyncIterator[tuple[Process, str, httpx2.AsyncClient]]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-W", "ignore", str(SERVER)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    try:
        lines = Process(process)
        url = f"http://127.0.0.1:{(await lines.read())['port']}"
        async with httpx2.AsyncClient() as http:
            yield lines, url, http
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()


async def test_another_server_decodes_what_the_client_publishes() -> None:
    with trio.fail_after(30):
        async with open_server() as (lines, url, http), publish(http, f"{url}/whip", "", ("audio", "video")) as sent:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_picture, sent)
                decoded = {(await lines.read())["decoded"] for _ in range(2)}
                nursery.cancel_scope.cancel()
            assert decoded == {"audio", "video"}


async def test_the_client_watches_another_server() -> None:
    got: dict[int, int] = {}
    enough = trio.Event()

    def take(packet: bytes, at_ns: int) -> None:
        got[packet[1] & 127] = got.get(packet[1] & 127, 0) + 1
        if min(got.get(96, 0), got.get(111, 0)) >= 20:
            enough.set()

    with trio.fail_after(30):
        async with open_server() as (_, url, http), watch(http, f"{url}/whep", "", on_rtp=take) as endpoint:
            await enough.wait()
            assert endpoint.undecryptable == 0

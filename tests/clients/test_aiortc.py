"""A client that nobody here wrote publishes, and another watches: sound and picture are decoded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from media.door import Connected, DataChannelOpened, Media, MediaSettings
from media.forwarding.admission import Grant, Holding
from tests.media.test_door import LIMITS

CLIENT = Path(__file__).with_name("aiortc_client.py")


class Process:
    """One client process, spoken to in JSON lines."""

    def __init__(self, process: trio.Process) -> None:
        self.process, self.buffer = process, b""

    async def read(self) -> dict[str, object]:
        assert self.process.stdout is not None
        while b"\n" not in self.buffer:
            chunk = await self.process.stdout.receive_some()
            assert chunk, "the client ended early"
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    async def answer(self, sdp: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps({"answer": sdp}).encode() + b"\n")


@asynccontextmanager
async def start(role: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-W", "ignore", str(CLIENT), role]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Process(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            await trio.aclose_forcefully(stream)


async def converse(media: Media) -> None:
    """Have the viewer say of each message how long it is and how it ends."""
    async for fact in media.events:
        if isinstance(fact, DataChannelOpened):
            break
    sent = ["short", "long " * 3_000, "äöü last"]
    for text in sent:
        fact.channel.send(text.encode())
    assert [await fact.channel.receive() for _ in sent] == [f"{len(text)} {text[-5:]}".encode() for text in sent]


async def test_aiortc_publishes_and_aiortc_watches_and_talks() -> None:
    async with trio.open_nursery() as nursery:
        media = Media(MediaSettings(("127.0.0.1", 0), limits=LIMITS))
        await nursery.start(lambda task_status: media.run(task_status=task_status))
        room = media.open_room(Grant.WELCOME)
        with trio.fail_after(40):
            async with start("publish") as publisher, start("watch") as viewer:
                offer = str((await publisher.read())["offer"])
                published = media.publish(room, "streamer", offer)
                await publisher.answer(published.answer_sdp)
                assert await media.events.receive() == Connected(published.transport)
                offer = str((await viewer.read())["offer"])
                await viewer.answer(media.watch(room, "streamer", offer, Holding(Grant.WELCOME)).answer_sdp)
                await converse(media)
                decoded = (await viewer.read())["decoded"]
        assert isinstance(decoded, dict)
        assert min(decoded.values()) >= 20, decoded
        nursery.cancel_scope.cancel()

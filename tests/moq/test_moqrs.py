"""moq-rs, a native client that nobody here wrote, publishes and watches through the relay."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from media.moq.protocol import versions
from media.moq.protocol.requests import Refusal
from media.moq.protocol.versions import Version
from tests.moq.moqrs_client import DATAGRAMS, FRAMES, GROUPS, PATH
from tests.moq.nodes import Everything, Node, open_node

CLIENT = Path(__file__).with_name("moqrs_client.py")


class Process:
    """One client process: commands in, JSON lines out."""

    def __init__(self, process: trio.Process) -> None:
        self.process, self.buffer = process, b""

    async def read(self, what: str) -> dict[str, object]:
        """Return the next line about `what`; others are passed over."""
        assert self.process.stdout is not None
        while True:
            while b"\n" not in self.buffer:
                chunk = await self.process.stdout.receive_some()
                assert chunk, f"the client ended before it saw {what}"
                self.buffer += chunk
            line, _, self.buffer = self.buffer.partition(b"\n")
            said = json.loads(line)
            if what in said:
                return said

    async def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(command.encode() + b"\n")


@asynccontextmanager
async def start(role: str, node: Node, scheme: str = "https", query: str = "") -> AsyncIterator[Process]:
    url = f"{scheme}://127.0.0.1:{node.port}/anon{query}"
    command = [sys.executable, str(CLIENT), role, url, node.endpoint.certificate_sha256]
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


def prefer(monkeypatch: pytest.MonkeyPatch, version: Version) -> None:
    monkeypatch.setattr(versions, "PREFERRED", (version,))
    monkeypatch.setattr(versions.choose_version, "__defaults__", ((version,),))
    for module in ("quic.configuration", "carriers.websocket"):
        monkeypatch.setattr(f"media.moq.{module}.PREFERRED", (version,))


async def until(claim: Callable[[], bool]) -> None:
    while not claim():  # noqa: ASYNC110 - what is waited for happens in another process
        await trio.sleep(0.05)


async def exchange(node: Node, scheme: str) -> list[dict[str, object]]:
    """Have one client publish and one watch; returns the groups that arrived."""
    async with start("publish", node, scheme) as publisher, start("watch", node, scheme, "?jwt=t") as viewer:
        await publisher.read("announced")
        await viewer.read("announced")
        await publisher.read("used")
        await until(lambda: any(peer.deliveries for peer in node.relay.peers))
        await publisher.tell("groups")
        groups = [await viewer.read("group") for _ in range(GROUPS)]
        if node.requests[0].version.traits.has_datagrams:
            await publisher.tell("datagrams")
            seen = [await viewer.read("datagram") for _ in range(DATAGRAMS)]
            assert seen == [{"datagram": f"d{number}", "at": 90_000 + number} for number in range(DATAGRAMS)]
        await publisher.tell("finish")
        await viewer.read("ended")
    return groups


@pytest.mark.parametrize("version", list(Version))
@pytest.mark.parametrize("scheme", ["https", "moqt"])
async def test_moqrs_publishes_and_watches(version: Version, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(monkeypatch, version)
    with trio.fail_after(20):
        async with open_node() as node:
            groups = await exchange(node, scheme)
    stamped = version.traits.stamps_frames
    for number, group in enumerate(sorted(groups, key=lambda group: int(str(group["group"])))):
        frames = [tuple(frame) for frame in group["frames"]]  # type: ignore[attr-defined]
        assert [frame[:2] for frame in frames] == [(f"{number}.{frame}", 6_000) for frame in range(FRAMES)]
        if stamped:
            assert [frame[2] for frame in frames] == [number * 10_000 + frame for frame in range(FRAMES)]
    assert {request.version for request in node.requests} == {version}
    assert {request.carrier for request in node.requests} == {"webtransport" if scheme == "https" else "quic"}
    has_path = scheme == "https" or version.traits.has_setup
    assert {request.token for request in node.requests} == ({None, "t"} if has_path else {None})


async def test_a_refused_client_is_let_in_nowhere() -> None:
    with trio.fail_after(20):
        async with open_node(lambda request: Refusal(403, "no ticket")) as node:
            async with start("watch", node, "https") as viewer:
                with pytest.raises(AssertionError, match="the client ended"):
                    await viewer.read("announced")
            # Over raw QUIC this client waits for announcements for ever, though its connection is closed.
            async with start("watch", node, "moqt"):
                await until(lambda: node.endpoint.counters().get("quic_sessions_refused") == 2)
            assert len(node.relay.peers) == 0


async def test_a_cut_subscriber_gets_nothing_more_and_the_others_everything() -> None:
    lost = Everything()
    with trio.fail_after(20):
        async with (
            open_node(lambda request: lost if request.token == "lost" else Everything()) as node,
            start("publish", node) as publisher,
            start("watch", node, query="?jwt=lost") as loser,
            start("watch", node) as keeper,
        ):
            for viewer in (loser, keeper):
                await viewer.read("timescale")
            await publisher.read("used")
            await until(lambda: sum(len(peer.deliveries) for peer in node.relay.peers) == 2)
            (cut,) = [peer for peer in node.relay.peers if peer.rights is lost]
            lost.watches = lost.is_admitted = False
            cut.cut()
            assert not cut.deliveries
            await publisher.tell("groups")
            for _ in range(GROUPS):
                await keeper.read("group")
            with pytest.raises(AssertionError, match="before it saw group"):
                await loser.read("group")


async def test_the_broadcast_of_a_publisher_that_vanishes_is_retracted_when_its_silence_is_long_enough() -> None:
    with trio.fail_after(30):
        async with open_node() as node, start("publish", node) as publisher, start("watch", node) as viewer:
            await publisher.read("announced")
            await viewer.read("announced")
            await publisher.read("used")
            assert node.origin.find(PATH) is not None
            await publisher.tell("vanish")
            await until(lambda: node.origin.find(PATH) is None)

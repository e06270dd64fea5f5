"""A node in a thread of its own, for many tests to talk to over real sockets: what one does must not touch the next."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx2
import trio
from prometheus_client.parser import text_string_to_metric_families

from server.config import Config
from server.node import Running, run_node
from tests.server.nodes import lay_database

Samples = dict[tuple[str, str], float]


@dataclass
class ThreadNode:
    """Where the node is, and tokens for it; `call` runs a function of the node's thread."""

    folder: Path
    running: Running
    token: trio.lowlevel.TrioToken
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.running.url.rpartition("//")[2].rpartition(":")
        return host, int(port)

    def stop(self) -> None:
        """End the node, as a signal does."""
        self.token.run_sync_soon(self.scope.cancel)

    async def account(self, name: str) -> tuple[str, str]:
        """Return the id and a token of an account."""
        add = partial(trio.from_thread.run, self.running.auth.add_account, name, trio_token=self.token)
        account = await trio.to_thread.run_sync(add)
        return account.id, self.running.auth.issue(account, 3600, "user")


@contextmanager
def thread_node(config: Config) -> Iterator[ThreadNode]:
    lay_database(config)
    started = threading.Event()
    found: list[ThreadNode] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            running = await nursery.start(run_node, config)
            token = trio.lowlevel.current_trio_token()
            found.append(ThreadNode(Path(config.data.dir), running, token, nursery.cancel_scope))
            started.set()

    def run() -> None:
        try:
            trio.run(main)
        finally:
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    assert found, "the node did not start"
    try:
        yield found[0]
    finally:
        with suppress(trio.RunFinishedError):
            found[0].stop()
        thread.join(20)
        assert not thread.is_alive(), "the node did not end"


async def samples(node: ThreadNode) -> Samples:
    """Return what /metrics says: (name, the only label's value or "") -> value."""
    async with httpx2.AsyncClient(base_url=node.running.url) as http:
        text = (await http.get("/metrics")).text
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def rises(node: ThreadNode, before: Samples, name: str, label: str = "", by: float = 1) -> None:
    """Wait until a counter has risen."""
    with trio.move_on_after(5):
        while (await samples(node))[name, label] < before[name, label] + by:  # noqa: ASYNC110
            await trio.sleep(0.02)
        return
    raise AssertionError(f"{name} {label} did not rise by {by}")


@asynccontextmanager
async def connect(node: ThreadNode, *, tls: bool = False, receive_buffer: int = 0) -> AsyncIterator[trio.abc.Stream]:
    """Open a connection; a small receive buffer makes a reader that does not read felt at once."""
    with trio.socket.socket() as raw:
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await raw.connect(node.address)
        stream: trio.abc.Stream = trio.SocketStream(raw)
        if tls:
            trust = ssl.create_default_context(cafile=str(node.folder / "tls.crt"))
            stream = trio.SSLStream(stream, trust, server_hostname="localhost", https_compatible=True)
        yield stream


def reset(stream: trio.abc.Stream) -> None:
    """Let the connection end with a reset rather than in order."""
    assert isinstance(stream, trio.SocketStream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def read_until_end(stream: trio.abc.Stream, patience_s: float = 5) -> bytes:
    """Return all that comes until the server ends the connection; fails when it does not."""
    got = b""
    with trio.fail_after(patience_s):
        while True:
            try:
                part = await stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return got
            if not part:
                return got
            got += part


async def read_until(stream: trio.abc.Stream, condition: Callable[[bytes], bool], patience_s: float = 5) -> bytes:
    """Return what comes until it is enough; fails when the connection ends before."""
    got = b""
    with trio.fail_after(patience_s):
        while not condition(got):
            part = await stream.receive_some(65_536)
            assert part, f"the connection ended after {got!r}"
            got += part
    return got

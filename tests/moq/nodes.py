"""A relay with its carriers for tests, on loopback: QUIC and, under the same port number, HTTP and WebSockets."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from media.moq.carriers.websocket import QmuxSocket
from media.moq.protocol.requests import Refusal, SessionRequest
from media.moq.quic.configuration import EndpointSettings
from media.moq.quic.endpoint import Endpoint
from media.moq.relaying.origin import Origin
from media.moq.relaying.relay import Relay
from media.moq.relaying.rights import Rights

REQUEST = re.compile(rb"(?:GET|POST) (\S+) HTTP/1\.1\r\n")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.I)
UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.I)
KINDS = {"js": "text/javascript", "html": "text/html; charset=utf-8"}


@dataclass
class Everything:
    """Rights to everything, until they are taken."""

    publishes: bool = True
    watches: bool = True
    is_admitted: bool = True
    has_best: bool = True
    home: str | None = None
    pending: bool = False

    def is_pending(self, path: str) -> bool:
        return self.pending

    def may_publish(self, path: str) -> bool:
        return self.publishes

    def may_watch(self, path: str) -> bool:
        return self.watches

    def admits(self, path: str) -> bool:
        return self.is_admitted

    def admits_best(self, path: str) -> bool:
        return self.is_admitted and self.has_best


@dataclass
class Node:
    """What a test may look at."""

    origin: Origin
    relay: Relay
    endpoint: Endpoint
    qmux: QmuxSocket
    requests: list[SessionRequest] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    reports: list[dict[str, object]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.endpoint.address[1]


@asynccontextmanager
async def open_node(admit: Callable[[SessionRequest], Rights | Refusal] | None = None) -> AsyncIterator[Node]:
    """Serve until the block ends."""
    origin = Origin()
    relay = Relay(origin, time.monotonic_ns)
    requests: list[SessionRequest] = []

    def let_in(request: SessionRequest) -> Rights | Refusal:
        requests.append(request)
        return Everything() if admit is None else admit(request)

    endpoint, listener = await bind(relay, let_in)
    node = Node(origin, relay, endpoint, QmuxSocket(relay, let_in), requests)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: endpoint.run(task_status=task_status))
        await nursery.start(trio.serve_listeners, lambda stream: serve_http(node, stream), [listener])
        yield node
        nursery.cancel_scope.cancel()


async def bind(
    relay: Relay, admit: Callable[[SessionRequest], Rights | Refusal]
) -> tuple[Endpoint, trio.SocketListener]:
    """Find a port number that is free for UDP and for TCP."""
    for _ in range(20):
        endpoint = Endpoint(EndpointSettings("127.0.0.1", 0), relay, admit)
        try:
            return endpoint, (await trio.open_tcp_listeners(endpoint.address[1], host="127.0.0.1"))[0]
        except OSError:
            endpoint.close()
    raise AssertionError("no port is free for both")


async def serve_http(node: Node, stream: trio.SocketStream) -> None:
    """Answer one request: a file, the certificate's hash, or an upgrade to QMux."""
    async with stream:
        head = b""
        while b"\r\n\r\n" not in head:
            part = await stream.receive_some(65_536)
            if not part:
                return
            head += part
        request = REQUEST.match(head)
        assert request is not None, head
        path = request[1].decode().partition("?")[0]
        if UPGRADE.search(head):
            await node.qmux.serve(stream, head, "127.0.0.1")
            return
        if path == "/report":
            length = LENGTH.search(head)
            assert length is not None
            report = head.partition(b"\r\n\r\n")[2]
            while len(report) < int(length[1]):
                report += await stream.receive_some(65_536)
            node.reports.append(json.loads(report))
        body = node.files.get(path, b"")
        if path == "/certificate.sha256":
            body = node.endpoint.certificate_sha256.encode()
        kind = KINDS.get(path.rpartition(".")[2], "text/plain")
        answer = (
            f"HTTP/1.1 {200 if body else 404} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            "Access-Control-Allow-Origin: *\r\nCross-Origin-Opener-Policy: same-origin\r\n"
            "Cross-Origin-Embedder-Policy: require-corp\r\nCross-Origin-Resource-Policy: cross-origin\r\n"
            "Connection: close\r\n\r\n"
        )
        await stream.send_all(answer.encode() + body)

"""A great many clients of the signalling socket in a process of their own, which `bench.sockets` starts.

The first line on standard input says whom to be, as JSON: `host`, `port`, `source` (the address to connect from),
`stream`, `tokens` (one for each client). Answers "ready" when all have joined. Each further line is JSON, `seconds`:
for so long it listens, and answers with what was heard and when, by the clock of the receiving kernel. Pings are
answered all the time.
"""

from __future__ import annotations

import array
import json
import re
import selectors
import socket
import struct
import sys
import time
from typing import Any

import msgspec

from bench.cores import pin
from bench.files import allow_files
from media.io.native import SO_TIMESTAMPNS

SENT = re.compile(rb"sent (\d+)")
CONNECT_S = 60.0
READ = 65_536
NAP_S = 0.001  # arrivals gather meanwhile, and a sender need not wake this process for each
STAMP = struct.Struct("=qq")  # struct timespec
CONTROL = socket.CMSG_SPACE(STAMP.size)
BINARY, MASKED = 0x82, 0x80  # a final frame of binary data, of a client (RFC 6455 section 5.2)
AT_ONCE = 200  # connections that are asked for before their answers are waited for
PING, PONG = b"\x89\x00", b"\x8a\x80" + bytes(4)
OK = b"\xa4type\xa2ok"


def message(**values: Any) -> bytes:
    """Return one message in its frame, under a mask of nothing: it has to be masked, not to be secret."""
    data = msgspec.msgpack.encode(values)
    size = bytes([MASKED | len(data)]) if len(data) < 126 else bytes([MASKED | 126]) + len(data).to_bytes(2)
    return bytes([BINARY]) + size + bytes(4) + data


def upgrade(host: str, port: int) -> bytes:
    """Return the request that begins a WebSocket."""
    head = ["GET /ws HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*head, "Sec-WebSocket-Protocol: mesi.v1.msgpack", "", ""]).encode()


def connect(host: str, port: int, source: str, stream: str, token: str) -> socket.socket:
    """Open one connection, and ask for everything without waiting: the upgrade, a session, and to join the stream."""
    link = socket.create_connection((host, port), timeout=CONNECT_S, source_address=(source, 0))
    link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    link.sendall(upgrade(host, port) + message(type="hello", token=token) + message(type="join", id=1, stream=stream))
    return link


def await_joined(link: socket.socket) -> None:
    """Wait until the server has said that a client follows the stream."""
    said = b""
    while OK not in said:
        part = link.recv(READ)
        if not part:
            raise SystemExit(f"the server refused a client: {said[-300:]!r}")
        said += part
    link.setblocking(False)


class Crowd:
    """All clients; what they heard is counted by when it was said."""

    def __init__(self, links: list[socket.socket]) -> None:
        self.links = links
        self.late_ns: dict[int, array.array[int]] = {}
        self._selector = selectors.EpollSelector()
        for link in links:
            self._selector.register(link, selectors.EVENT_READ, link)
        self._selector.register(sys.stdin, selectors.EVENT_READ)

    def listen(self, seconds: float) -> dict[str, Any]:
        """Take what comes; returns, for each message, how many heard it and the latencies' percentiles (ms)."""
        self.late_ns.clear()
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._turn(left)
            time.sleep(NAP_S)
        return {"late_ms": [[round(late / 1e6, 3) for late in lates] for lates in self.late_ns.values()]}

    def wait(self) -> str:
        """Answer pings until standard input has a line, and return that; an empty one at its end."""
        while not self._turn(None):
            pass
        return sys.stdin.readline()

    def _turn(self, patience_s: float | None) -> bool:
        """Take what has come to anybody; returns whether standard input has something, too."""
        ready = self._selector.select(patience_s)
        for key, _ in ready:
            if key.data is not None:
                self._take(key.data)
        return any(key.data is None for key, _ in ready)

    def _take(self, link: socket.socket) -> None:
        try:
            data, control, _, _ = link.recvmsg(READ, CONTROL)
        except BlockingIOError:
            return
        if not data:
            raise SystemExit("the server closed a connection")
        if PING in data:
            link.sendall(PONG)
        at_ns = read_stamp(control)
        for sent in SENT.findall(data):
            self.late_ns.setdefault(int(sent), array.array("q")).append(at_ns - int(sent))


def read_stamp(control: list[tuple[int, int, bytes]]) -> int:
    """Return when the kernel took in the last of what was read (ns since the epoch); now, where it does not say."""
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = STAMP.unpack(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def main() -> None:
    """Do what standard input says until it ends."""
    whom = json.loads(sys.stdin.readline())
    pin(whom["core"])
    tokens = whom["tokens"]
    allow_files(len(tokens))
    links = []
    for start in range(0, len(tokens), AT_ONCE):
        asked = [
            connect(whom["host"], whom["port"], whom["source"], whom["stream"], token)
            for token in tokens[start : start + AT_ONCE]
        ]
        for link in asked:
            await_joined(link)
        links += asked
    crowd = Crowd(links)
    print("ready", flush=True)
    while line := crowd.wait():
        print(json.dumps(crowd.listen(json.loads(line)["seconds"])), flush=True)


if __name__ == "__main__":
    main()

"""Many clients of the signalling socket in a process of their own, which `bench.chat` starts.

The first line on standard input says whom to be, as JSON: `host`, `port`, `stream`, `tokens` (one for each client).
Answers "ready" when all have joined. Each further line is a number of seconds to talk for: clients take turns saying
PER_S messages a second in all, everybody hears all of them, and the answer is what was heard, as JSON.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

PER_S = 20  # messages a second that each client hears
CHAT_LIKE = " and a few words, as people write them in a chat"
SENT = re.compile(rb"sent (\d+)")
CONNECT_S = 10.0
AFTER_S = 1.0  # for the last messages to arrive
READ = 262_144


@dataclass(slots=True)
class Client:
    """One connection; `heard` counts chat messages, `late_ns` lists how old they were."""

    link: socket.socket
    protocol: ClientProtocol
    stream: str
    heard: int = 0
    late_ns: list[int] = field(default_factory=list)
    requests: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 31)))

    def say(self, **message: Any) -> None:
        """Send one message."""
        self.protocol.send_binary(msgspec.msgpack.encode(message))
        self.flush()

    def request(self, kind: str, **values: Any) -> None:
        """Send a request about the stream."""
        self.say(type=kind, id=next(self.requests), stream=self.stream, **values)

    def flush(self) -> None:
        """Write what the protocol wants written; it is little, and the server reads."""
        self.link.setblocking(True)
        for data in self.protocol.data_to_send():
            if data:
                self.link.sendall(data)
        self.link.setblocking(False)

    def read(self) -> list[bytes]:
        """Return the messages that have arrived."""
        try:
            data = self.link.recv(READ)
        except BlockingIOError:
            return []
        if not data:
            raise SystemExit("the server closed a connection")
        self.protocol.receive_data(data)
        messages = [bytes(event.data) for event in self.protocol.events_received() if isinstance(event, Frame)]
        self.flush()
        return messages

    def take(self, now_ns: int) -> None:
        """Count what has arrived."""
        for message in self.read():
            sent = SENT.search(message) if b"chat.message" in message else None
            if sent is not None:
                self.heard += 1
                self.late_ns.append(now_ns - int(sent[1]))


def connect(host: str, port: int, stream: str, token: str) -> Client:
    """Open one connection and join the stream; returns when the server has said so."""
    link = socket.create_connection((host, port), timeout=CONNECT_S)
    protocol = ClientProtocol(parse_uri(f"ws://{host}:{port}/ws"), subprotocols=[Subprotocol("mesi.v1.msgpack")])
    protocol.send_request(protocol.connect())
    client = Client(link, protocol, stream)
    client.flush()
    while protocol.state.name == "CONNECTING":
        link.settimeout(CONNECT_S)
        protocol.receive_data(link.recv(READ))
        protocol.events_received()
    client.say(type="hello", token=token)
    client.request("join")
    deadline = time.monotonic() + CONNECT_S
    while not any(msgspec.msgpack.decode(message).get("type") == "ok" for message in client.read()):
        if time.monotonic() > deadline:
            raise SystemExit("the server did not answer a client's join")
        time.sleep(0.001)
    return client


def talk(clients: list[Client], seconds: float, selector: selectors.BaseSelector) -> dict[str, Any]:
    """Let everybody talk, and return what was heard."""
    for client in clients:
        client.heard = 0
        client.late_ns.clear()
    began, said = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds + AFTER_S:
        if now < began + seconds and now >= began + said / PER_S:
            speaker = clients[said % len(clients)]
            speaker.request("chat", text=f"sent {time.time_ns()}{CHAT_LIKE}", client_txn=f"{began}-{said}")
            said += 1
        wait_s = max(began + said / PER_S - now, 0.0) if now < began + seconds else 0.05
        for key, _ in selector.select(wait_s):
            key.data.take(time.time_ns())
    late_ms = sorted(late / 1e6 for client in clients for late in client.late_ns)
    return {
        "said": said,
        "heard": sum(client.heard for client in clients),
        "least": min(client.heard for client in clients),
        "p50_ms": late_ms[len(late_ms) // 2] if late_ms else None,
        "p99_ms": late_ms[len(late_ms) * 99 // 100] if late_ms else None,
    }


def main() -> None:
    """Do what standard input says until it ends."""
    os.nice(19)  # on a machine with few cores, neither publisher nor receiver is to wait for this process
    whom = json.loads(sys.stdin.readline())
    selector = selectors.DefaultSelector()
    clients = [connect(whom["host"], whom["port"], whom["stream"], token) for token in whom["tokens"]]
    for client in clients:
        selector.register(client.link, selectors.EVENT_READ, client)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(talk(clients, float(line), selector)), flush=True)


if __name__ == "__main__":
    main()

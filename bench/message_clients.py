"""Many clients of the messenger in a process of their own, which `bench.messages` starts.

The first line on standard input says whom to be, as JSON: `host`, `port`, `clients` (token and conversation of each).
Answers "ready" when all follow the log. Each further line is JSON, `seconds` and `per_s`: clients take turns writing so
many messages a second in all, everybody hears those of his conversation, and the answer is what was heard, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import re
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

SENT = re.compile(rb"sent (\d+)")
MESSAGE_LIKE = " and a few words, as people write them to each other"
CONNECT_S = 30.0
AFTER_S = 3.0  # for the last messages to arrive
READ = 262_144
KEPT = 200_000  # latencies kept of one stretch, a random part of all
BINARY = 0x82  # a final frame of binary data (RFC 6455 section 5.2)
MASKED = 0x80


@dataclass(slots=True)
class Client:
    """One connection that follows the log; `heard` counts messages of its conversation, `answered` those of its own."""

    link: socket.socket
    conversation: str
    unread: bytearray = field(default_factory=bytearray)
    heard: int = 0
    answered: int = 0
    refused: int = 0
    requests: int = 0

    def ask(self, kind: str, **values: Any) -> None:
        """Send a request."""
        self.requests += 1
        self.say(type=kind, id=self.requests, **values)

    def say(self, **message: Any) -> None:
        """Send one message, in a frame whose mask is nothing: it has to be masked, not to be secret."""
        data = msgspec.msgpack.encode(message)
        size = bytes([MASKED | len(data)]) if len(data) < 126 else bytes([MASKED | 126]) + len(data).to_bytes(2)
        self.link.setblocking(True)
        self.link.sendall(bytes([BINARY]) + size + bytes(4) + data)
        self.link.setblocking(False)

    def read(self) -> list[bytes]:
        """Return the messages that have arrived."""
        try:
            data = self.link.recv(READ)
        except BlockingIOError:
            return []
        if not data:
            raise SystemExit("the server closed a connection")
        self.unread += data
        frames, at = [], 0
        while len(self.unread) >= at + 2:
            size, begin = self.unread[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, begin = int.from_bytes(self.unread[begin : begin + width]), begin + width
            if len(self.unread) < begin + size:
                break
            frames.append(bytes(self.unread[begin : begin + size]))
            at = begin + size
        del self.unread[:at]
        return frames


class Crowd:
    """All clients, and what they heard."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.late_ns: list[int] = []
        self.selector = selectors.DefaultSelector()
        for client in clients:
            self.selector.register(client.link, selectors.EVENT_READ, client)

    def listen(self, wait_s: float) -> None:
        """Take what has arrived."""
        for key, _ in self.selector.select(wait_s):
            client: Client = key.data
            now_ns = time.time_ns()
            for message in client.read():
                self._take(client, message, now_ns)

    def _take(self, client: Client, message: bytes, now_ns: int) -> None:
        sent = SENT.search(message)
        if sent is not None:
            client.heard += 1
            if len(self.late_ns) < KEPT:
                self.late_ns.append(now_ns - int(sent[1]))
            elif random.random() < 0.1:
                self.late_ns[random.randrange(KEPT)] = now_ns - int(sent[1])
        elif b"\xa4type\xa2ok" in message[:12]:
            client.answered += 1
        elif b"\xa4type\xa5error" in message:
            client.refused += 1

    def talk(self, seconds: float, per_s: float) -> dict[str, Any]:
        """Let everybody write, and return what was heard."""
        for client in self.clients:
            client.heard = client.answered = client.refused = 0
        self.late_ns.clear()
        began, said = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds + AFTER_S:
            while now < began + seconds and now >= began + said / per_s:
                # Steps of a large prime: those who write one after the other are in different conversations.
                self._write(self.clients[said * 7919 % len(self.clients)], f"{began}-{said}")
                said += 1
            self.listen(min(max(began + said / per_s - now, 0.0), 0.05))
        return self._told(said, seconds)

    def _write(self, client: Client, txn: str) -> None:
        text = f"sent {time.time_ns()}{MESSAGE_LIKE}"
        client.ask("message.send", conversation=client.conversation, text=text, client_txn=txn)

    def _told(self, said: int, seconds: float) -> dict[str, Any]:
        late_ms = sorted(late / 1e6 for late in self.late_ns)
        return {
            "said": said,
            "answered": sum(client.answered for client in self.clients),
            "refused": sum(client.refused for client in self.clients),
            "heard": sum(client.heard for client in self.clients),
            "seconds": seconds,
            "p50_ms": late_ms[len(late_ms) // 2] if late_ms else None,
            "p99_ms": late_ms[len(late_ms) * 99 // 100] if late_ms else None,
        }


def connect(host: str, port: int, token: str, conversation: str) -> Client:
    """Open one connection and follow the log; returns when that was asked."""
    link = socket.create_connection((host, port), timeout=CONNECT_S)
    head = ["GET /ws HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    link.sendall("\r\n".join([*head, "Sec-WebSocket-Protocol: mesi.v1.msgpack", "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += link.recv(1024)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(answer.decode())
    client = Client(link, conversation, bytearray(answer.partition(b"\r\n\r\n")[2]))
    client.say(type="hello", token=token)
    client.ask("events.follow")
    return client


def main() -> None:
    """Do what standard input says until it ends."""
    os.nice(5)
    whom = json.loads(sys.stdin.readline())
    crowd = Crowd([connect(whom["host"], whom["port"], *each) for each in whom["clients"]])
    deadline = time.monotonic() + CONNECT_S
    while sum(client.answered for client in crowd.clients) < len(crowd.clients):
        crowd.listen(0.1)
        if time.monotonic() > deadline:
            raise SystemExit("the server did not answer all clients")
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(crowd.talk(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

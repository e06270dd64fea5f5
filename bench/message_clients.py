"""Many clients of the messenger in a process of their own, which `bench.messages` starts.

The first line on standard input says whom to be, as JSON: `host`, `port`, `clients` (token and conversation of each),
`size` (of a conversation). Answers "ready" when all follow the log. Each further line is JSON, `seconds` and `per_s`:
clients take turns writing so many messages a second in all, everybody hears those of his conversation, and the answer
is what was heard, as JSON.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec

from bench.cores import pin
from bench.files import allow_files
from bench.message_receiving import BIN_NS, Count, listen, make_heard
from media.io.native import SO_TIMESTAMPNS

MESSAGE_LIKE = " and a few words, as people write them to each other"
CONNECT_S = 60.0
AT_ONCE = 200  # connections that are asked for before their answers are waited for
PER_ADDRESS = 20_000  # connections from one loopback address, which has not enough ports for more
AFTER_S = 10.0  # for the last messages to arrive
NAP_S = 0.001  # arrivals gather meanwhile, and a sender need not wake this process for each
BINARY = 0x82  # a final frame of binary data (RFC 6455 section 5.2)
MASKED = 0x80


@dataclass(slots=True)
class Client:
    """One connection that follows the log."""

    link: socket.socket
    conversation: str
    requests: int = 0

    def ask(self, kind: str, **values: Any) -> None:
        """Send a request."""
        self.requests += 1
        self.say(type=kind, id=self.requests, **values)

    def say(self, **message: Any) -> None:
        """Send one message, in a frame whose mask is nothing: it has to be masked, not to be secret."""
        data = msgspec.msgpack.encode(message)
        size = bytes([MASKED | len(data)]) if len(data) < 126 else bytes([MASKED | 126]) + len(data).to_bytes(2)
        frame = bytes([BINARY]) + size + bytes(4) + data
        if self.link.send(frame) < len(frame):
            raise SystemExit("the server does not read what a client says")


class Crowd:
    """All clients, and what they heard."""

    def __init__(self, clients: list[Client], size: int) -> None:
        self.clients, self.size = clients, size
        self.heard = make_heard([client.link.fileno() for client in clients])
        self._epoll = select.epoll()
        for client in clients:
            self._epoll.register(client.link, select.EPOLLIN)

    def listen(self, wait_s: float) -> None:
        """Take what has arrived."""
        listen(self.heard, self._epoll.fileno(), int(wait_s * 1000))
        if self.heard.counts[Count.CLOSED]:
            raise SystemExit("the server closed a connection")

    def talk(self, seconds: float, per_s: float) -> dict[str, Any]:
        """Let everybody write, and return what was heard."""
        self.heard.counts[:] = 0
        self.heard.bins[:] = 0
        began, busy, said, late_s = time.monotonic(), time.process_time(), 0, 0.0
        while (now := time.monotonic()) < began + seconds:
            while now >= began + said / per_s:
                late_s = max(late_s, now - began - said / per_s)
                # Steps of a large prime: those who write one after the other are in different conversations.
                self._write(self.clients[said * 7919 % len(self.clients)], f"{began}-{said}")
                said += 1
            self.listen(0)
            time.sleep(NAP_S)
        busy = (time.process_time() - busy) / (time.monotonic() - began)
        while not self._is_all(said) and time.monotonic() < began + seconds + AFTER_S:
            self.listen(0.01)
        return self._told(said) | {"tool_cores": busy, "tool_late_ms": late_s * 1e3}

    def _write(self, client: Client, txn: str) -> None:
        text = f"sent {time.time_ns()}{MESSAGE_LIKE}"
        client.ask("message.send", conversation=client.conversation, text=text, client_txn=txn)

    def _is_all(self, said: int) -> bool:
        counts = self.heard.counts
        return bool(counts[Count.ANSWERED] >= said and counts[Count.HEARD] >= said * self.size)

    def _told(self, said: int) -> dict[str, Any]:
        counts = {
            count.name.lower(): int(self.heard.counts[count]) for count in (Count.ANSWERED, Count.REFUSED, Count.HEARD)
        }
        return {"said": said, **counts, "p50_ms": self._late_ms(0.5), "p99_ms": self._late_ms(0.99)}

    def _late_ms(self, share: float) -> float | None:
        wanted = share * int(self.heard.counts[Count.HEARD])
        if not wanted:
            return None
        reached = accumulate(self.heard.bins.tolist())
        return next(bin + 1 for bin, so_far in enumerate(reached) if so_far >= wanted) * BIN_NS / 1e6


def connect(host: str, port: int, source: str, token: str, conversation: str) -> Client:
    """Open one connection and ask to follow the log."""
    link = socket.create_connection((host, port), timeout=CONNECT_S, source_address=(source, 0))
    link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    head = ["GET /ws HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade", "Upgrade: websocket"]
    head += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    link.sendall("\r\n".join([*head, "Sec-WebSocket-Protocol: mesi.v1.msgpack", "", ""]).encode())
    client = Client(link, conversation)
    client.say(type="hello", token=token)
    client.ask("events.follow")
    return client


def await_following(client: Client) -> None:
    """Wait until the server has said that a client follows the log."""
    said = b""
    while b"\xa4type\xa2ok" not in said:
        part = client.link.recv(4096)
        if not part:
            raise SystemExit(f"the server refused a client: {said[-300:]!r}")
        said += part
    client.link.setblocking(False)


def main() -> None:
    """Do what standard input says until it ends."""
    whom = json.loads(sys.stdin.readline())
    pin(whom["core"])
    os.nice(5)
    allow_files(len(whom["clients"]))
    clients: list[Client] = []
    for start in range(0, len(whom["clients"]), AT_ONCE):
        source = f"127.0.0.{2 + start // PER_ADDRESS}"
        some = whom["clients"][start : start + AT_ONCE]
        asked = [connect(whom["host"], whom["port"], source, *each) for each in some]
        for client in asked:
            await_following(client)
        clients += asked
    crowd = Crowd(clients, whom["size"])
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(crowd.talk(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

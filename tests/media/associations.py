"""Two SCTP associations, or what sits on them, and a seeded network between them that loses, repeats and reorders."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from media.webrtc import sctp_chunks as wire
from media.webrtc.sctp import Association
from media.webrtc.sctp_events import Established
from media.webrtc.sctp_inbound import Message

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000 * MILLISECOND_NS
TICK_NS = 5 * MILLISECOND_NS


def association(seed: int = 1) -> Association:
    return Association(random_bits=random.Random(seed).getrandbits)


class Wire:
    """Two ends, `ends[0]` and `ends[1]`: each has `receive_untrusted`, `take_packets` and timers."""

    def __init__(self, ends: tuple[Any, Any], *, seed: int = 0, loss: float = 0.0) -> None:
        self.ends, self.loss, self.random = ends, loss, random.Random(seed)
        self.now_ns = SECOND_NS
        self.told: tuple[list[Any], list[Any]] = ([], [])
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])
        self.flying: list[tuple[int, int, bytes]] = []
        self.lost: Callable[[int, bytes], bool] = lambda to, packet: False

    def step(self) -> None:
        for end in (0, 1):
            for packet in self.ends[end].take_packets(self.now_ns):
                self.sent[end].append(packet)
                self._carry(1 - end, packet)
        self.now_ns += TICK_NS
        arrived = [item for item in self.flying if item[0] <= self.now_ns]
        self.flying = [item for item in self.flying if item[0] > self.now_ns]
        for _, to, packet in arrived:
            self.told[to].extend(self.ends[to].receive_untrusted(packet, self.now_ns))
        for end in (0, 1):
            if self.ends[end].deadline_ns() <= self.now_ns:
                self.told[end].extend(self.ends[end].handle_timeout(self.now_ns))

    def _carry(self, to: int, packet: bytes) -> None:
        if self.lost(to, packet) or self.random.random() < self.loss:
            return
        for _ in range(1 + (self.loss > 0 and self.random.random() < 0.1)):
            delay = self.random.randrange(1, 8 if self.loss else 2)
            self.flying.append((self.now_ns + delay * TICK_NS, to, packet))

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * SECOND_NS) // TICK_NS):
            self.step()

    def run_until(self, condition: Callable[[], bool], seconds: float = 900) -> None:
        until_ns = self.now_ns + int(seconds * SECOND_NS)
        while not condition():
            assert self.now_ns < until_ns, "nothing more happens"
            self.step()

    def messages(self, end: int) -> list[tuple[int, bytes]]:
        return [(event.stream, event.data) for event in self.told[end] if isinstance(event, Message)]

    def kinds(self, end: int) -> list[list[int]]:
        """The chunks of each packet that an end has sent."""
        return [[chunk.kind for chunk in wire.parse_packet_untrusted(packet).chunks] for packet in self.sent[end]]


def connected(*, seed: int = 0, loss: float = 0.0) -> Wire:
    ends = association(seed + 1), association(seed + 2)
    between = Wire(ends, seed=seed, loss=min(loss, 0.05))
    ends[0].connect(between.now_ns)
    between.run_until(lambda: all(Established() in told for told in between.told))
    between.loss = loss
    return between


def packet(*chunks: bytes, tag: int, port: int = 5000) -> bytes:
    return wire.build_packet(port, 5000, tag, chunks)

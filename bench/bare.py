"""The bare cost of a fan-out, as the measure for a server's: one publisher's packets to many sockets, and no server."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pylibsrtp import Session

from bench.bare_sending import MESSAGES, SLOT, Job, send_all
from bench.payload import Packet, Rate, Source
from media.forwarding.addresses import pack_sockaddr
from media.io.native import SOL_UDP, UDP_SEGMENT
from media.webrtc.srtp import SrtpKeys, SrtpProfile, context_address, open_sender
from server.offers import AUDIO, VIDEO

SECOND_NS = 1_000_000_000
MOST_MERGED = 40  # packets of one message: below what fits, and what the kernel takes
SOCKET_BUFFER = 4 << 20  # bytes, as the server's


@dataclass(frozen=True, slots=True)
class Bare:
    """What a run cost: packets sent, those that failed, and the thread's processor time."""

    packets: int
    failed: int
    cpu_ns: int


class BareSender:
    """Sends one publisher's packets to IPv4 addresses, each under its own of `keys`, from its own socket."""

    def __init__(self, names: list[tuple[str, int]], rate: Rate) -> None:
        profile = SrtpProfile.AEAD_AES_128_GCM
        secrets = [os.urandom(profile.key_size + profile.salt_size) for _ in names]
        self.keys = [SrtpKeys(profile, secret, secret) for secret in secrets]
        self._names, self._rate = names, rate
        self._sessions: list[Session] = [open_sender(keys) for keys in self.keys]
        self._numbers: npt.NDArray[np.int64] = np.zeros(2, dtype=np.int64)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        self._socket.bind(("127.0.0.1", 0))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def run(self, seconds: float, core: int | None) -> Bare:
        """Send for so long, on one processor core where given; the caller's thread waits."""
        job = self._prepare(seconds)
        done: list[Bare] = []

        def work() -> None:
            if core is not None:
                os.sched_setaffinity(0, {core})
            before = time.thread_time_ns()
            sent = send_all(np.int64(self._socket.fileno()), job)
            done.append(Bare(int(sent), int(job.failures.sum()), time.thread_time_ns() - before))

        thread = threading.Thread(target=work, name="bare")
        thread.start()
        thread.join()
        return done[0]

    def _prepare(self, seconds: float) -> Job:
        source = Source(0, self._rate, started_ns=0)
        packets: list[Packet] = []
        while (due_ns := source.deadline_ns()) < seconds * SECOND_NS:
            packets += source.due(due_ns)
        bursts = list(_bursts(packets))
        sizes = [len(packet.payload) for packet in packets]
        job = Job(
            contexts=np.array([context_address(session) for session in self._sessions], dtype=np.uint64),
            names=np.array([list(pack_sockaddr(name)) for name in self._names], dtype=np.uint8),
            due_ns=np.array([burst[0].at_ns for burst in bursts], dtype=np.int64),
            first=np.cumsum([0, *(len(burst) for burst in bursts)]),
            kinds=np.array([VIDEO if packet.kind == "video" else AUDIO for packet in packets], dtype=np.int64),
            marks=np.array([packet.marker for packet in packets], dtype=np.int64),
            stamps=np.array([packet.timestamp for packet in packets], dtype=np.int64),
            starts=np.cumsum([0, *sizes]),
            payloads=np.frombuffer(b"".join(packet.stamp(0) for packet in packets), dtype=np.uint8).copy(),
            numbers=self._numbers,
            arena=np.zeros((MESSAGES, SLOT), dtype=np.uint8),
            headers=np.zeros((MESSAGES, 8), dtype=np.uint64),
            vectors=np.zeros((MESSAGES, 2), dtype=np.uint64),
            segments=np.zeros((MESSAGES, 24), dtype=np.uint8),
            scratch=np.zeros(8, dtype=np.int64),
            failures=np.zeros(2, dtype=np.int64),
        )
        for i in range(MESSAGES):
            job.vectors[i, 0] = job.arena[i].ctypes.data
            job.headers[i, 2:4] = job.vectors[i].ctypes.data, 1
            job.segments[i] = list(struct.pack("=QiiH6x", 18, SOL_UDP, UDP_SEGMENT, 0))
        return job


def _bursts(packets: list[Packet]) -> Iterator[list[Packet]]:
    """Put together what leaves as one message: the packets of one frame, or a part of a large one."""
    for _, frame in itertools.groupby(packets, key=lambda packet: (packet.at_ns, packet.kind)):
        left = list(frame)
        while left:
            yield left[:MOST_MERGED]
            left = left[MOST_MERGED:]

"""`python -m bench.workers`: what one stream gains by a second forwarding thread on a second core.

One worker, two workers, and two processes at once with a worker each, which share nothing, take turns. The processes
say what the machine has to give: the cores of a virtual one may be halves of a real one. A publisher hands frames over
as fast as they are worked off, with never more than a few waiting, so that all threads are busy; what counts is how
many packets leave in how much time. The tool itself does little, since the machine's cores belong to the threads: the
viewers are sockets that nobody reads. So each packet is encrypted and handed to the kernel, which drops it at the full
socket.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import click
import trio

from bench.cores import pin
from bench.outputs import Outputs, with_outputs
from bench.report import Report, say
from bench.tool import run_tool
from media.forwarding.admission import FOREVER, Grant, Holding
from media.forwarding.forwarder import Forwarder, Limits
from media.forwarding.tables import Count
from media.webrtc.srtp import SrtpKeys, SrtpProfile, open_sender
from media.wire.codecs import Codec
from media.wire.extensions import Passed

FRAME = 4  # packets, as of 1 Mbit/s and 30 frames a second
OCTETS = 1_100
WAITING = 4  # frames handed over and not worked off: less than the cache holds, enough to keep all busy
PAUSE_S = 0.002
APART = "import sys; from bench.workers import run_on; run_on(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))"
LEAST_GAIN = 1.7
LEAST_OF_APART = 0.9  # of what two processes send that share nothing


@dataclass(frozen=True, slots=True)
class Sent:
    """How a viewer is sent a track."""

    payload_type: int = 96
    rtx_payload_type: int | None = None
    ssrc: int = 1
    rtx_ssrc: int | None = None
    stamp: int = 0
    red_payload_type: int | None = None
    passed: Mapping[Passed, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """What some workers did: packets that left, those that should have, and the time it took."""

    sent: int
    expected: int
    seconds: float
    cpu_s: tuple[float, ...]

    @property
    def per_s(self) -> float:
        """Packets a second."""
        return self.sent / self.seconds

    @property
    def us(self) -> float:
        """Processor time of all workers for each packet."""
        return sum(self.cpu_s) * 1e6 / max(self.sent, 1)


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of each, and what two processes sent in a second together."""

    one: Turn
    two: Turn
    apart_per_s: float


class Publisher:
    """Sends frames of video, encrypted, to the worker that has it."""

    def __init__(self, forwarder: Forwarder, room: int, stack: ExitStack) -> None:
        self._socket, self.row, keys = open_end(forwarder, room, 0, stack, publishes=True)
        self._session = open_sender(SrtpKeys(keys.profile, keys.remote, keys.local))
        self._server = forwarder.addresses[0]
        self._seq = 0

    def send(self) -> None:
        """Send a frame."""
        for number in range(FRAME):
            marker = 0x80 if number == FRAME - 1 else 0
            ts = 3_000 * (self._seq // FRAME) & 0xFFFFFFFF
            header = struct.pack("!BBHII", 0x80, 96 | marker, self._seq & 0xFFFF, ts, 7)
            payload = (b"\x10\x00" if self._seq == 0 else b"\x10\x01") + bytes(OCTETS - 2)
            self._socket.sendto(self._session.protect(header + payload), self._server)
            self._seq += 1


def open_end(
    forwarder: Forwarder, room: int, worker: int, stack: ExitStack, *, publishes: bool
) -> tuple[socket.socket, int, SrtpKeys]:
    """Open a transport whose far end is a socket of this process; returns that, its row and the forwarder's keys."""
    end = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    end.bind(("127.0.0.1", 0))
    profile = SrtpProfile.AEAD_AES_128_GCM
    size = profile.key_size + profile.salt_size
    keys = SrtpKeys(profile, os.urandom(size), os.urandom(size))
    row = forwarder.open_transport(room, publishes=publishes, worker=worker)
    path = forwarder.workers.path(worker, end.getsockname())
    forwarder.bind_address(row, path)
    forwarder.send_to(row, path)
    forwarder.set_keys(row, keys)
    return end, row, keys


async def run_turn(workers: int, viewers: int, seconds: float) -> Turn:
    """Forward one track to viewers that are spread over the workers."""
    limits = Limits(rooms=1, transports=viewers + 1, tracks=1, subscriptions=viewers)
    async with trio.open_nursery() as nursery:
        forwarder = Forwarder(("127.0.0.1", 0), limits, workers=workers)
        await nursery.start(forwarder.run)
        with ExitStack() as stack:
            room = forwarder.open_room()
            forwarder.admission.require(room, Grant.WELCOME)
            publisher = Publisher(forwarder, room, stack)
            forwarder.admission.publish_until(publisher.row, FOREVER)
            track = forwarder.open_track(room, "video", Codec.VP8, 90_000)
            forwarder.feed_track(
                track, publisher.row, payload_type=96, rtx_payload_type=None, twcc_extension_id=None, nack=False
            )
            for number in range(viewers):
                _, row, _ = open_end(forwarder, room, number % workers, stack, publishes=False)
                forwarder.admission.hold(row, Holding(Grant.WELCOME))
                forwarder.subscribe(track, row, Sent(ssrc=number + 1))
            await _run_for(forwarder, publisher, viewers, min(seconds, 1.0))  # fills the viewers' sockets
            turn = await _run_for(forwarder, publisher, viewers, seconds)
        nursery.cancel_scope.cancel()
    return turn


async def _run_for(forwarder: Forwarder, publisher: Publisher, viewers: int, seconds: float) -> Turn:
    before, cpu_ns = _sent(forwarder), forwarder.workers.cpu_ns()
    began = time.monotonic()
    handed = 0
    while time.monotonic() - began < seconds:
        left = (handed * FRAME * viewers) - (_sent(forwarder) - before)
        if left < WAITING * FRAME * viewers:
            publisher.send()
            handed += 1
        else:
            await trio.sleep(PAUSE_S)
    took_s = time.monotonic() - began
    took_ns = [now - then for now, then in zip(forwarder.workers.cpu_ns(), cpu_ns, strict=True)]
    sent = _sent(forwarder) - before
    await trio.sleep(0.2)
    await forwarder.fence()
    left = handed * FRAME * viewers - (_sent(forwarder) - before)
    return Turn(sent, sent + left, took_s, tuple(ns / 1e9 for ns in took_ns))


def _sent(forwarder: Forwarder) -> int:
    # Of few cells, since it is asked all the time: naming every counter took a third of a core from the workers.
    cells = [tables.counters for tables in forwarder.workers.tables]
    return sum(int(each[Count.SENT] + each[Count.SEND_BUSY] - each[Count.SENDER_REPORTS]) for each in cells)


async def run_apart(viewers: int, seconds: float) -> float:
    """Return what two processes with a worker each, that share nothing, send in a second together."""
    found: list[float] = []

    async def run(core: int) -> None:
        words = [sys.executable, "-c", APART, str(core), str(viewers // 2), str(seconds)]
        done = await trio.run_process(words, capture_stdout=True)
        found.append(float(done.stdout))

    async with trio.open_nursery() as nursery:
        for core in sorted(os.sched_getaffinity(0))[:2]:
            nursery.start_soon(run, core)
    return sum(found)


def run_on(core: int, viewers: int, seconds: float) -> None:
    """Measure one worker on a core, and print how many packets it sends in a second."""
    pin(core)
    print(trio.run(run_turn, 1, viewers, seconds).per_s)


async def run_rounds(viewers: int, seconds: float, repeats: int) -> list[Round]:
    """Measure one worker, two, and two processes, in turns."""
    rounds = []
    for number in range(repeats):
        say(f"turn {number + 1} of {repeats}: one worker, two, and two processes, {seconds:g} s each ...")
        one, two = await run_turn(1, viewers, seconds), await run_turn(2, viewers, seconds)
        rounds.append(Round(one, two, await run_apart(viewers, seconds)))
    return rounds


def describe(rounds: list[Round], viewers: int) -> Report:
    """Put medians into a report, and say whether the second worker is worth its core."""
    report = Report(f"one stream to {viewers} viewers that do not read, with one forwarding thread and with two")
    gain = statistics.median(each.two.per_s / each.one.per_s for each in rounds)
    share = statistics.median(each.two.per_s / each.apart_per_s for each in rounds)
    report.add("packets a second, one worker", statistics.median(each.one.per_s for each in rounds))
    report.add("packets a second, two workers", statistics.median(each.two.per_s for each in rounds))
    report.add("packets a second, two processes", statistics.median(each.apart_per_s for each in rounds))
    report.add("gain of the second worker", gain, "x")
    report.add("of the second process", statistics.median(each.apart_per_s / each.one.per_s for each in rounds), "x")
    report.add("all turns, workers", " ".join(f"{each.two.per_s / each.one.per_s:.2f}" for each in rounds), "x")
    report.add("all turns, processes", " ".join(f"{each.apart_per_s / each.one.per_s:.2f}" for each in rounds), "x")
    report.add("CPU for each packet, one worker", statistics.median(each.one.us for each in rounds), "us")
    report.add("CPU for each packet, two workers", statistics.median(each.two.us for each in rounds), "us")
    lost = sum(abs(turn.expected - turn.sent) for each in rounds for turn in (each.one, each.two))
    report.add("packets missing", lost)
    report.expect(f"two workers send at least {LEAST_GAIN:g} times as much as one", gain >= LEAST_GAIN)
    report.expect(f"and at least {LEAST_OF_APART:g} times what two processes do", share >= LEAST_OF_APART)
    report.expect("every packet leaves for every viewer", lost == 0)
    return report


@click.command()
@click.option("--viewers", default=400, show_default=True, help="In one room, half of them on each worker.")
@click.option("--seconds", default=4.0, show_default=True, help="Length of each turn.")
@click.option("--repeats", default=3, show_default=True, help="Turns of each.")
@with_outputs
def main(viewers: int, seconds: float, repeats: int, outputs: Outputs) -> None:
    """Compare how much of one stream leaves with one forwarding thread and with two."""

    async def run() -> list[Round]:
        return await run_rounds(viewers, seconds, repeats)

    outputs.deliver(describe(run_tool(run), viewers))


if __name__ == "__main__":
    main()

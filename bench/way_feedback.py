"""`python -m bench.way_feedback`: what it costs the forwarding thread to hear of many viewers' networks.

Each viewer sends a report of transport-wide feedback every 50 ms, from a socket of its own and encrypted, about ten
packets that the log says were sent: as browsers do that get 200 packets a second. Nothing else is forwarded meanwhile.
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import click
import trio

from bench.outputs import Outputs, with_outputs
from bench.report import Report, say
from bench.tool import run_tool
from media.forwarding.forwarder import Forwarder, Limits
from media.forwarding.tables import Count
from media.webrtc.srtp import SrtpKeys, SrtpProfile, open_sender
from media.wire import twcc
from media.wire.rtcp import build_rtcp
from media.wire.twcc import Twcc

REPORTS, PACKETS, EVERY_NS = 100, 10, 50_000_000  # five seconds: as many packets as the log holds
MOST_SHARE = 0.10  # of a core, for a thousand viewers


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the forwarding thread did within `seconds`."""

    sent: int
    taken: int
    packets: int
    cpu_s: float
    seconds: float


async def run_feedback(viewers: int) -> Outcome:
    """Let so many viewers tell of their networks for five seconds."""
    limits = Limits(rooms=1, transports=viewers, tracks=1, subscriptions=1)
    forwarder = Forwarder(("127.0.0.1", 0), limits)
    async with trio.open_nursery() as nursery:
        await nursery.start(forwarder.run)
        with ExitStack() as stack:
            say(f"{viewers} viewers prepare their reports ...")
            ends = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(viewers)]
            told = [_prepare(forwarder, end) for end in ends]
            say("they send them ...")
            outcome = await _tell(forwarder, ends, told)
        nursery.cancel_scope.cancel()
    return outcome


def _prepare(forwarder: Forwarder, end: socket.socket) -> list[bytes]:
    """Open a viewer's transport as if it had been sent a thousand packets; returns its reports on them, encrypted."""
    end.bind(("127.0.0.1", 0))
    end.connect(forwarder.addresses[0])
    profile = SrtpProfile.AEAD_AES_128_GCM
    size = profile.key_size + profile.salt_size
    keys = SrtpKeys(profile, os.urandom(size), os.urandom(size))
    row = forwarder.open_transport(0, publishes=False)
    forwarder.bind_address(row, end.getsockname())
    forwarder.set_keys(row, keys)
    tables, begin_ns = forwarder.tables, time.monotonic_ns()
    tables.transports["stamped"][row] = REPORTS * PACKETS
    tables.sent_log["size"][row] = 1_100
    tables.sent_log["at_ns"][row, 1 : REPORTS * PACKETS + 1] = [
        begin_ns + number * EVERY_NS // PACKETS for number in range(REPORTS * PACKETS)
    ]
    session = open_sender(SrtpKeys(profile, keys.remote, keys.local))
    return [session.protect_rtcp(report) for report in _reports(begin_ns)]


def _reports(begin_ns: int) -> Iterator[bytes]:
    chance = random.Random(1)
    for number in range(REPORTS):
        first_ns = begin_ns + number * EVERY_NS
        arrivals = [
            first_ns + place * EVERY_NS // PACKETS + chance.randrange(2_000_000) if chance.random() > 0.01 else None
            for place in range(PACKETS - 1)
        ]
        arrivals.append(first_ns + EVERY_NS)
        template = Twcc(1, 1, 0, number, 0, ())
        yield build_rtcp(next(twcc.reports(number * PACKETS + 1, arrivals, template)))


async def _tell(forwarder: Forwarder, ends: list[socket.socket], told: list[list[bytes]]) -> Outcome:
    began, (cpu_ns,) = trio.current_time(), forwarder.workers.cpu_ns()
    for number in range(REPORTS):
        for place, (end, reports) in enumerate(zip(ends, told, strict=True)):
            if place % 20 == 0:
                await trio.sleep_until(began + (number + place / len(ends)) * EVERY_NS / 1e9)
            end.send(reports[number])
    await trio.sleep(0.1)
    await forwarder.fence()
    seconds = trio.current_time() - began
    cpu_s = (forwarder.workers.cpu_ns()[0] - cpu_ns) / 1e9
    taken = int(forwarder.tables.counters[Count.WAY_REPORTS])
    packets = int((forwarder.tables.sent_log["size"][: len(ends), 1 : REPORTS * PACKETS + 1] == 0).sum())
    return Outcome(REPORTS * len(ends), taken, packets, cpu_s, seconds)


def describe(outcome: Outcome, viewers: int) -> Report:
    """Put it into words."""
    report = Report(f"{viewers} viewers tell of their networks, 20 times a second each")
    report.add("reports sent", outcome.sent)
    report.add("reports taken", outcome.taken)
    report.add("packets they spoke of", outcome.packets)
    report.add("CPU of the forwarding thread", 100 * outcome.cpu_s / outcome.seconds, "% of a core")
    report.add("for each report", outcome.cpu_s / max(outcome.taken, 1) * 1e6, "us")
    allowed = MOST_SHARE * viewers / 1000
    report.expect(f"at most {100 * allowed:g} % of a core", outcome.cpu_s / outcome.seconds <= allowed)
    report.expect("every report is taken", outcome.sent == outcome.taken)
    return report


@click.command()
@click.option("--viewers", default=1000, show_default=True)
@with_outputs
def main(viewers: int, outputs: Outputs) -> None:
    """Measure what feedback about viewers' networks costs."""

    async def run() -> Outcome:
        return await run_feedback(viewers)

    report = describe(run_tool(run), viewers)
    outputs.deliver(report)


if __name__ == "__main__":
    main()

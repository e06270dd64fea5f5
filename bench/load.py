"""`python -m bench.load`: publishers and viewers against any WHIP and WHEP server, and what arrives.

Against a Mesi the publishers may come over MoQ instead, on WebTransport or raw QUIC.
"""

from __future__ import annotations

from dataclasses import dataclass

import click
import trio

from bench.crowd import Place, Viewer
from bench.mesi import Mesi, open_mesi
from bench.moq_publishing import SCHEMES, MoqPlace
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.plots import Lines
from bench.process import memory_bytes
from bench.receiver import Decrypt
from bench.report import Report, percentile, say
from bench.stage import Opening, Stage, Window, open_stage
from bench.tables import Count
from bench.tool import run_tool

WHIP = "whip"
SAMPLE = 20  # viewers whose every packet is decrypted: 4 % of a core at 1 Mbit/s


@dataclass(frozen=True, slots=True)
class Room:
    """Where one publisher publishes, and where each of its viewers watches; `moq` or `opening` where not over WHIP."""

    whip: str
    token: str
    places: tuple[Place, ...]
    moq: MoqPlace | None = None
    opening: Opening | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How much to do."""

    rate: Rate
    seconds: float
    warm_up: float
    joins_per_s: float
    sample: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    window: Window
    viewers: list[Viewer]
    joins_ms: list[float]
    keyframes_asked: int
    memory_before: int | None


async def run_load(stage: Stage, rooms: list[Room], load: Load, pid: int | None = None) -> Outcome:
    """Fill rooms, wait, and measure. Raises SessionFailed when a publisher can't publish."""
    before = memory_bytes(pid) if pid is not None else None
    for number, room in enumerate(rooms):
        await publish_in(stage, room, load.rate, number)
    viewers = seat(stage, [place for room in rooms for place in room.places], load.sample)
    say(f"{len(rooms)} publishing; {len(viewers)} viewers join, {load.joins_per_s:g} a second ...")
    await stage.join(viewers, joins_per_s=load.joins_per_s)
    await trio.sleep(load.warm_up)
    say(f"measuring for {load.seconds:g} s ...")
    window = await stage.measure(load.seconds, pid)
    joins = [viewer.join_ms for viewer in viewers if viewer.join_ms is not None]
    asked = sum(len(publisher.asked_ns) for publisher in stage.publishers.values())
    return Outcome(window, viewers, joins, asked, before)


async def publish_in(stage: Stage, room: Room, rate: Rate, number: int) -> None:
    """Publish in a room, the way it is done there. Raises SessionFailed."""
    if room.moq is not None:
        await stage.publish_over_moq(room.moq, rate, number)
    elif room.opening is not None:
        await stage.publish_through(room.opening, rate, number)
    else:
        await stage.publish(room.whip, room.token, rate, number)


def seat(stage: Stage, places: list[Place], sample: int, *, stamped: bool = False) -> list[Viewer]:
    """Return a viewer for each place; `sample` of them, evenly spread, decrypt everything."""
    every = max(len(places) // sample, 1) if sample else len(places) + 1
    return [
        Viewer(place, stage.receiver, Decrypt.ALL if number % every == every // 2 else Decrypt.TO_PICTURE, stamped)
        for number, place in enumerate(places)
    ]


def describe(outcome: Outcome, title: str) -> Report:
    """Put an outcome into words and numbers."""
    report, window, totals = Report(title), outcome.window, outcome.window.totals
    failures = [viewer.failure for viewer in outcome.viewers if viewer.failure is not None]
    for failure in failures[:3]:
        say(f"a viewer failed: {failure}")
    delivered = window.delivered
    report.add("viewers", len(outcome.viewers))
    report.add("viewers refused", len(failures))
    report.add("viewers put out", window.put_out)
    report.add("viewers without a picture", len(outcome.viewers) - len(outcome.joins_ms))
    report.add("viewers silent while measured", window.silent)
    report.add("packets delivered", delivered)
    report.add("packets a second", delivered / window.seconds)
    report.add("packets sent x viewers", window.expected)
    report.add("lost (gaps in numbers on the wire)", totals.lost)
    report.add("lost (gaps in the publisher's numbers)", totals.lost_inside)
    report.add("late", totals.count(Count.LATE))
    report.add("repeated", totals.count(Count.REPEATED))
    report.add("retransmissions", totals.count(Count.RTX))
    report.add("decrypted and verified", totals.count(Count.DECRYPTED) - _bad(window))
    report.add("wrong content", _bad(window))
    report.add("merged by the receiver's kernel", delivered / max(totals.count(Count.DATAGRAMS), 1), "packets")
    for share in (0.5, 0.99, 0.999):
        report.add(f"one-way latency p{share * 100:g}", totals.latency_ms(share), "ms")
    shares = [(share / 1000, totals.latency_ms(share / 1000)) for share in range(0, 1000, 5)]
    report.draw(
        Lines(
            "One-way latency of decrypted packets",
            "ms",
            "% of packets at most so late",
            {"latency": [(ms, 100 * share) for share, ms in shares if ms is not None]},
        )
    )
    for share in (0.5, 0.99):
        report.add(f"first picture p{share * 100:g}", percentile(outcome.joins_ms, share), "ms")
    report.add("keyframes asked of publishers", outcome.keyframes_asked)
    if window.cpu_ns is not None and window.memory_bytes is not None and outcome.memory_before is not None:
        report.add("server CPU", window.cpu_ns / 1e9 / window.seconds, "cores")
        report.add("server CPU per delivered packet", window.cpu_ns / 1e3 / max(delivered, 1), "us")
        report.add("server memory", window.memory_bytes / 1e6, "MB")
        grown = (window.memory_bytes - outcome.memory_before) / max(len(outcome.viewers), 1)
        report.add("server memory grown, per viewer", grown / 1e3, "kB")
    return report


def _bad(window: Window) -> int:
    return sum(window.totals.count(of) for of in (Count.WRONG_CONTENT, Count.FOREIGN, Count.UNDECRYPTABLE))


async def rooms_of_mesi(mesi: Mesi, rooms: int, viewers: int, carrier: str = WHIP) -> list[Room]:
    """Open streams on a Mesi, each with its owner who publishes over `carrier`, and an account for each viewer."""
    owners = await mesi.people([f"owner{number}" for number in range(rooms)])
    people = await mesi.people([f"viewer{number}" for number in range(viewers)])
    made = []
    for number, owner in enumerate(owners):
        stream = await mesi.stream(owner)
        whep = f"{mesi.url}/whep/{stream}"
        places = tuple(Place(whep, person.token, number, person.name) for person in people)
        moq = None if carrier == WHIP else MoqPlace(mesi, owner, stream, carrier)
        made.append(Room(f"{mesi.url}/whip/{stream}", owner.token, places, moq))
    return made


def rooms_of(whip: str, whep: str, token: str, rooms: int, viewers: int) -> list[Room]:
    """Name the rooms of any server: `{room}` in an address is replaced by a number from 1."""
    made = []
    for number in range(rooms):
        publish, watch = (url.replace("{room}", str(number + 1)) for url in (whip, whep))
        made.append(Room(publish, token, (Place(watch, token, number),) * viewers))
    return made


@click.command()
@click.option("--whip", metavar="URL", help="Where to publish; {room} becomes the number of a room, from 1.")
@click.option("--whep", metavar="URL", help="Where to watch, likewise.")
@click.option("--token", default="", help="Bearer token for both.")
@click.option("--mesi", "own", is_flag=True, help="Start a Mesi server for it instead, in a temporary directory.")
@click.option(
    "--publish-over", "carrier", type=click.Choice([WHIP, *SCHEMES]), default=WHIP, help="MoQ's carriers with --mesi."
)
@click.option("--pid", type=int, help="The server's process: adds its cost. Known with --mesi.")
@click.option("--server-core", type=int, help="With --mesi: the one processor core that the server may use.")
@click.option("--rooms", default=1, show_default=True, help="Publishers, each in its own room.")
@click.option("--viewers", default=50, show_default=True, help="Viewers of each room.")
@click.option("--video-bps", default=1_000_000, show_default=True, help="Bits a second of video.")
@click.option("--sound/--no-sound", default=True, help="Sound besides, 50 packets a second.")
@click.option("--seconds", default=10.0, show_default=True, help="How long to measure.")
@click.option("--warm-up", default=2.0, show_default=True, help="Seconds between the last join and that.")
@click.option("--joins", default=50.0, show_default=True, help="Joins a second.")
@click.option("--sample", default=SAMPLE, show_default=True, help="Viewers that decrypt and check everything.")
@click.option("--merge/--no-merge", default=True, help="Let this machine's kernel hand over merged packets (UDP_GRO).")
@with_outputs
def main(
    whip: str | None,
    whep: str | None,
    token: str,
    own: bool,
    carrier: str,
    pid: int | None,
    server_core: int | None,
    rooms: int,
    viewers: int,
    video_bps: int,
    sound: bool,
    seconds: float,
    warm_up: float,
    joins: float,
    sample: int,
    merge: bool,
    outputs: Outputs,
) -> None:
    """Load a WHIP and WHEP server, and say what arrived."""
    load = Load(Rate(video_bps, sound), seconds, warm_up, joins, sample)
    if carrier != WHIP and not own:
        raise click.UsageError("publishing over MoQ needs --mesi")
    title = (
        f"{rooms} x (1 publisher over {carrier}, {viewers} viewers), {video_bps:,} bit/s{' and sound' if sound else ''}"
    )

    async def run() -> Outcome:
        if own:
            say("starting a server (the first time compiles its kernel) ...")
            async with open_mesi(server_core) as mesi, open_stage(merge=merge) as stage:
                return await run_load(stage, await rooms_of_mesi(mesi, rooms, viewers, carrier), load, mesi.pid)
        if whip is None or whep is None:
            raise click.UsageError("give --whip and --whep, or --mesi")
        async with open_stage(merge=merge) as stage:
            return await run_load(stage, rooms_of(whip, whep, token, rooms, viewers), load, pid)

    outputs.deliver(describe(run_tool(run), title))


if __name__ == "__main__":
    main()

"""`python -m bench.first_picture`: how soon who buys a ticket sees the ticket-only stream that is live.

Two kinds of buyers. Some were watching when the stream went ticket-only, and wait in its lobby with a reserved seat
and their connection open. The others come later, are refused, buy, and join. Times run from the arrival of the
purchase's answer to that (by the kernel) of the last packet of the first whole keyframe, decrypted and verified; below
zero where the picture was there before the answer. The client's own handshakes are inside.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import click
import trio

from bench.cores import choose_cores, pin
from bench.crowd import LOOK_S, Place, Viewer
from bench.mesi import Mesi, Person, ServerFailed, open_mesi
from bench.outputs import Outputs, with_outputs
from bench.payload import Rate
from bench.report import Report, percentile, say
from bench.stage import Stage, open_stage
from bench.tool import run_tool

P99_MS = 500.0
PRICE = {"asset": "USD", "units": "500"}
JOINS_PER_S = 50.0
PATIENCE_S = 10.0  # for a first picture; one that comes later is counted as none
QUIET_S = 1.0  # after the switch nobody in the lobby gets anything: watched for so long


@dataclass(slots=True)
class Buyers:
    """What one kind of buyers lived through, each time in ms."""

    name: str
    bought_ms: list[float] = field(default_factory=list)  # from sending the purchase to its answer
    picture_ms: list[float] = field(default_factory=list)  # from the answer to the first picture
    blind: int = 0  # those who paid and saw nothing

    def note(self, sent_ns: int, answered_ns: int, picture_ns: int) -> None:
        """Take one buyer's times (ns since the epoch); 0 is no picture."""
        self.bought_ms.append((answered_ns - sent_ns) / 1e6)
        if picture_ns:
            self.picture_ms.append((picture_ns - answered_ns) / 1e6)
        else:
            self.blind += 1


@dataclass(frozen=True, slots=True)
class Show:
    """A ticket-only stream that is live, and its sale."""

    mesi: Mesi
    stage: Stage
    owner: Person
    stream: str
    sale: str

    @property
    def whep(self) -> str:
        """Where it is watched."""
        return f"{self.mesi.url}/whep/{self.stream}"

    async def order(self, buyer: Person, path: str, body: object = None) -> Any:
        """Send an order that costs; raises ServerFailed."""
        headers = {"Authorization": f"Bearer {buyer.token}", "Idempotency-Key": f"{path} {buyer.id}"}
        answer = await self.mesi.http.post(f"{self.mesi.url}/api/v1{path}", json=body, headers=headers)
        if not answer.is_success:
            raise ServerFailed(f"POST {path}: {answer.status_code} {answer.text}")
        return answer.json()


async def run_purchases(
    mesi: Mesi, stage: Stage, rate: Rate, lobby: int, newcomers: int, per_s: float
) -> tuple[Buyers, Buyers]:
    """Let all buy, first those in the lobby; raises ServerFailed when somebody is let in without a ticket."""
    people = await mesi.people([f"buyer{number}" for number in range(lobby + newcomers)])
    admin = Person("admin", "admin", mesi.admin_token)
    for person in people:
        deposit = {"name": person.name, "asset": "USD", "amount": "5.00"}
        await mesi.ask(admin, "POST", "/admin/ledger/deposits", deposit)
    show = await _open_show(mesi, stage, rate, len(people))
    waiting = [(person, Viewer(Place(show.whep, person.token), stage.receiver)) for person in people[:lobby]]
    seats = await _fill_lobby(show, waiting)
    say(f"{lobby} in the lobby pay, {per_s:g} a second ...")
    in_lobby, later = Buyers("in the lobby"), Buyers("newcomers")

    async def pay(number: int) -> None:
        person, viewer = waiting[number]
        await _buy(in_lobby, viewer, lambda: show.order(person, f"/reservations/{seats[person.id]}/pay"))

    await _at_a_pace(pay, lobby, per_s)
    for _, viewer in waiting:
        viewer.leave()
    say(f"{newcomers} others buy and join, {per_s:g} a second ...")

    async def buy(number: int) -> None:
        person = people[lobby + number]
        viewer = Viewer(Place(show.whep, person.token), stage.receiver)
        await _require_refused(show, person)

        async def buy_and_join() -> None:
            await show.order(person, f"/sales/{show.sale}/tickets", {"price_seen": PRICE})
            stage.nursery.start_soon(viewer.run, stage.http)

        await _buy(later, viewer, buy_and_join)
        viewer.leave()

    await _at_a_pace(buy, newcomers, per_s)
    return in_lobby, later


async def _open_show(mesi: Mesi, stage: Stage, rate: Rate, seats: int) -> Show:
    owner = await mesi.person("owner")
    stream = await mesi.stream(owner)
    sale = await mesi.ask(owner, "POST", f"/streams/{stream}/sales", {"price": PRICE, "quantity": seats})
    await stage.publish(f"{mesi.url}/whip/{stream}", owner.token, rate)
    return Show(mesi, stage, owner, stream, str(sale["sale"]))


async def _fill_lobby(show: Show, waiting: list[tuple[Person, Viewer]]) -> dict[str, str]:
    """Let all watch and reserve, then close the door; returns each one's reservation."""
    viewers = [viewer for _, viewer in waiting]
    await show.stage.join(viewers, joins_per_s=JOINS_PER_S)
    purchase = {"price_seen": PRICE}
    seats = {
        person.id: str((await show.order(person, f"/sales/{show.sale}/reservations", purchase))["ticket"])
        for person, _ in waiting
    }
    prepared = await show.mesi.ask(show.owner, "POST", f"/streams/{show.stream}/mode/prepare", {"mode": "paid"})
    confirmation = {"confirm_token": prepared["confirm_token"], "allow_empty": True}
    await show.mesi.ask(show.owner, "POST", f"/streams/{show.stream}/mode/confirm", confirmation)
    rows = [viewer.row for viewer in viewers if viewer.row is not None]
    before = [show.stage.receiver.received(row) for row in rows]
    await trio.sleep(QUIET_S)
    if len(rows) < len(viewers) or before != [show.stage.receiver.received(row) for row in rows]:
        raise ServerFailed("somebody in the lobby is not connected any more, or goes on receiving")
    for row in rows:
        show.stage.receiver.await_picture(row)
    return seats


async def _require_refused(show: Show, person: Person) -> None:
    view = await show.mesi.ask(person, "GET", f"/streams/{show.stream}")
    if view["you"]["reason"] != "ticket_required":
        raise ServerFailed(f"{person.name} has no ticket, and is told {view['you']}")


async def _buy(buyers: Buyers, viewer: Viewer, purchase: Callable[[], Awaitable[Any]]) -> None:
    """Buy, and wait for the picture."""
    sent_ns = time.time_ns()
    await purchase()
    answered_ns = time.time_ns()
    with trio.move_on_after(PATIENCE_S):
        # The receiving thread tells nobody: it never calls Python.
        while not viewer.picture_ns and viewer.failure is None:  # noqa: ASYNC110
            await trio.sleep(LOOK_S)
    buyers.note(sent_ns, answered_ns, viewer.picture_ns)


async def _at_a_pace(do: Callable[[int], Awaitable[None]], count: int, per_s: float) -> None:
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            await trio.sleep_until(began + number / per_s)
            nursery.start_soon(do, number)


def describe(kinds: tuple[Buyers, Buyers], title: str) -> Report:
    """Put both kinds into a report, and say which targets hold."""
    report = Report(title)
    for buyers in kinds:
        report.add(f"{buyers.name}: bought", len(buyers.bought_ms))
        report.add(f"{buyers.name}: without a picture", buyers.blind)
        for share in (0.5, 0.99):
            value = percentile(buyers.bought_ms, share)
            report.add(f"{buyers.name}: purchase answered p{share * 100:g}", value, "ms")
        for share in (0.5, 0.99, 1.0):
            value = percentile(buyers.picture_ms, share)
            report.add(f"{buyers.name}: first picture after the answer p{share * 100:g}", value, "ms")
        p99 = percentile(buyers.picture_ms, 0.99)
        report.expect(f"{buyers.name}: first picture p99 below {P99_MS:g} ms", p99 is None or p99 < P99_MS)
        report.expect(f"{buyers.name}: whoever paid got a picture", buyers.blind == 0)
    return report


@click.command()
@click.option("--lobby", default=200, show_default=True, help="Buyers who wait with a seat reserved, connected.")
@click.option("--newcomers", default=200, show_default=True, help="Buyers who join once they have bought.")
@click.option("--per-second", default=10.0, show_default=True, help="Purchases a second.")
@click.option("--video-bps", default=1_000_000, show_default=True, help="Bits a second of video, with sound.")
@with_outputs
def main(lobby: int, newcomers: int, per_second: float, video_bps: int, outputs: Outputs) -> None:
    """Measure the time from a purchase's answer to the first picture."""
    cores = choose_cores(None, None)

    async def run() -> tuple[Buyers, Buyers]:
        async with open_mesi(cores.server) as mesi, open_stage() as stage:
            pin(cores.tool)
            return await run_purchases(mesi, stage, Rate(video_bps), lobby, newcomers, per_second)

    title = f"{lobby} in the lobby and {newcomers} newcomers buy, {per_second:g} a second"
    report = describe(run_tool(run), title)
    outputs.deliver(report)


if __name__ == "__main__":
    main()

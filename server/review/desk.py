"""The desk of reviews: what people report and reviewers decide is written down first, then cut, then told."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVarTuple

import sqlalchemy as sa
import structlog

from server.access.service import Access
from server.database.store import Database
from server.files.rows import File
from server.money import ticket_reports
from server.money.clerk import Duty
from server.money.one_to_one_desk import OneToOneDesk
from server.money.usher import Usher
from server.review import (
    cases,
    deciding,
    evidence,
    exhibits,
    filing,
    moderators,
    obligations,
    rows,
    sanctions,
    takedowns,
)
from server.review.cases import Outcome, State
from server.review.deciding import Moved, Terms
from server.review.filing import Report
from server.review.obligations import Settled, Underway
from server.review.rows import Filed, LogLine
from server.review.views import (
    CasePage,
    CaseView,
    Docket,
    DocketPage,
    show_case,
    show_docket,
)
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.policy.commands import TakenDown
from signalling.policy.one_to_one import delivered_ns
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.wire.cases import CaseTold, ReviewWaiting

AT_ONCE = 100  # cases or suspensions in one transaction: some milliseconds of the writer
NS_PER_MS = 1_000_000
Ts = TypeVarTuple("Ts")

log = structlog.get_logger("review")


class ReviewDesk:
    """Reports and cases on a node's store; raises Refused and StoreFailed."""

    def __init__(
        self,
        store: Database,
        clock: Clock,
        rooms: Rooms,
        access: Access,
        usher: Usher,
        calls: OneToOneDesk,
        terms: Terms,
        nudge: Callable[[], None],
        *,
        fee_bps: int,
        appeal_ms: int,
    ) -> None:
        self._store, self._clock, self._rooms, self._access = store, clock, rooms, access
        self._usher, self._calls, self._terms, self._nudge = usher, calls, terms, nudge
        self._fee_bps, self._appeal_ms = fee_bps, appeal_ms
        self.reports = self.refused = self.opened = self.decided = self.appealed = self.closed = self.lifted = 0
        self.ended = self.reopened = 0

    def counters(self) -> dict[str, int]:
        """How much was reported and decided, by name."""
        return {
            "reports_filed": self.reports,
            "reports_refused": self.refused,
            "cases_opened_by_blocks": self.opened,
            "cases_decided": self.decided,
            "cases_appealed": self.appealed,
            "cases_closed": self.closed,
            "suspensions_ended": self.lifted,
            "streams_taken_down": self.ended,
            "streams_reopened": self.reopened,
        }

    async def recover(self) -> None:
        """End streams that were taken down when the node was about to go down, before anybody comes in."""
        for stream in await self._store.read(takedowns.still_on):
            await self._end(stream)

    # -- blocks --------------------------------------------------------------------------------------------------------

    def underway(self, one: AccountId, other: AccountId) -> Underway:
        """Return what rooms know of two people and the database not yet."""
        calls, shown, now_ns = dict[str, int](), set[str](), self._clock.now_ns()
        for owner, guest in ((one, other), (other, one)):
            stream = self._rooms.stream_of(owner)
            state = None if stream is None else self._rooms.state(stream)
            if stream is None or state is None:
                continue
            call = state.one_to_one
            if call is not None and call.guest == guest and call.request:
                calls[call.request] = delivered_ns(call, now_ns) // NS_PER_MS
            if state.mode is Mode.PAID or state.shown_by_ns(now_ns) > 0:
                shown.add(stream)
        return Underway(calls, frozenset(shown))

    def settle(self, connection: sa.Connection, blocker: AccountId, blocked: AccountId, underway: Underway) -> Settled:
        """Settle what is open between two, in the transaction of a block."""
        now_ms = self._clock.wall_ms()
        return obligations.settle(connection, blocker, blocked, underway, self._fee_bps, now_ms)

    async def carry(self, settled: Settled) -> None:
        """Show both what a block has settled, and let nobody in with a ticket that was given back."""
        for call in settled.calls:
            self._calls.show(call)
        if settled.seats:
            self._usher.look()
        for stream, account in settled.seats:
            await self._usher.seat_soon(StreamId(stream), [AccountId(account)])
        for filed in settled.cases:
            self.opened += 1
            await self._tell(filed)

    def outlast(self, connection: sa.Connection, account: AccountId) -> None:
        """Let no decision end the suspension of an account by itself: an operator has suspended it."""
        sanctions.outlast(connection, account)

    # -- the sides -----------------------------------------------------------------------------------------------------

    async def file(self, actor: Actor, report: Report) -> CaseView:
        """Report something. Raises Refused like `filing.file`."""
        now_ms, id = self._clock.wall_ms(), f"case_{secrets.token_hex(12)}"
        try:
            filed = await self._store.write(filing.file, id, actor.account, report, self._fee_bps, now_ms)
        except Refused:
            self.refused += 1
            raise
        if filed.case.id == id:
            self.reports += 1
            await self._tell(filed)
        return await self.show(actor, filed.case.id)

    async def mine(self, actor: Actor, before: int | None, limit: int) -> CasePage:
        """Return the cases in which somebody is a side, the newest first."""
        before = rows.NEWEST if before is None else before
        return await self._store.read(_page, actor.account, before, limit, self._clock.wall_ms())

    async def show(self, actor: Actor, id: str) -> CaseView:
        """Return a case to one of its sides. Raises Refused("case_unknown")."""
        return await self._store.read(_show, actor.account, id, self._clock.wall_ms())

    async def appeal(self, actor: Actor, id: str, words: str) -> CaseView:
        """Appeal against a decision. Raises Refused (case_unknown, case_conflict, appeal_too_late)."""
        await self._move(_appeal, id, actor.account, words, self._terms, self._clock.wall_ms())
        return await self.show(actor, id)

    # -- reviewers -----------------------------------------------------------------------------------------------------

    async def reviews(self, actor: Actor) -> bool:
        """Return whether somebody is a reviewer; administrators are."""
        return actor.admin or await self._store.read(moderators.is_one, actor.account)

    async def queue(self, actor: Actor, state: State | None, after: int, limit: int) -> DocketPage:
        """Return the cases in a state, the oldest first, and how many others wait about the same."""
        return await self._store.read(_queue, state, after, limit)

    async def look(self, actor: Actor, id: str) -> Docket:
        """Return a case with all that is known of it; that somebody looked is written down first."""
        return await self._store.write(_look, id, actor.account, self._clock.wall_ms())

    async def look_at_file(self, actor: Actor, id: str, file: str) -> File:
        """Return a file that a case keeps; that one looks is written down first. Raises Refused("file_unknown")."""
        return await self._store.write(exhibits.look, actor.account, id, file, self._clock.wall_ms())

    async def read_log(self, actor: Actor, id: str, after: int, limit: int) -> list[LogLine]:
        """Return who did what with a case, looking included. Raises Refused("case_unknown")."""

        def read(connection: sa.Connection) -> list[LogLine]:
            rows.find(connection, id)
            return rows.read_log(connection, id, after, limit)

        return await self._store.read(read)

    async def take(self, actor: Actor, id: str) -> Docket:
        """Take a case. Raises Refused (case_unknown, case_conflict, own_case, other_reviewer)."""
        return await self._step(actor, id, cases.Take(actor.account))

    async def release(self, actor: Actor, id: str) -> Docket:
        """Put a case back. Raises Refused (case_unknown, case_conflict)."""
        return await self._step(actor, id, cases.Release(actor.account))

    async def decide(self, actor: Actor, id: str, outcome: Outcome) -> Docket:
        """Decide a case, or propose it to a second reviewer. Raises Refused like `cases.step`."""
        work, now_ms = deciding.decide, self._clock.wall_ms()
        await self._move(work, id, actor.account, outcome, self._appeal_ms, self._terms, now_ms)
        return await self._docket(id)

    async def second(self, actor: Actor, id: str, agrees: bool) -> Docket:
        """Agree with what another reviewer proposed, or don't. Raises Refused like `cases.step`."""
        return await self._step(actor, id, cases.Second(actor.account, agrees, self._appeal_ms))

    async def hold(self, actor: Actor, id: str, held: bool) -> Docket:
        """Keep what belongs to a case from being dropped, or no longer. Raises Refused("case_unknown")."""
        await self._store.write(_hold, id, actor.account, held, self._clock.wall_ms())
        return await self._docket(id)

    async def add_moderator(self, name: str) -> None:
        """Let an account review. Raises Refused (account_unknown, too_many_moderators)."""
        await self._store.write(moderators.add, name, self._clock.wall_ms())

    async def remove_moderator(self, name: str) -> None:
        """Let an account review no more; what it had goes back into the queue. Raises Refused("account_unknown")."""
        await self._store.write(_remove_moderator, name, self._terms, self._clock.wall_ms())

    async def moderators(self) -> list[tuple[AccountId, str, int]]:
        """Return who reviews: id, name, and since when."""
        return await self._store.read(moderators.everybody)

    # -- duties of the clerk -------------------------------------------------------------------------------------------

    def duties(self) -> dict[str, Duty]:
        """Return what is to be done again and again, by name."""
        return {"cases without an appeal": self._close_due, "suspensions": self._lift_due}

    async def _close_due(self, now_ms: int) -> int:
        if not await self._store.read(rows.due, now_ms, 1):
            return 0
        closed = await self._store.write(deciding.run_out, self._terms, now_ms, AT_ONCE)
        self.closed += len(closed)
        for moved in closed:
            self._show(moved.filed)
        return len(closed)

    async def _lift_due(self, now_ms: int) -> int:
        if not await self._store.read(sanctions.any_due, now_ms):
            return 0
        free = await self._store.write(sanctions.lift_due, now_ms, AT_ONCE)
        for account in free:
            await self._access.suspend(account, False)
        self.lifted += len(free)
        return len(free)

    # -- parts ---------------------------------------------------------------------------------------------------------

    async def _step(self, actor: Actor, id: str, command: cases.Command) -> Docket:
        await self._move(deciding.move, id, actor.account, command, self._terms, self._clock.wall_ms())
        return await self._docket(id)

    async def _move(self, work: Callable[[sa.Connection, *Ts], Moved], *arguments: *Ts) -> None:
        moved = await self._store.write(work, *arguments)
        for stream in moved.ending:
            await self._end(stream)
        for stream in moved.reopened:
            await self._reopen(stream)
        for account in moved.suspended:
            await self._access.suspend(account, True)
        for account in moved.free:
            await self._access.suspend(account, False)
        self._nudge()
        if moved.filed.case.proposal is not None:
            await self._tell_reviewers(moved.filed, "second")
        if not moved.is_news:
            return
        state = moved.filed.case.state
        self.decided += state is State.DECIDED
        self.appealed += state is State.APPEALED
        self.closed += state is State.CLOSED
        await self._tell(moved.filed)

    async def _end(self, stream: StreamId) -> None:
        if self._rooms.state(stream) is not None:
            self.ended += 1
            await self._rooms.take(stream, TakenDown())

    async def _reopen(self, stream: StreamId) -> None:
        if await self._rooms.reopen(stream):
            self.reopened += 1
            seats = await self._store.read(ticket_reports.seats_of, stream)
            await self._usher.seat_soon(stream, map(AccountId, seats))

    async def _docket(self, id: str) -> Docket:
        return await self._store.read(show_docket, id)

    async def _tell(self, filed: Filed) -> None:
        """Tell the sides of a case how it stands, and the reviewers where it waits for one."""
        self._show(filed)
        if filed.case.state in (State.OPEN, State.APPEALED):
            await self._tell_reviewers(filed, filed.case.state.value)

    async def _tell_reviewers(self, filed: Filed, state: str) -> None:
        told = ReviewWaiting(server_now=self._clock.wall_ms(), case=filed.case.id, state=state)
        for account, _, _ in await self._store.read(moderators.everybody):
            self._rooms.tell(account, told)

    def _show(self, filed: Filed) -> None:
        case = filed.case
        told = CaseTold(server_now=self._clock.wall_ms(), case=case.id, kind=filed.filing.kind, state=case.state.value)
        for account in filing.sides(filed):
            self._rooms.tell(AccountId(account), told)


def _page(connection: sa.Connection, account: str, before: int, limit: int, now_ms: int) -> CasePage:
    found = rows.of_account(connection, account, before, limit)
    shown = tuple(show_case(connection, filed, account, now_ms) for filed in found)
    return CasePage(shown, found[-1].number if len(found) == limit else None)


def _show(connection: sa.Connection, account: str, id: str, now_ms: int) -> CaseView:
    return show_case(connection, _of_side(rows.find(connection, id), account), account, now_ms)


def _of_side(filed: Filed, account: str) -> Filed:
    if account not in filing.sides(filed):
        raise Refused("case_unknown")
    return filed


def _appeal(connection: sa.Connection, id: str, account: str, words: str, terms: Terms, now_ms: int) -> Moved:
    _of_side(rows.find(connection, id), account)
    return deciding.move(connection, id, account, cases.Object(account, words), terms, now_ms)


def _queue(connection: sa.Connection, state: State | None, after: int, limit: int) -> DocketPage:
    found = rows.queue(connection, state, after, limit)
    return DocketPage.of(connection, found, limit)


def _look(connection: sa.Connection, id: str, account: str, now_ms: int) -> Docket:
    rows.find(connection, id)
    rows.note(connection, id, account, "looked", now_ms)
    return show_docket(connection, id, evidence.find(connection, id))


def _hold(connection: sa.Connection, id: str, account: str, held: bool, now_ms: int) -> None:
    rows.lock(connection, id)
    rows.hold(connection, id, held)
    rows.note(connection, id, account, "held" if held else "let go", now_ms)
    deciding.let_go(connection, rows.find(connection, id))


def _remove_moderator(connection: sa.Connection, name: str, terms: Terms, now_ms: int) -> None:
    deciding.leave(connection, moderators.remove(connection, name), terms, now_ms)

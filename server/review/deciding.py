"""Moves a case on in the database: the step, what follows from it and what tells of it, in one transaction.

A case is locked first, and decided by its state: so what follows is done once, whoever asks for it how often. Money is
first written; who is suspended is cut, and both sides are told, when that is on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from server.events import eventlog
from server.review import cases, exhibits, filing, rows, sanctions, stakes, takedowns
from server.review.cases import Command, Consequence
from server.review.rows import Filed
from server.review.stakes import FindTerms, Stake
from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused

WORDS = {
    cases.State.DECIDED: "decided",
    cases.State.APPEALED: "appealed",
    cases.State.CLOSED: "closed",
}


class Moved(msgspec.Struct, frozen=True):
    """A case as it is after a step, whose suspension began or ended with it, and which streams end or are on again."""

    filed: Filed
    is_news: bool
    suspended: tuple[AccountId, ...] = ()
    free: tuple[AccountId, ...] = ()
    ending: tuple[StreamId, ...] = ()
    reopened: tuple[StreamId, ...] = ()


class Terms(msgspec.Struct, frozen=True):
    """What a node decides by: how payments are converted, and from how many units of an asset on two decide."""

    find: FindTerms
    second_above: dict[str, int]

    def need_second(self, paid: list[Stake], outcome: cases.Outcome) -> bool:
        """Whether an outcome moves so much money that a second reviewer has to agree."""
        moved: dict[str, int] = {}
        for stake in paid:
            units = abs(stakes.target(stake, outcome.refund_bps) - stake.refunded)
            moved[stake.asset] = moved.get(stake.asset, 0) + units
        return any(units > self.second_above.get(asset, 0) for asset, units in moved.items() if units)


def decide(
    connection: sa.Connection,
    id: str,
    reviewer: str,
    outcome: cases.Outcome,
    appeal_ms: int,
    terms: Terms,
    now_ms: int,
) -> Moved:
    """Decide a case, or propose it to a second reviewer. Raises Refused like `cases.step`."""
    if outcome.takedown and rows.find(connection, id).filing.about.kind not in takedowns.KINDS:
        raise Refused("invalid_outcome", "there is nothing to take down")
    needs_second = terms.need_second(stakes.of_case(connection, id), outcome)
    command = cases.Decide(reviewer, outcome, needs_second, appeal_ms)
    return move(connection, id, reviewer, command, terms, now_ms)


def move(connection: sa.Connection, id: str, account: str, command: Command, terms: Terms, now_ms: int) -> Moved:
    """Take one step in a case. Raises Refused, and then nothing changed: case_unknown, and what `cases.step` raises."""
    with eventlog.gathering(connection):
        return _move(connection, id, account, command, terms, now_ms)


def _move(connection: sa.Connection, id: str, account: str, command: Command, terms: Terms, now_ms: int) -> Moved:
    filed = rows.lock(connection, id)
    before, after = filed.case, cases.step(filed.case, command, now_ms)
    rows.save(connection, filed.filing, after)
    done = _Done([], [], [], [])
    for consequence in cases.consequences(before, after):
        _do(connection, filed, consequence, terms, done, now_ms)
    rows.note(connection, id, account, _name(command), now_ms)
    filed = msgspec.structs.replace(filed, case=after)
    let_go(connection, filed)
    back = [stream for stream in done.returned if stream not in done.ending]
    reopened = tuple(stream for stream in back if takedowns.reopen(connection, stream, now_ms))
    word = WORDS.get(after.state) if after.state is not before.state else None
    if word is not None:
        filing.tell(connection, filed, word, now_ms)
    free = tuple(each for each in done.free if each not in done.suspended)
    return Moved(filed, word is not None, tuple(done.suspended), free, tuple(done.ending), reopened)


def let_go(connection: sa.Connection, filed: Filed) -> None:
    """Keep nothing for a case any more that is decided for good and that nobody holds."""
    exhibits.let_go(connection, filed)
    takedowns.settle(connection, filed)


def leave(connection: sa.Connection, reviewer: str, terms: Terms, now_ms: int) -> None:
    """Put back what a reviewer has who is none any more."""
    for id in rows.in_hand_of(connection, reviewer):
        _move(connection, id, reviewer, cases.Release(reviewer), terms, now_ms)


def run_out(connection: sa.Connection, terms: Terms, now_ms: int, limit: int) -> list[Moved]:
    """Close cases against which nobody may appeal any more."""
    closed = []
    with eventlog.gathering(connection):
        for id in rows.due(connection, now_ms, limit):
            try:
                closed.append(_move(connection, id, "", cases.RunOut(), terms, now_ms))
            except Refused:
                continue  # another node was faster, or somebody appealed in the last moment
    return closed


@dataclass(frozen=True, slots=True)
class _Done:
    """What rooms are to take up of a decision."""

    suspended: list[AccountId]
    free: list[AccountId]
    ending: list[StreamId]
    returned: list[StreamId]


def _do(
    connection: sa.Connection, filed: Filed, consequence: Consequence, terms: Terms, done: _Done, now_ms: int
) -> None:
    case = filed.case
    match consequence:
        case cases.Repay(refund_bps):
            for stake in stakes.of_case(connection, case.id):
                stakes.repay(connection, stake, refund_bps, terms.find, now_ms)
        case cases.Lift():
            done.free.extend(sanctions.lift_of_case(connection, case.id, now_ms))
            done.returned.extend(takedowns.lift_of_case(connection, case.id, now_ms))
        case cases.TakeDown():
            stream = takedowns.take_down(connection, case, filed.filing.about, now_ms)
            done.ending.extend([] if stream is None else [stream])
        case cases.Sanction(account, until):
            sanctions.suspend(connection, case.id, account, until, now_ms)
            done.suspended.append(AccountId(account))
        case cases.Strike(account):
            sanctions.strike(connection, case.id, account, now_ms)


def _name(command: Command) -> str:
    match command:
        case cases.Second(agrees=agrees):
            return "seconded" if agrees else "rejected"
        case cases.Object():
            return "appealed"
        case cases.RunOut():
            return "closed"
        case cases.Decide(needs_second=needs_second):
            return "proposed" if needs_second else "decided"
        case _:
            return {cases.Take: "took", cases.Release: "released"}[type(command)]

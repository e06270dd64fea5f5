"""Carries a room's state into media: who receives from the next packet on, who may publish, and until when."""

from __future__ import annotations

from collections.abc import Iterable

from media.door import Media, RoomRow
from media.forwarding.admission import FOREVER
from signalling.identifiers import AccountId
from signalling.policy import commands as c
from signalling.policy import rights
from signalling.policy.state import RoomState
from signalling.ports import Clock
from signalling.rooms.broadcasts import of_accounts
from signalling.rooms.members import Member, Members


class Enforcer:
    """The one writer of a room's admission."""

    def __init__(self, media: Media, row: RoomRow, members: Members, clock: Clock) -> None:
        self._media, self._row, self._members, self._clock = media, row, members, clock

    def begin(self, state: RoomState) -> None:
        """Hold a room to the state that it begins with; what it demands, it was opened with."""
        self._media.reserve_best(self._row, state.best_requires)
        self._media.open_until(self._row, _closes_ns(state))

    def apply(self, before: RoomState, after: RoomState, given: c.Command | c.Fact) -> None:
        """Go from one state to the next.

        No checkpoint in here, yet packets pass between the stores. None admits whom neither state admits, for both
        states' demands come first; none cuts whom both admit, for those hold what both demand before they do.
        """
        concerned = _concerned(given)
        if concerned and _of_all(before) == _of_all(after):
            self._admit_anew(after, self._members.of(*concerned))
            self._media.review(self._row, of_accounts(concerned))
            return
        if (before.epoch, before.one_to_one, before.until_ns) == (after.epoch, after.one_to_one, after.until_ns):
            return
        self._media.reserve_best(self._row, before.best_requires | after.best_requires)
        staying = self._admitted_by_both(before, after) if before.requires != after.requires else []
        for member in staying:
            both = before.holding(member.account).joined(after.holding(member.account))
            self._media.hold(member.transport, both)
        self._media.require(self._row, before.requires | after.requires)
        stays = {member.transport for member in staying}
        self._admit_anew(after, (member for member in self._members if member.transport not in stays))
        self._media.open_until(self._row, 0 if after.ended is not None else _closes_ns(after))
        self._media.require(self._row, after.requires)
        for member in staying:
            self._media.hold(member.transport, after.holding(member.account))
        self._media.reserve_best(self._row, after.best_requires)
        self._media.review(self._row)

    def _admitted_by_both(self, before: RoomState, after: RoomState) -> list[Member]:
        now_ns = self._clock.now_ns()
        return [
            member
            for member in self._members
            if not member.publishes and before.admits(member.account, now_ns) and after.admits(member.account, now_ns)
        ]

    def _admit_anew(self, state: RoomState, members: Iterable[Member]) -> None:
        for member in members:
            if not member.publishes:
                self._media.hold(member.transport, state.holding(member.account))
            elif member.account != state.owner:
                until_ns = rights.publishes_until_ns(state, member.account, member.source, self._clock.now_ns())
                self._media.publish_until(member.transport, until_ns)


def _concerned(given: c.Command | c.Fact) -> frozenset[AccountId]:
    """Return whom alone a fact can concern, so that its cost does not grow with the audience; empty: anyone."""
    match given:
        case c.Judged(known) | c.Seated(known):
            return frozenset(account for account, _ in known)
        case c.Hidden(account) | c.Unhidden(account):
            return frozenset({account})
        case _:
            return frozenset()


def _of_all(state: RoomState) -> tuple[object, ...]:
    return state.requires, state.one_to_one, state.until_ns, state.ended


def _closes_ns(state: RoomState) -> int:
    return FOREVER if state.until_ns is None else state.until_ns

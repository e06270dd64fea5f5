"""Sees whether media passes both ways between the two of a one-to-one: what is not delivered is not paid for."""

from __future__ import annotations

from media.door import Media, RoomRow
from signalling.identifiers import AccountId
from signalling.policy.rights import GUEST, STREAMER
from signalling.policy.state import OneToOne, RoomState
from signalling.rooms.broadcasts import of_accounts
from signalling.rooms.members import Members


def passes_both_ways(media: Media, row: RoomRow, members: Members, state: RoomState, since_ns: int) -> bool:
    """Whether each of the two has been sent what the other publishes since then (monotonic ns)."""
    session = state.one_to_one
    assert session is not None
    passing = {
        (member.account, member.source)
        for member in members.of(state.owner, session.guest)
        if not member.publishes and not member.is_closed and media.delivered_ns(member.transport) >= since_ns
    }

    def passes(account: AccountId, source: str) -> bool:
        if (account, source) in passing:
            return True
        return media.delivered_to(row, source, of_accounts(frozenset({account}))) >= since_ns

    return passes(state.owner, GUEST) and passes(session.guest, STREAMER)


def both_flow(members: Members, state: RoomState) -> bool:
    """Whether both of a one-to-one publish, and it arrives."""
    session = state.one_to_one
    if session is None:
        return False
    flowing = {member.account for member in members.of(state.owner, session.guest) if member.publishes and member.flows}
    return {state.owner, session.guest} <= flowing


def measured_since_ns(session: OneToOne | None, now_ns: int) -> int | None:
    """Return since when a one-to-one's clock runs (monotonic ns), None while it does not."""
    if session is None or session.running_since_ns is None or now_ns >= session.until_ns:
        return None
    return session.running_since_ns

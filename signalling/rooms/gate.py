"""The gate of rooms without rules: everyone is welcome, and only whom the streamer chose is entitled. And no log."""

from __future__ import annotations

import trio

from signalling.identifiers import AccountId, StreamId
from signalling.policy.verdicts import NO_DEMANDS, UNKNOWN, Demands, Sight, Verdict, sees_all
from signalling.refusals import Refused
from signalling.sessions.session import Session
from signalling.wire.views import Followed


class Ungated:
    """A gate that knows of no rules, relations or blocks."""

    async def hidden_from(self, owner: AccountId) -> frozenset[AccountId]:
        """Hide from nobody."""
        await trio.lowlevel.checkpoint()
        return frozenset()

    async def demands_of(self, stream: StreamId) -> Demands:
        """Demand nothing."""
        await trio.lowlevel.checkpoint()
        return NO_DEMANDS

    async def sight_of(self, account: AccountId) -> Sight:
        """Show everything."""
        await trio.lowlevel.checkpoint()
        return sees_all

    async def weigh(self, stream: StreamId, owner: AccountId, account: AccountId) -> Verdict:
        """Know nothing of an account."""
        await trio.lowlevel.checkpoint()
        return UNKNOWN

    async def appraise(self, stream: StreamId, owner: AccountId, account: AccountId) -> Verdict:
        """Know nothing of an account."""
        await trio.lowlevel.checkpoint()
        return UNKNOWN

    async def weigh_streamer(self, owner: AccountId) -> Verdict:
        """Know nothing of a streamer."""
        await trio.lowlevel.checkpoint()
        return UNKNOWN

    async def reconsider(self, stream: StreamId, account: AccountId) -> None:
        """Have nothing to think over."""
        await trio.lowlevel.checkpoint()


class Unlogged:
    """The feed of rooms without a log."""

    async def follow(self, session: Session, after: int | None) -> Followed:
        """Refuse to."""
        await trio.lowlevel.checkpoint()
        raise Refused("events_unavailable")

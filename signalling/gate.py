"""The gate of rooms without rules: everyone is welcome, and only whom the streamer chose is entitled."""

from __future__ import annotations

import trio

from signalling.identifiers import AccountId, StreamId
from signalling.verdicts import UNKNOWN, Verdict


class Ungated:
    """A gate that knows of no rules, relations or blocks."""

    async def hidden_from(self, owner: AccountId) -> frozenset[AccountId]:
        """Hide from nobody."""
        await trio.lowlevel.checkpoint()
        return frozenset()

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

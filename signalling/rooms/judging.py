"""Asks the gate who may come in, find a stream, or stream, and says it as a refusal where nothing else will do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy.verdicts import Sight, Verdict
from signalling.ports import ArchiveFailed, Gate
from signalling.refusals import Refused
from signalling.rooms.room import Room

_Judge = Callable[[StreamId, AccountId, AccountId], Awaitable[Verdict]]


class Judging:
    """What the rules outside the rooms say. Everything raises Refused("access_unavailable") when they can't be read."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def weigh(self, room: Room, actor: Actor) -> Verdict | None:
        """Judge one who wants to come in; None for who is there already, of whom the room knows.

        Raises Refused for whom no proof could help; who lacks one may be present and wait.
        """
        return await self._judge(room, actor, self._gate.weigh)

    async def appraise(self, room: Room, actor: Actor) -> Verdict | None:
        """Judge one who only asks whether it could come in, as `weigh` does."""
        return await self._judge(room, actor, self._gate.appraise)

    async def _judge(self, room: Room, actor: Actor, by: _Judge) -> Verdict | None:
        state = room.state
        if actor.admin or actor.account == state.owner or actor.account in state.present:
            await trio.lowlevel.checkpoint()
            return None
        try:
            verdict = await by(room.stream.id, state.owner, actor.account)
        except ArchiveFailed as failure:
            raise Refused("access_unavailable") from failure
        if verdict.denied in ("suspended", "stream_unknown"):
            raise Refused(verdict.denied)
        return verdict

    async def sight_of(self, account: AccountId) -> Sight:
        """Return which streams an account may find in the directory."""
        try:
            return await self._gate.sight_of(account)
        except ArchiveFailed as failure:
            raise Refused("access_unavailable") from failure

    async def require_streamer(self, account: AccountId) -> None:
        """Raise Refused for an account that may not stream."""
        try:
            verdict = await self._gate.weigh_streamer(account)
        except ArchiveFailed as failure:
            raise Refused("access_unavailable") from failure
        if verdict.denied is not None:
            raise Refused(verdict.denied, "", **verdict.help)

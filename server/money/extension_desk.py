"""The desk of extensions: holds what more time in a one-to-one costs before its room hears that it is wanted.

The price of the minute is the one that was agreed on at first. What the streamer does not grant goes back at once, and
what is granted is paid by what was delivered of it, like the time before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
import sqlalchemy as sa
import trio

from server.database.store import Database
from server.money import appointments
from server.money.amounts import Amount, WireAmount, read_amount_untrusted, wire_amount
from server.money.assets import Assets, Surface
from server.money.idempotency import Answered, Idempotent, Request, forget
from server.money.one_to_ones import Drop, Extension, Lengthen, OneToOne
from signalling.identifiers import Actor, StreamId
from signalling.policy import commands as c
from signalling.policy.extensions import longest
from signalling.policy.state import OneToOne as Session
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms


class MoreTime(msgspec.Struct, frozen=True):
    """More time in a one-to-one: its number, 0 where nothing was agreed on; what is held for it; what came of it.

    `state` is asked, agreed or dropped.
    """

    number: int
    seconds: int
    held: WireAmount | None
    state: str


class MoreTimeOffer(msgspec.Struct, frozen=True):
    """What so many seconds more cost, null for nothing, and how many there may be."""

    seconds: int
    price: WireAmount | None
    longest_s: int


class Notes(Protocol):
    """Who writes down what becomes of one-to-ones, one thing after the other."""

    def note(self, request: str, command: Drop) -> None:
        """Take something up; never waits."""


class ExtensionDesk:
    """Extensions on a node's store and rooms. Raises Refused and StoreFailed."""

    def __init__(
        self, store: Database, rooms: Rooms, assets: Assets, keys: Idempotent, notes: Notes, wall_ms: Callable[[], int]
    ) -> None:
        self._store, self._rooms, self._assets = store, rooms, assets
        self._keys, self._notes, self._wall_ms = keys, notes, wall_ms

    async def look(self, stream: StreamId, actor: Actor, seconds: int) -> MoreTimeOffer:
        """Return what so many seconds more cost the guest of a one-to-one, and how many more there may be."""
        session = self._session(stream, actor)
        one = await self._find(session)
        price = None if one is None else one.price_of(seconds)
        return MoreTimeOffer(seconds, None if price is None else wire_amount(price), longest(session))

    async def ask(
        self,
        stream: StreamId,
        actor: Actor,
        seconds: int,
        most: WireAmount | None,
        request: Request | None,
        surface: Surface = "web",
    ) -> Answered:
        """Hold what more time costs, then ask the streamer for it; the answer holds a `MoreTime`.

        Where money is held, `request` must have an Idempotency-Key: sent again, it is answered with what became of it.
        """
        done = None if request is None else await self._keys.find(request)
        if done is not None:
            return await self._as_it_is(stream, actor, done)
        session = self._session(stream, actor)
        one = await self._find(session)
        self._rooms.rehearse(stream, actor, c.AskExtension(seconds, 0 if one is None else 1))
        if one is None:
            await self._rooms.command(stream, actor, c.AskExtension(seconds))
            return Answered(201, msgspec.json.encode(MoreTime(0, seconds, None, "asked")))
        if (price := one.price_of(seconds)) is not None:
            self._check(price, most, surface)
            if request is None:
                raise Refused("idempotency_key_required")
        now_ms = self._wall_ms()
        if request is None:
            answered = await self._store.write(_lengthen, one.id, seconds, now_ms)
        else:
            answered = await self._keys.write(request, now_ms, _lengthen, one.id, seconds, now_ms)
        if not answered.replayed:
            await self._put_to_streamer(stream, actor, one.id, answered, request)
        return answered

    async def _put_to_streamer(
        self, stream: StreamId, actor: Actor, one: str, answered: Answered, request: Request | None
    ) -> None:
        more = msgspec.json.decode(answered.body, type=MoreTime)
        try:
            await self._rooms.command(stream, actor, c.AskExtension(more.seconds, more.number))
        except Refused:
            with trio.CancelScope(shield=True):
                await self._store.write(_take_back, one, more.number, request, self._wall_ms())
            raise
        except BaseException:
            # Given up while the room may be at it: it takes this one after the other, and so does who writes it down.
            with trio.CancelScope(shield=True):
                await self._rooms.take(stream, c.ExtensionFailed(one, more.number))
            self._notes.note(one, Drop(more.number))
            raise

    async def _as_it_is(self, stream: StreamId, actor: Actor, answered: Answered) -> Answered:
        """Answer a request that came before with what became of it since."""
        more = msgspec.json.decode(answered.body, type=MoreTime)
        one = await self._store.read(appointments.find_last, stream, actor.account)
        known = None if one is None else next((each for each in one.extensions if each.number == more.number), None)
        state = more.state if known is None else known.state.value
        return Answered(answered.status, msgspec.json.encode(msgspec.structs.replace(more, state=state)), True)

    def _session(self, stream: StreamId, actor: Actor) -> Session:
        self._rooms.stream(stream, actor)
        state = self._rooms.state(stream)
        if state is None or state.one_to_one is None or state.one_to_one.guest != actor.account:
            raise Refused("mode_conflict", "only the guest of a running one-to-one asks for more time")
        return state.one_to_one

    async def _find(self, session: Session) -> OneToOne | None:
        """Return what a one-to-one was agreed on, None where nothing was."""
        if not session.request:
            return None
        one = await self._store.read(appointments.find, session.request)
        if one is None:
            raise Refused("mode_conflict", "the one-to-one is over")
        return one

    def _check(self, price: Amount, most: WireAmount | None, surface: Surface) -> None:
        if most is None:
            raise Refused("payment_required", price=wire_amount(price))
        agreed = read_amount_untrusted(most, self._assets)
        if agreed.asset != price.asset or price.units > agreed.units:
            raise Refused("price_changed", price=wire_amount(price))
        self._assets.check_surface(price.asset, surface)


def _lengthen(connection: sa.Connection, identifier: str, seconds: int, now_ms: int) -> Answered:
    one = appointments.move(connection, identifier, Lengthen(seconds), now_ms)
    if one is None:
        raise Refused("mode_conflict", "the one-to-one is over")
    return Answered(201, msgspec.json.encode(_view(one, one.extensions[-1])))


def _take_back(connection: sa.Connection, identifier: str, number: int, request: Request | None, now_ms: int) -> None:
    """Undo an extension that the room refused: it may be sent again under the same key."""
    if request is not None:
        forget(connection, request)
    appointments.move(connection, identifier, Drop(number), now_ms)


def _view(one: OneToOne, more: Extension) -> MoreTime:
    held = None if one.held is None else wire_amount(Amount(one.held.asset, more.units))
    return MoreTime(more.number, more.seconds, held, more.state.value)

"""The desk of one-to-ones: holds a request's money before the room hears of it, and settles it by what was delivered.

The room decides who waits, who is taken and how long it lasts; the desk follows it. What the room says is written down
one after the other, so a hold is settled once, by the end that came first. A node that starts anew has no one-to-one
in its rooms, and settles what was open by what was written down last: nobody pays for what nobody can have seen.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog
import trio

from server.access.rules import AllOf, Finding, Missing, Rule
from server.database.store import Database
from server.money import appointments
from server.money.amounts import Amount, WireAmount, read_amount_untrusted, wire_amount
from server.money.appointments import Asking
from server.money.assets import Assets, Surface
from server.money.extension_desk import ExtensionDesk
from server.money.idempotency import Answered, Idempotent, Request, forget
from server.money.one_to_one_terms import CALLS_NEXT, Offer, check_offer_untrusted
from server.money.one_to_ones import Agree, Close, Command, Deliver, Deny, Drop, OneToOne, Reach, State
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.showing import Now, confirm_by, starts_of
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.wire.events import OneToOneOffered, OneToOneSettled

HEARD = 65_536  # what rooms may say while one write takes; more is found by the sweep
AT_ONCE = 200  # one-to-ones in one look
RETRY_S = 1.0
SWEEP_S = 5.0
LOST_AFTER_MS = 60_000  # no way from a hold to the room takes as long
NS_PER_MS = 1_000_000

log = structlog.get_logger("one_to_one")

# What a rule says of an account in a stream.
Judge = Callable[[StreamId, AccountId, Rule], Awaitable[Finding]]
RequireProven = Callable[[StreamId, AccountId], Awaitable[None]]


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request as viewers send it: how long, what they agree to pay at most, and how long they would wait.

    `max_price` is the price that was shown; a `tip` may be more. Where nothing is asked in return, no length is needed.
    """

    seconds: int | None = None
    max_price: WireAmount | None = None
    tip: WireAmount | None = None
    expires_s: int | None = None


class Asked(msgspec.Struct, frozen=True):
    """A request: its id, null where nothing was agreed on, its length, what is held for it, and how it stands.

    `state` is queued at first; who asks again under the same key is told what became of it since, and `reason` why.
    """

    request: str | None
    seconds: int | None
    held: WireAmount | None
    state: str = State.QUEUED.value
    reason: str = ""


class Place(msgspec.Struct, frozen=True):
    """A place in the queue, from 1 of `waiting`; when it would begin, as things are (epoch ms); and what is held.

    Who is offered a one-to-one now has until `confirm_by` to come.
    """

    position: int
    waiting: int
    estimated_start: int
    seconds: int | None
    request: str | None
    held: WireAmount | None
    server_now: int
    confirm_by: int | None


@dataclass(frozen=True, slots=True)
class _Heard:
    request: str
    command: Command


class OneToOneDesk:
    """Offers and requests on a node's store; `recover` once, then `run` it. Raises Refused and StoreFailed."""

    def __init__(
        self,
        store: Database,
        rooms: Rooms,
        clock: Clock,
        assets: Assets,
        fee_bps: int,
        *,
        confirm_s: int,
        judge: Judge,
        require_proven: RequireProven,
    ) -> None:
        self._store, self._rooms, self._clock, self._assets, self._fee_bps = store, rooms, clock, assets, fee_bps
        self._confirm_s, self._judge, self._require_proven = confirm_s, judge, require_proven
        self._keys = Idempotent(store)
        self.extensions = ExtensionDesk(store, rooms, assets, self._keys, self, clock.wall_ms)
        self._tell, self._heard = trio.open_memory_channel[_Heard](HEARD)
        self._is_writing = False
        self.failures = self.unheard = self.recovered = 0

    def counters(self) -> dict[str, int]:
        """How much went wrong and was put right, by name."""
        return {
            "one_to_one_failures": self.failures,
            "one_to_one_unheard": self.unheard,
            "one_to_one_recovered": self.recovered,
        }

    async def recover(self) -> None:
        """Settle what was open when the node ended: no room of this one knows it any more."""
        while left := await self._store.read(appointments.open_ones, appointments.FIRST, AT_ONCE):
            for one in left:
                await self._move(one.id, Close("server_restarted"))
                self.recovered += 1

    async def run(self) -> None:
        """Write down what rooms say, and look for what none of them knows, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            async for heard in self._heard:
                self._is_writing = True
                await self._write(heard)
                self._is_writing = False

    # -- offers --------------------------------------------------------------------------------------------------------

    async def offer(self, stream: StreamId, actor: Actor) -> tuple[int, Offer | None]:
        """Return what a streamer asks for a one-to-one, and its version; (0, None) where nothing is asked."""
        self._rooms.stream(stream, actor)
        return await self._store.read(appointments.find_offer, stream)

    async def put_offer(self, stream: StreamId, actor: Actor, offer: Offer) -> int:
        """Replace it; who waits already keeps what was agreed on."""
        self._require_owner(stream, actor)
        check_offer_untrusted(offer, self._assets)
        version = await self._store.write(appointments.put_offer, stream, offer, self._clock.wall_ms())
        told = OneToOneOffered(server_now=self._clock.wall_ms(), stream=stream, version=version)
        state = self._rooms.state(stream)
        for account in () if state is None else state.present:
            self._rooms.tell(account, told)
        return version

    # -- requests ------------------------------------------------------------------------------------------------------

    async def ask(
        self, stream: StreamId, actor: Actor, wish: Wish, request: Request | None, surface: Surface = "web"
    ) -> Answered:
        """Hold what a request costs, then have it wait in the room; the answer holds an `Asked`.

        Where money is held, `request` must have an Idempotency-Key: sent again, it is answered with how it stands.
        """
        done = None if request is None else await self._keys.find(request)
        if done is not None:
            return await self._as_it_is(done)
        self._rooms.rehearse(stream, actor, c.RequestOneToOne(expires_s=wish.expires_s))
        await self._require_proven(stream, actor.account)
        _, offer = await self._store.read(appointments.find_offer, stream)
        if offer is None:
            await self._rooms.command(stream, actor, c.RequestOneToOne(wish.seconds, expires_s=wish.expires_s))
            return _answer(Asked(None, wish.seconds, None))
        asking = await self._asking(stream, actor, wish, offer)
        now_ms = self._clock.wall_ms()
        choice = offer.choose(wish.seconds)
        if choice.price is not None and not offer.is_free(choice, asking.meets_conditions):
            self._assets.check_surface(choice.price.asset, surface)
            if request is None:
                raise Refused("idempotency_key_required")
        if request is None:
            answered = await self._store.write(_ask, asking, now_ms)
        else:
            answered = await self._keys.write(request, now_ms, _ask, asking, now_ms)
        if not answered.replayed:
            await self._queue_up(stream, actor, asking, answered, wish.expires_s, request)
        return answered

    async def _as_it_is(self, answered: Answered) -> Answered:
        """Answer a request that came before with what became of it since: a crash may have closed it."""
        asked = msgspec.json.decode(answered.body, type=Asked)
        one = None if asked.request is None else await self._store.read(appointments.find, asked.request)
        if one is None or one.state is State.HELD:
            return answered
        held = None if one.whole_held is None else wire_amount(one.whole_held)
        now = Asked(one.id, one.whole_seconds, held, one.state.value, one.reason)
        return Answered(answered.status, msgspec.json.encode(now), replayed=True)

    async def _asking(self, stream: StreamId, actor: Actor, wish: Wish, offer: Offer) -> Asking:
        choice, finding = offer.choose(wish.seconds), None
        if offer.conditions:
            finding = await self._judge(stream, actor.account, AllOf(offer.conditions))
            if offer.demands_conditions(choice) and not finding.met:
                missing: Missing | None = finding.missing
                raise Refused("conditions_not_met", missing=missing)
        state = self._rooms.state(stream)
        if state is None:
            raise Refused("stream_ended")
        return Asking(
            secrets.token_hex(12),
            stream,
            state.owner,
            actor.account,
            choice.seconds,
            self._read(wish.max_price),
            self._read(wish.tip),
            self._fee_bps,
            finding is not None and finding.met,
        )

    async def _queue_up(
        self,
        stream: StreamId,
        actor: Actor,
        asking: Asking,
        answered: Answered,
        expires_s: int | None,
        request: Request | None,
    ) -> None:
        seconds = msgspec.json.decode(answered.body, type=Asked).seconds
        try:
            await self._rooms.command(stream, actor, c.RequestOneToOne(seconds, asking.id, expires_s))
        except BaseException as fault:
            # Refused, or given up while the room may be at it: then it takes this one after the other. What it knows
            # even so, it says itself what becomes of.
            with trio.CancelScope(shield=True):
                if not isinstance(fault, Refused):
                    await self._rooms.take(stream, c.RequestFailed(asking.id, "cancelled"))
                if not self._is_known(stream, asking.id):
                    await self._store.write(_take_back, asking.id, request, self._clock.wall_ms())
            raise

    async def place(self, stream: StreamId, actor: Actor) -> Place:
        """Return where somebody waits; raises Refused("request_unknown") for who does not."""
        self._rooms.stream(stream, actor)
        one = await self._store.read(appointments.find_open, stream, actor.account)
        state, now = self._rooms.state(stream), Now.read(self._clock)
        starts = [] if state is None else starts_of(state, now.ns)
        for position, (waiting, start_ns) in enumerate(starts, start=1):
            if waiting.account == actor.account:
                amount = None if one is None or one.held is None else wire_amount(one.held)
                start = now.wall_of(start_ns)
                by = confirm_by(waiting, now)
                return Place(position, len(starts), start, waiting.seconds, waiting.id or None, amount, now.wall_ms, by)
        raise Refused("request_unknown")

    async def queue(self, stream: StreamId, actor: Actor) -> list[OneToOne]:
        """Return what waits or runs in a stream, for its streamer, in the order in which it was asked for."""
        self._require_owner(stream, actor)
        return await self._store.read(appointments.queue, stream)

    async def of_account(self, account: AccountId, before: int, limit: int) -> list[tuple[int, OneToOne]]:
        """Return what an account asked for or was asked for, the newest first, and the number of each."""
        return await self._store.read(appointments.of_account, account, before, limit)

    async def void_hold(self, hold: str) -> None:
        """Give a request's money back whose viewer did not disclose what was asked; one that runs goes on."""
        identifier = hold.removeprefix("one2one.")
        one = await self._store.read(appointments.find, identifier)
        if one is None or not one.is_open or one.state is State.RUNNING:
            return
        await self._rooms.take(StreamId(one.stream), c.RequestFailed(identifier, "kyf_denied"))
        await self._move(identifier, Deny("kyf_denied"))

    # -- what rooms say ------------------------------------------------------------------------------------------------

    async def require_free(self, stream: StreamId, account: AccountId) -> None:
        """Let only those ask of whom nothing is asked in return; raises Refused("payment_required")."""
        _, offer = await self._store.read(appointments.find_offer, stream)
        if offer is not None:
            raise Refused("payment_required", "there are terms for it: ask over HTTP, with what you agree to")

    async def manner_of(self, stream: StreamId) -> c.Manner:
        """Return how long accepted viewers are waited for, and whether the next is called when one does not come."""
        _, offer = await self._store.read(appointments.find_offer, stream)
        return c.Manner(self._confirm_s, CALLS_NEXT if offer is None else offer.calls_next)

    def hear(self, stream: StreamId, events: Sequence[e.Event]) -> None:
        """Take up what happened in a room."""
        for event in events:
            meant = meaning_of(event)
            if meant is not None:
                self.note(*meant)

    def delivered(self, request: str, delivered_ns: int) -> None:
        """Take up how much was delivered so far."""
        self.note(request, Deliver(delivered_ns // NS_PER_MS))

    def note(self, request: str, command: Command) -> None:
        """Have something written down after all that was said before."""
        try:
            self._tell.send_nowait(_Heard(request, command))
        except trio.WouldBlock:
            self.unheard += 1

    async def _write(self, heard: _Heard) -> None:
        while True:
            try:
                await self._move(heard.request, heard.command)
                return
            except Exception:
                # Nothing is lost: it is tried until it is written, and a restart settles it otherwise.
                self.failures += 1
                log.exception("one_to_one_unwritten", request=heard.request)
            await trio.sleep(RETRY_S)

    async def _move(self, request: str, command: Command) -> None:
        moved = await self._store.write(appointments.move, request, command, self._clock.wall_ms())
        if moved is not None and not moved.is_open:
            self.show(moved)

    def show(self, one: OneToOne) -> None:
        """Tell both sides what became of the money of one that is over."""
        asset = None if one.held is None else one.held.asset
        told = OneToOneSettled(
            server_now=self._clock.wall_ms(),
            stream=StreamId(one.stream),
            request=one.id,
            reason=one.reason,
            delivered_s=one.delivered_ms // 1000,
            asset=asset,
            captured=None if asset is None else str(one.captured),
            refunded=None if asset is None else str(one.refunded),
        )
        for account in (one.viewer, one.streamer):
            self._rooms.tell(AccountId(account), told)

    async def _sweep(self) -> None:
        """Settle what no room knows: a room may die of a fault, and what it said may be lost."""
        while True:
            await trio.sleep(SWEEP_S)
            try:
                before = self._clock.wall_ms() - LOST_AFTER_MS
                for one in await self._store.read(appointments.open_ones, before, AT_ONCE):
                    idle = not self._is_writing and not self._heard.statistics().current_buffer_used
                    if idle and not self._is_known(StreamId(one.stream), one.id):
                        await self._move(one.id, Close("lost"))
                        self.recovered += 1
            except Exception:
                # They are open still, and are looked for again; the money of all others must go on.
                self.failures += 1
                log.exception("one_to_one_not_swept")

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _is_known(self, stream: StreamId, request: str) -> bool:
        state = self._rooms.state(stream)
        if state is None or state.ended is not None:
            return False
        runs = state.one_to_one is not None and state.one_to_one.request == request
        return runs or any(waiting.id == request for waiting in state.requests)

    def _require_owner(self, stream: StreamId, actor: Actor) -> None:
        self._rooms.stream(stream, actor)
        state = self._rooms.state(stream)
        if state is None or (actor.account != state.owner and not actor.admin):
            raise Refused("not_the_owner")

    def _read(self, amount: WireAmount | None) -> Amount | None:
        return None if amount is None else read_amount_untrusted(amount, self._assets)


def meaning_of(event: e.Event) -> tuple[str, Command] | None:
    """Return which request's money an event of a room is about, and what it means for it."""
    match event:
        case e.OneToOneRequested(request=request):
            command: Command = Reach(State.QUEUED)
        case e.OneToOneOffered(request=request):
            command = Reach(State.OFFERED)
        case e.OneToOneAccepted(request=request):
            command = Reach(State.ACCEPTED)
        case e.OneToOneStarted(request=request):
            command = Reach(State.RUNNING)
        case e.OneToOneWithdrawn(reason=reason, request=request):
            command = Close(reason, 0)
        case e.OneToOneExtended(request=request, number=number):
            command = Agree(number)
        case e.ExtensionEnded(request=request, number=number):
            command = Drop(number)
        case e.OneToOneEnded(reason=reason, delivered_ns=delivered_ns, request=request):
            command = Close(reason, delivered_ns // NS_PER_MS)
        case _:
            return None
    return (request, command) if request else None


def _ask(connection: sa.Connection, asking: Asking, now_ms: int) -> Answered:
    one = appointments.ask(connection, asking, now_ms)
    amount = None if one.held is None else wire_amount(one.held)
    return _answer(Asked(one.id, one.seconds, amount))


def _take_back(connection: sa.Connection, identifier: str, request: Request | None, now_ms: int) -> None:
    """Undo a request that the room refused: it may be sent again under the same key."""
    if request is not None:
        forget(connection, request)
    appointments.move(connection, identifier, Close("refused", 0), now_ms)


def _answer(asked: Any) -> Answered:
    return Answered(201, msgspec.json.encode(asked))

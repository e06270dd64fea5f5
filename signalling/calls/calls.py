"""All calls of a node: begun once, told to whom they concern, written down, and ended with what they need."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import structlog
import trio

from media.door import Media, NoSource
from signalling.calls import commands as c
from signalling.calls import policy
from signalling.calls.book import Begun, Book, Wanted
from signalling.calls.register import Register
from signalling.calls.room import CallRoom
from signalling.calls.state import Call, CallId
from signalling.calls.views import CallTold, CallView
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.messenger.model import ConversationId
from signalling.ports import ArchiveFailed, Clock
from signalling.refusals import Refused
from signalling.rooms.turns import Turns
from signalling.sessions.media_sessions import MediaSession, MediaSessions
from signalling.sessions.session import Session
from signalling.wire.messages import Encoded

ID_BYTES = 16  # unguessable
MAX_CALLS = 10_000  # at once: each is a room in media, of which a node has fewer
NOWHERE = ConversationId("")
RETRY_S = 5.0  # until what could not be written down is tried again

log = structlog.get_logger("calls")


class Calls:
    """The calls that go on; `run` it in a nursery before the first call. Raises Refused and ArchiveFailed.

    `sessions_of` are an account's signalling sessions; `is_on_air` says whether it is occupied elsewhere.
    """

    def __init__(
        self,
        media: Media,
        media_sessions: MediaSessions,
        clock: Clock,
        book: Book,
        sessions_of: Callable[[AccountId], Sequence[Session]],
        is_on_air: Callable[[AccountId], bool],
    ) -> None:
        self._media, self._media_sessions, self._clock, self._book = media, media_sessions, clock, book
        self._sessions_of, self._is_on_air = sessions_of, is_on_air
        self._running = Register()
        self._opening = Turns[ConversationId]()
        self._unwritten: dict[CallId, Call] = {}
        self._wanted = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._counts = Counter[str]()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """End what a restart has cut off, then keep calls until cancelled."""
        await self._book.recover(self._clock.wall_ms())
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._write)
            task_status.started()

    def counters(self) -> dict[str, int]:
        """How many calls there are, and what became of them, by name."""
        outcomes = ("ended", "connection_lost", "cancelled", "declined", "missed", "busy", "internal_error")
        return {
            "calls": len(self._running),
            "calls_begun": self._counts["begun"],
            "calls_unwritten": len(self._unwritten),
            "call_write_failures": self._counts["failures"],
            "call_faults": self._counts["faults"],
            **{f"calls_over_{outcome}": self._counts[outcome] for outcome in outcomes},
        }

    # -- what is asked -------------------------------------------------------------------------------------------------

    async def start(self, actor: Actor, wanted: Wanted) -> CallView:
        """Call all others of a conversation, or come into the call that goes on there: whoever is second answers.

        Raises Refused (already_in_call, answered_elsewhere, call_full, no_capacity, and like `Book.begin`).
        """
        async with self._opening.of(wanted.conversation):
            running = self._in(wanted.conversation, actor.account)
            if running is not None:
                apart = await self._book.apart_within(wanted.conversation, actor.account)
                return await self._answer(actor, running, wanted.device, apart)
            self._require_free(actor.account)
            return await self._begin(actor, wanted)

    async def _begin(self, actor: Actor, wanted: Wanted) -> CallView:
        if len(self._running) >= MAX_CALLS:
            raise Refused("too_many_calls")
        id = CallId(f"call_{secrets.token_hex(ID_BYTES)}")
        begun = await self._book.begin(actor, id, wanted, self._clock.wall_ms())
        if not isinstance(begun, Begun):
            return begun
        of = (id, wanted.conversation, begun.kind, actor.account, wanted.video)
        call = Call(*of, {}, begun.unaware, begun.quiet, begun.apart)
        call = policy.begin(call, begun.rung, wanted.device, self._clock.now_ns())
        names = {actor.account: actor.name, **begun.names}
        try:
            room = CallRoom(call, names, self._media, self._clock, self._changed)
        except Exception:
            self._note(policy.step(call, None, c.Break(), self._clock.now_ns()))
            raise
        self._running.keep(room)
        self._counts["begun"] += 1
        assert self._nursery is not None, "calls live in a nursery"
        await self._nursery.start(self._host, room)
        await self._look_between(room, actor.account)
        await self.look_again(call.conversation)
        self._tell(room, call.audience)
        await self._pass_over_busy(room)
        return room.view

    async def _pass_over_busy(self, room: CallRoom) -> None:
        for account in sorted(room.call.rung - room.call.unaware):
            if self._is_busy(account):
                await room.change(account, c.Busy())

    async def show(self, actor: Actor, id: str) -> CallView:
        """Return a call that goes on. Raises Refused("call_unknown")."""
        await trio.lowlevel.checkpoint()
        return self._find(actor.account, id).view

    async def mine(self, actor: Actor) -> list[CallView]:
        """Return the calls that ring an account, or that it is in."""
        await trio.lowlevel.checkpoint()
        account = actor.account
        found = [room for room in self._running.of(account) if account in room.call.rung | room.call.active]
        return [room.view for room in found if room.call.concerns(account)]

    async def answer(self, actor: Actor, id: str, device: str) -> CallView:
        """Come in, into a group's call also who was not rung.

        Raises Refused (call_unknown, not_in_conversation, call_ended, answered_elsewhere, already_in_call, call_full).
        """
        room = self._running.find(id)
        if room is not None and actor.account in room.call.unaware:
            room = None
        try:
            # Looked up for a call that is not there, too: not even the time it takes tells a stranger of one that is.
            apart = await self._book.apart_within(NOWHERE if room is None else room.call.conversation, actor.account)
        except Refused as refused:
            raise Refused("call_unknown") if refused.code == "conversation_unknown" else refused from None
        if room is None:
            raise Refused("call_unknown")
        return await self._answer(actor, room, device, apart)

    async def _answer(self, actor: Actor, room: CallRoom, device: str, apart: frozenset[AccountId]) -> CallView:
        account = actor.account
        if account not in room.call.active:
            self._require_free(account)
        is_new = account not in room.call.parties
        room.names[account] = actor.name
        await room.change(account, c.Answer(device, apart))
        if is_new:
            await self._look_between(room, account)
            await self.look_again(room.call.conversation)
        return room.view

    async def _look_between(self, room: CallRoom, account: AccountId) -> None:
        """Part somebody from whom a block came between while it was not known that both are in the call."""
        apart = await self._book.apart_within(room.call.conversation, account)
        for other in sorted(apart & room.call.parties.keys() - room.call.unaware):
            await room.change(other, c.Part(account))

    async def do(self, actor: Actor, id: str, command: c.Command) -> CallView:
        """Do what somebody asks of a call that concerns it. Raises Refused like `policy.step`, and call_unknown."""
        room = self._find(actor.account, id)
        await room.change(actor.account, command)
        return room.view

    async def publish(self, id: str, actor: Actor, offer_sdp: str) -> MediaSession:
        """Answer a WHIP offer. Raises Refused, MalformedSdp, OfferRejected and NoCapacity."""
        await trio.lowlevel.checkpoint()
        room = self._find(actor.account, id)
        negotiated = room.publish(actor, offer_sdp)
        sdp, etag = negotiated.answer_sdp, negotiated.etag
        return self._media_sessions.keep(room, StreamId(room.call.id), actor, negotiated.transport, sdp, etag)

    async def watch(self, id: str, actor: Actor, source: str, offer_sdp: str) -> MediaSession:
        """Answer a WHEP offer for what another in the call sends. Raises as `publish`."""
        await trio.lowlevel.checkpoint()
        room = self._find(actor.account, id)
        try:
            negotiated = room.watch(actor, AccountId(source), offer_sdp)
        except NoSource:
            raise Refused("no_publisher") from None
        sdp, etag = negotiated.answer_sdp, negotiated.etag
        return self._media_sessions.keep(room, StreamId(room.call.id), actor, negotiated.transport, sdp, etag)

    def active_in(self, conversation: str, account: AccountId) -> CallId | None:
        """Return the call of a conversation in which an account is."""
        room = self._running.active_of(account)
        return room.call.id if room is not None and room.call.conversation == conversation else None

    # -- what happens elsewhere ----------------------------------------------------------------------------------------

    async def set_apart(self, one: AccountId, other: AccountId) -> None:
        """Take up that one has blocked the other: a call of the two ends, and in a group they are parted."""
        for room in self._running.of(one):
            if other in room.call.parties:
                await room.change(one, c.Part(other))

    async def shut_out(self, account: AccountId) -> None:
        """Take up that an account may be in no call any more."""
        for room in self._running.of(account):
            await room.change(account, c.Remove())

    async def look_again(self, conversation: str) -> None:
        """Take up that somebody may have left a conversation. Raises ArchiveFailed."""
        for room in self._running.within(ConversationId(conversation)):
            for account in await self._book.outside(conversation, sorted(room.call.parties)):
                await room.change(account, c.Remove())

    async def resume(self, stream: StreamId) -> None:
        """Take up that a stream has ended: the call that became it goes on."""
        for room in self._running:
            if room.call.stream == stream:
                await room.change(None, c.Resume())

    # -- around each call ----------------------------------------------------------------------------------------------

    async def _host(  # noqa: ASYNC128  (the call itself reports that it has started)
        self, room: CallRoom, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await room.run(task_status=task_status)
        except Exception:
            self._counts["faults"] += 1
            log.exception("call_fault", call=room.call.id)
            room.break_down()
        finally:
            self._running.drop(room)

    def _changed(self, room: CallRoom, before: Call, after: Call) -> None:
        if after.ended is not None:
            self._counts[after.ended] += 1
            self._running.drop(room)
        elif after.parties.keys() != before.parties.keys():
            self._running.keep(room)
        self._tell(room, before.audience | after.audience)
        if (before.state, before.video) != (after.state, after.video):
            self._note(after)

    def _tell(self, room: CallRoom, audience: Iterable[AccountId]) -> None:
        told = Encoded(CallTold(server_now=self._clock.wall_ms(), call=room.view))
        for account in audience:
            for session in self._sessions_of(account):
                session.tell(told)

    def _note(self, call: Call) -> None:
        self._unwritten[call.id] = call
        self._wanted.set()

    async def _write(self) -> None:
        """Write down what has become of calls, each as it is by then."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            for id, call in tuple(self._unwritten.items()):
                try:
                    await self._book.write(call, self._clock.wall_ms())
                except ArchiveFailed as failure:
                    self._counts["failures"] += 1
                    log.warning("call_unwritten", call=id, reason=str(failure))
                    self._wanted.set()
                    await trio.sleep(RETRY_S)
                    break
                if self._unwritten.get(id) == call:
                    del self._unwritten[id]

    # -- looking up ----------------------------------------------------------------------------------------------------

    def _find(self, account: AccountId, id: str) -> CallRoom:
        room = self._running.find(id)
        if room is None or not room.call.concerns(account):
            raise Refused("call_unknown")
        return room

    def _in(self, conversation: ConversationId, account: AccountId) -> CallRoom | None:
        """Return the call that goes on in a conversation, as far as an account may know."""
        for room in self._running.within(conversation):
            if room.call.ended is None and account not in room.call.unaware:
                return room
        return None

    def _require_free(self, account: AccountId) -> None:
        room = self._running.active_of(account)
        if room is not None:
            raise Refused("already_in_call", call=room.call.id)

    def _is_busy(self, account: AccountId) -> bool:
        return self._is_on_air(account) or self._running.active_of(account) is not None

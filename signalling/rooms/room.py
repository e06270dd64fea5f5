"""Carries out what the policy decides for one room: first cut, then told, then archived.

One writer: what changes a room runs in the room's own nursery, one change after the other. A fault in there ends this
room and no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio

from media.door import (
    AudienceChanged,
    BroadcastBegan,
    Connected,
    Disconnected,
    Flowing,
    Media,
    MediaEvent,
    Negotiated,
    RoomRow,
    TransportId,
)
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy import rights, writing
from signalling.policy.showing import Now, Scene, Stream
from signalling.policy.state import RoomState
from signalling.policy.step import deadline_ns, step
from signalling.policy.verdicts import Demands, Sight, Verdict
from signalling.ports import Archive, Clock, Desk, NoDesk
from signalling.refusals import Refused
from signalling.rooms import measuring
from signalling.rooms.broadcast_offers import Offers
from signalling.rooms.broadcasts import SessionRights, of_accounts
from signalling.rooms.enforcing import Enforcer
from signalling.rooms.members import Member, Members
from signalling.rooms.metering import Meter
from signalling.rooms.minutes import Minutes
from signalling.wire.events import ChatMessage

DEVICE_LIMIT = "device_limit"
FACTS_BUFFERED = 65_536  # two facts for each transport of a full node; they are taken at once


class Listeners(Protocol):
    """Who is told. Never waits; a reader that does not read is the implementation's concern."""

    def tell(self, events: list[e.Event], scene: Scene) -> None:
        """Pass events of one moment on to whom they concern."""

    def is_present(self, account: AccountId) -> bool:
        """Whether an account follows the room over the signalling socket."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Fact: an account's last signalling session left the room, or was lost for good."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened; the last packet of the former state was out at most `fenced_ns` after the decision."""

    events: list[e.Event]
    fenced_ns: int = 0


@dataclass(slots=True)
class _Asked:
    """A command on its way through the room's nursery."""

    actor: AccountId | None
    command: c.Command | c.Fact
    done: trio.Event = field(default_factory=trio.Event)
    outcome: Outcome | None = None
    refusal: Refused | None = None


class Room:
    """One room; `run` it in a nursery of its own. Raises Refused from every request that is not granted.

    `changed` is called, with the room's stream, whenever what others see of it may have changed; `arrived` when someone
    came over MoQ who is not present yet: whoever judges lets them `enter`, or has them `turned_away`; `displaced` when
    a MoQ session (which has no id, hence None) made room for newer devices of its account.
    """

    def __init__(
        self,
        stream: Stream,
        state: RoomState,
        *,
        media: Media,
        archive: Archive,
        listeners: Listeners,
        clock: Clock,
        changed: Callable[[StreamId], None],
        desk: Desk | None = None,
        arrived: Callable[[StreamId, Actor], None],
        displaced: Callable[[StreamId, AccountId, None], None],
    ) -> None:
        self.stream, self.state = stream, state
        self.names: dict[AccountId, str] = {stream.owner.id: stream.owner.name}
        self._media, self._listeners, self._clock = media, listeners, clock
        self._minutes = Minutes(stream, archive, clock, lambda: self.state)
        self._desk = NoDesk() if desk is None else desk
        self._tell_changed, self._tell_arrived, self._tell_displaced = changed, arrived, displaced
        self.members = Members()
        self._attending: frozenset[AccountId] = frozenset()  # who receives its broadcasts over MoQ, or waits to
        self._nursery: trio.Nursery | None = None
        self._turn = trio.Lock()
        self._pass_on, self._facts = trio.open_memory_channel[MediaEvent | Gone](FACTS_BUFFERED)
        self._changed = trio.Event()
        self._is_running = self._is_shut = False
        self._row = media.open_room(state.requires)
        self._enforcer = Enforcer(media, self._row, self.members, clock)
        self._enforcer.begin(state)
        self._offers = Offers(media, self._row, stream.id)
        self._meter = Meter(self._passes, clock, self._desk, read=lambda: self.state, missed=self._miss)
        self.ended = trio.Event()

    @property
    def row(self) -> RoomRow:
        """The room's row in media."""
        return self._row

    @property
    def watching(self) -> frozenset[AccountId]:
        """The accounts with a viewer's transport, admitted or not, without the owner."""
        return self.members.watching() - {self.state.owner}

    @property
    def is_unwritten(self) -> bool:
        """Whether the archive failed or was too slow for what is applied already."""
        return self._minutes.is_behind

    @property
    def scene(self) -> Scene:
        """The room as it is to be shown."""
        return Scene(self.stream, self.state, self.watching, self.names)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let time pass for the room until it ends; whatever happens, nothing leaves it afterwards."""
        try:
            async with self._facts, trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._take_facts)
                self._nursery.start_soon(self._minutes.keep)
                self._is_running = True
                task_status.started()
                try:
                    async with trio.open_nursery() as clocks:
                        clocks.start_soon(self._meter.run)
                        clocks.start_soon(self._minutes.keep_shown)
                        await self._keep_time()
                        clocks.cancel_scope.cancel()
                finally:
                    self._is_running = False
                self.shut()
                self._pass_on.close()
                async with self._turn:  # whoever ended the stream has told everybody by then
                    self._minutes.close()
        finally:
            self._nursery = None
            self.ended.set()
            self.shut()

    def restrict(self, hidden: frozenset[AccountId], demands: Demands) -> None:
        """Be a stream that never was for those accounts, and demand something of all, from the start on."""
        assert not self._is_running, "a running room takes facts in its turn"
        self.state = replace(self.state, hidden=hidden, demands=demands)

    def shut(self) -> None:
        """End all transports: nothing leaves the room any more, and nobody comes in. Twice is no error."""
        self._is_running = False
        if not self._is_shut:
            self._is_shut = True
            self._media.close_room(self._row)

    def break_down(self, fault: Exception) -> None:
        """End the room by a fault that was met outside of it: `run` raises it."""
        if self._is_running and self._nursery is not None:
            self._is_running = False
            self._nursery.start_soon(_raise, fault)

    # -- what is asked -------------------------------------------------------------------------------------------------

    async def command(self, actor: Actor, command: c.Command) -> Outcome:
        """Do what an account asks; returns after the last packet of the former state is out and all is written down.

        Goes on to its end when the caller is cancelled: what was cut must also be told.
        """
        self._require_running()
        self.names[actor.account] = actor.name
        return await self._ask(_Asked(actor.account, command))

    async def take(self, fact: c.Fact) -> Outcome:
        """Take a fact from outside the room, as `command` does a command."""
        self._require_running()
        return await self._ask(_Asked(None, fact))

    async def _ask(self, asked: _Asked) -> Outcome:
        assert self._nursery is not None
        self._nursery.start_soon(self._carry_out, asked)
        await asked.done.wait()
        if asked.outcome is None:
            raise asked.refusal or Refused("internal_error")
        return asked.outcome

    async def archive_chat(self, message: ChatMessage) -> None:
        """Write down what was said."""
        self._minutes.note_message(message)
        await self._minutes.write()

    def publish(self, actor: Actor, offer_sdp: str) -> Negotiated:
        """Answer a WHIP offer of the streamer, a host, or the guest of a one-to-one; a former publisher is replaced."""
        self._require_running()
        source, until_ns = rights.publishing(self.state, actor.account, self._clock.now_ns())
        self.members.require_few_unanswered(actor.account)
        negotiated = self._media.publish(self._row, source, offer_sdp, until_ns=until_ns, kinds=self._kinds())
        self._take_over(actor, negotiated.transport, source)
        return negotiated

    def take_in(self, actor: Actor, began: BroadcastBegan) -> TransportId:
        """Publish what the streamer, a host, or a one-to-one's guest announced over MoQ; a former one is replaced.

        Raises NoCapacity, and NoSource when it ended meanwhile.
        """
        self._require_running()
        source, until_ns = rights.publishing(self.state, actor.account, self._clock.now_ns())
        if source != began.source:
            raise Refused("not_the_owner")
        transport = self._media.take_in(began, until_ns=until_ns, kinds=self._kinds())
        self._take_over(actor, transport, source)
        return transport

    def _take_over(self, actor: Actor, transport: TransportId, source: str) -> None:
        replaced = self.members.publishing(actor.account)
        self._add_member(actor, Member(transport, actor.account, source, publishes=True))
        for former in replaced:
            self._media.close(former.transport, "taken_over")

    def may_publish(self, account: AccountId, source: str) -> bool:
        """Whether an account may publish as `source` this moment; "" is the streamer."""
        return self._is_running and rights.may_publish(self.state, account, source, self._clock.now_ns())

    def watch(
        self, actor: Actor, offer_sdp: str, verdict: Verdict | None = None, host: AccountId | None = None
    ) -> Negotiated:
        """Answer a WHEP offer for the streamer or a host, the streamer's for its guest; `verdict` judges newcomers."""
        self._require_running()
        now_ns, account = self._clock.now_ns(), actor.account
        state, _ = step(self.state, account, c.Join(verdict), now_ns)
        rights.require_admitted(state, account, now_ns)
        self.members.require_few_unanswered(account)
        source = rights.watched_source(self.state, account, host)
        negotiated = self._media.watch(self._row, source, offer_sdp, state.holding(account))
        self._add_member(actor, Member(negotiated.transport, account, source, publishes=False))
        self.enter(actor, verdict)
        return negotiated

    def enter(self, actor: Actor, verdict: Verdict | None = None) -> None:
        """Let an account be present; `verdict` is what the rules say of one that is not yet."""
        self._require_running()
        self.state, _ = step(self.state, actor.account, c.Join(verdict), self._clock.now_ns())
        self.names[actor.account] = actor.name
        self._media.review(self._row, of_accounts(frozenset({actor.account})))
        self._tell_changed(self.stream.id)

    def turn_away(self, account: AccountId, reason: str) -> None:
        """Refuse one who came over MoQ; sessions that came for this stream alone are over."""
        if not self._is_running:
            return
        for one in self._media.audience(self._row):
            if isinstance(one.rights, SessionRights) and one.rights.stream and one.rights.actor.account == account:
                one.rights.denied = reason
        self._media.dismiss(self._row, of_accounts(frozenset({account})))

    def knows(self, account: AccountId) -> bool:
        """Whether an account has been judged, or needs no judgement; a room that is over judges nobody."""
        return not self._is_running or account == self.state.owner or account in self.state.present

    def receives(self, account: AccountId, source: str) -> bool:
        """Whether what is published here may be written to an account this moment; `source` "" is the streamer."""
        if not self._is_running or not self.knows(account):
            return False
        return rights.receives(self.state, account, source, self._clock.now_ns())

    def shows(self, account: AccountId, sight: Sight) -> bool:
        """Whether an account that is not present finds the stream, as one that it could watch."""
        state = self.state
        is_hidden = account in state.hidden or not sight(state.demands)
        return self._is_running and not is_hidden and state.admits(account, self._clock.now_ns())

    def restart_ice(self, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        """Answer an ICE restart, judging the right anew: an old session is no way back in.

        Raises Refused, also for a session that just ended.
        """
        member = self.members.find(transport)
        if member is None or member.is_closed:
            raise Refused("session_unknown")
        try:
            self._require_right(member)
        except Refused:
            self._close(member)
            raise
        return self._media.restart_ice(transport, sdpfrag)

    def notice(self, fact: MediaEvent | Gone) -> None:
        """Take a fact about one of the room's transports or people; one that comes after the end says nothing new."""
        if not self._is_running or self.state.ended is not None:
            return
        try:
            self._pass_on.send_nowait(fact)
        except trio.WouldBlock as fault:
            self.break_down(fault)

    def fail(self) -> None:
        """Note that the room died of a fault of ours; it is not restored."""
        self.state = replace(self.state, ended="internal_error")

    # -- facts and time ------------------------------------------------------------------------------------------------

    async def _take_facts(self) -> None:
        async for fact in self._facts:
            await self._take(fact)

    async def _take(self, fact: MediaEvent | Gone) -> None:
        match fact:
            case Connected():
                if (member := self.members.connect(fact.transport)) is not None:
                    await self._limit_devices(member.account)
            case Flowing():
                if (member := self.members.find(fact.transport)) is not None:
                    member.flows = True
                    await self._take_flow(member)
            case Disconnected():
                if (member := self.members.remove(fact.transport)) is not None:
                    await self._take_loss(member)
            case AudienceChanged():
                await self._take_audience()
            case Gone(account):
                await self._sweep(account)

    async def _take_audience(self) -> None:
        if not self._is_running:
            return
        here = [
            (one.rights, one.subscribes)
            for one in self._media.audience(self._row)
            if isinstance(one.rights, SessionRights)
        ]
        before, self._attending = self._attending, frozenset(session.actor.account for session, _ in here)
        came = self.members.receive(session for session, subscribes in here if subscribes)
        for session, _ in here:
            if not self.knows(session.actor.account):
                self._tell_arrived(self.stream.id, session.actor)
        self._tell_changed(self.stream.id)
        for account in sorted(before - self._attending):
            await self._sweep(account)
        for account in sorted(came):
            await self._limit_devices(account)

    async def _take_flow(self, member: Member) -> None:
        if member.account == self.state.owner:
            await self._change(None, c.StreamerFlows(), when=lambda: member.flows)
        await self._change(None, c.MediaFlows(), when=self._both_sides_flow)

    def _both_sides_flow(self) -> bool:
        return measuring.both_flow(self.members, self.state)

    def _passes(self, state: RoomState, since_ns: int) -> bool:
        return measuring.passes_both_ways(self._media, self._row, self.members, state, since_ns)

    def _miss(self, missed: c.MediaMissed) -> None:
        self.state, _ = step(self.state, None, missed, self._clock.now_ns())

    def _add_member(self, actor: Actor, member: Member) -> None:
        self.members.add(member)
        self.names[actor.account] = actor.name

    async def _take_loss(self, member: Member) -> None:
        if member.publishes:
            await self._change(None, c.MediaStops(), when=lambda: not self._both_sides_flow())
        if member.publishes and self.state.owner == member.account:
            await self._change(None, c.StreamerLost(), when=lambda: not self.members.publishing(self.state.owner))
        self._tell_changed(self.stream.id)
        await self._sweep(member.account)

    async def _sweep(self, account: AccountId) -> None:
        """Let an account leave that is here neither by a session nor by a transport.

        Not the guest of a one-to-one: the pause that is allowed to a lost connection ends it in time.
        """
        if self._is_gone(account):
            await self._change(account, c.Leave(), when=lambda: self._is_gone(account))

    def _is_gone(self, account: AccountId) -> bool:
        here = self._listeners.is_present(account) or self.members.of(account) or account in self._attending
        return account in self.state.present and not here and not self.state.in_one_to_one(account)

    async def _keep_time(self) -> None:
        while self.state.ended is None:
            self._changed = trio.Event()
            left_ns = deadline_ns(self.state) - self._clock.now_ns()
            with trio.move_on_after(max(0.0, left_ns / 1e9)):
                await self._changed.wait()
            if deadline_ns(self.state) <= self._clock.now_ns():
                await self._change(None, c.Tick())

    # -- changes -------------------------------------------------------------------------------------------------------

    async def _carry_out(self, asked: _Asked) -> None:
        try:
            asked.outcome = await self._change(asked.actor, asked.command)
            await self._minutes.write()
        except Refused as refusal:
            asked.refusal = refusal
        finally:
            asked.done.set()

    async def _change(
        self, actor: AccountId | None, given: c.Command | c.Fact, *, when: Callable[[], bool] = lambda: True
    ) -> Outcome:
        """Apply one change, in its turn; `when` it is its turn it may be true no longer, and then nothing happens."""
        async with self._turn:
            if not when():
                return Outcome([])
            if writing.is_written_first(self.state, given):
                intended, _ = step(self.state, actor, given, self._clock.now_ns())
                try:
                    await self._minutes.intend(intended)
                except Refused:
                    if not isinstance(given, writing.SHUTTING):
                        self._minutes.settled()
                        raise
            try:
                outcome = await self._do(actor, given)
            except Refused:
                raise
            except Exception:
                self.shut()  # whatever was half done: nothing leaves the room that dies of it
                raise
            finally:
                self._minutes.settled()
        for event in outcome.events:
            if isinstance(event, e.OneToOneEnded):
                await self._sweep(event.account)
        return outcome

    async def _do(self, actor: AccountId | None, given: c.Command | c.Fact) -> Outcome:
        now = Now.read(self._clock)
        before = self.state
        self.state, events = step(before, actor, given, now.ns)
        self._enforcer.apply(before, self.state, given)
        self._offers.keep_up(self.state)
        self._changed.set()
        if self.state.one_to_one is not None:
            self._meter.wake()
        fenced_ns = 0
        if self.state.epoch != before.epoch:
            await self._media.fence()
            fenced_ns = self._clock.now_ns() - now.ns
        if events:
            self._listeners.tell(events, self.scene)
            self._close_revoked(events)  # not before: some hear of it over what ends by it
            self._desk.hear(self.stream.id, events)
            self._minutes.note(events, self.state.epoch, now.wall_ms)
        if self.state != before:
            self._tell_changed(self.stream.id)
        return Outcome(events, fenced_ns)

    def _close_revoked(self, events: list[e.Event]) -> None:
        # Those whom a one-to-one or an unfinished payment shuts out wait with their transports open, and come back
        # without joining again.
        gone = {event.account for event in events if isinstance(event, e.AccessRevoked)}
        over = {event.account for event in events if isinstance(event, e.OneToOneEnded)}
        for member in self.members.of(*(gone | over)):
            revoked = member.account in gone and not self._may_wait(member.account)
            if revoked or (member.publishes and member.account in over):
                self._close(member)

    async def _limit_devices(self, account: AccountId) -> None:
        """Let the newest of an account's connected viewers stay, so many as one person has devices."""
        if account == self.state.owner:
            return
        for one in self.members.surplus(account):
            if isinstance(one, Member):
                self._close(one, DEVICE_LIMIT)
            else:
                self._displace(one)
            await self._change(None, c.TakenOver())

    def _displace(self, session: SessionRights) -> None:
        # The session stays, or its player would come again at once, and take the place of the next.
        self.members.forget_session(session)
        session.displaced.add(self.stream.id)
        self._media.review(self._row, lambda one: one is session)
        self._tell_displaced(self.stream.id, session.actor.account, None)

    def _close(self, member: Member, reason: str = "access_revoked") -> None:
        member.is_closed, member.flows = True, False
        self._media.close(member.transport, reason)

    # -- rights --------------------------------------------------------------------------------------------------------

    def _kinds(self) -> tuple[str, ...]:
        return ("audio", "video") if self.stream.kind == "video" or self.state.one_to_one else ("audio",)

    def _require_running(self) -> None:
        if self.state.ended is not None or not self._is_running:
            raise Refused("stream_ended")

    def _require_right(self, member: Member) -> None:
        now_ns, account = self._clock.now_ns(), member.account
        if member.publishes:
            rights.publishing(self.state, account, now_ns)
        elif not self.state.admits(account, now_ns) and not self._may_wait(account):
            rights.require_admitted(self.state, account, now_ns)

    def _may_wait(self, account: AccountId) -> bool:
        return rights.may_wait(self.state, account, self._clock.now_ns())


async def _raise(fault: Exception) -> None:
    await trio.lowlevel.checkpoint()
    raise fault

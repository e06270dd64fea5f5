"""Carries out what the policy decides for one room: first cut, then told, then archived.

One writer: what changes a room runs in the room's own nursery, one change after the other. A fault in there ends this
room and no other.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
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
from media.forwarding.admission import FOREVER
from signalling import commands as c
from signalling import events as e
from signalling import one_to_one
from signalling.broadcasts import SessionRights, of_accounts
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.minutes import Minutes
from signalling.policy import deadline_ns, step
from signalling.ports import Archive, Clock, Desk, NoDesk
from signalling.refusals import Refused
from signalling.showing import Now, Scene, Stream
from signalling.state import OneToOne, RoomState
from signalling.verdicts import Demands, Sight, Verdict
from signalling.wire_events import ChatMessage

STREAMER, GUEST = "streamer", "guest"
DEVICE_LIMIT = "device_limit"
MAX_UNANSWERED = 256  # media sessions of one account that never connected; each is forgotten after 30 s
MAX_DEVICES = 2  # of one account that watch one stream: a telephone and a television; a shared account is more
WRITTEN_FIRST = (
    c.AcceptOneToOne,
    c.ConfirmOneToOne,
    c.Eject,
    c.Readmit,
    c.GrantTicket,
    c.RevokeTicket,
    c.Entitle,
    c.Disentitle,
    c.EndStream,
)
# What only shuts a door is done even when it can't be written down now: a full disk must not hold it open.
SHUTTING = (c.ConfirmMode, c.SetBestPicture, c.Eject, c.RevokeTicket, c.Disentitle, c.EndStream)
MEASURED_EVERY_S = 1.0  # what is not delivered is not paid for, to so many seconds
WRITTEN_EVERY = 5  # measurements: a crash loses so many seconds of a streamer's pay, and a session costs no more writes
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
class _Member:
    """One account's media transport in the room; `number` orders those that are connected."""

    account: AccountId
    publishes: bool
    source: str
    connected: bool = False
    number: int = 0
    flows: bool = False
    is_closed: bool = False


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
        self._tell_changed = changed
        self._desk = NoDesk() if desk is None else desk
        self._tell_changed, self._tell_arrived, self._tell_displaced = changed, arrived, displaced
        self._members: dict[TransportId, _Member] = {}
        self._audience: frozenset[AccountId] = frozenset()  # who receives its broadcasts over MoQ
        self._attending: frozenset[AccountId] = frozenset()  # who does, or waits to
        self._sessions: dict[SessionRights, int] = {}  # by which they do, numbered with the connected transports
        self._transports: dict[AccountId, set[TransportId]] = {}
        self._numbers = itertools.count(1)
        self._unanswered: Counter[AccountId] = Counter()
        self._nursery: trio.Nursery | None = None
        self._turn = trio.Lock()
        self._pass_on, self._facts = trio.open_memory_channel[MediaEvent | Gone](FACTS_BUFFERED)
        self._changed, self._accepted = trio.Event(), trio.Event()
        self._is_running = self._is_shut = False
        self._row = media.open_room(state.requires)
        media.reserve_best(self._row, state.best_requires)
        media.open_until(self._row, FOREVER if state.until_ns is None else state.until_ns)
        media.offer(self._row, STREAMER, stream.id)
        media.offer(self._row, GUEST, f"{stream.id}/{GUEST}")
        self.ended = trio.Event()

    @property
    def row(self) -> RoomRow:
        """The room's row in media."""
        return self._row

    @property
    def watching(self) -> frozenset[AccountId]:
        """The accounts with a viewer's transport, admitted or not, without the owner."""
        viewers = {member.account for member in self._members.values() if not member.publishes}
        return frozenset(viewers | self._audience) - {self.state.owner}

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
                        clocks.start_soon(self._measure)
                        clocks.start_soon(self._keep_shown)
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
        """Answer a WHIP offer of the streamer, or of the guest of a one-to-one; a former publisher is replaced."""
        self._require_running()
        source, until_ns = self._publishing_right(actor.account)
        self._require_few_unanswered(actor.account)
        replaced = self._publishers(actor.account)
        negotiated = self._media.publish(self._row, source, offer_sdp, until_ns=until_ns, kinds=self._kinds())
        self._add_member(actor, negotiated.transport, source, publishes=True)
        for transport in replaced:
            self._media.close(transport, "taken_over")
        return negotiated

    def take_in(self, actor: Actor, began: BroadcastBegan) -> TransportId:
        """Publish what the streamer, or the guest of a one-to-one, announced over MoQ; a former publisher is replaced.

        Raises NoCapacity, and NoSource when it ended meanwhile.
        """
        self._require_running()
        source, until_ns = self._publishing_right(actor.account)
        if source != began.source:
            raise Refused("not_the_owner")
        replaced = self._publishers(actor.account)
        transport = self._media.take_in(began, until_ns=until_ns, kinds=self._kinds())
        self._add_member(actor, transport, source, publishes=True)
        for former in replaced:
            self._media.close(former, "taken_over")
        return transport

    def may_publish(self, account: AccountId, source: str) -> bool:
        """Whether an account may publish as `source` this moment; "" is the streamer."""
        if not self._is_running or self.state.ended is not None:
            return False
        if account == self.state.owner:
            return source == ""
        return source == GUEST and self._clock.now_ns() < self._guest_until_ns(account)

    def watch(self, actor: Actor, offer_sdp: str, verdict: Verdict | None = None) -> Negotiated:
        """Answer a WHEP offer: the streamer's tracks for everyone who may watch, the guest's for the streamer.

        `verdict` is what the rules say of an account that is not present yet.
        """
        self._require_running()
        now_ns, account = self._clock.now_ns(), actor.account
        state, _ = step(self.state, account, c.Join(verdict), now_ns)
        self._require_admitted(state, account)
        self._require_few_unanswered(account)
        source = GUEST if account == self.state.owner and self.state.one_to_one else STREAMER
        negotiated = self._media.watch(self._row, source, offer_sdp, state.holding(account))
        self._add_member(actor, negotiated.transport, source, publishes=False)
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
        if not self._is_running or not self.knows(account) or not self.state.admits(account, self._clock.now_ns()):
            return False
        return source == "" or (source == GUEST and self.state.one_to_one is not None and account == self.state.owner)

    def shows(self, account: AccountId, sight: Sight) -> bool:
        """Whether an account that is not present finds the stream, as one that it could watch."""
        state = self.state
        is_hidden = account in state.hidden or not sight(state.demands)
        return self._is_running and not is_hidden and state.admits(account, self._clock.now_ns())

    def restart_ice(self, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        """Answer an ICE restart, judging the right anew: an old session is no way back in.

        Raises Refused, also for a session that just ended.
        """
        member = self._members.get(transport)
        if member is None or member.is_closed:
            raise Refused("session_unknown")
        try:
            self._require_right(member)
        except Refused:
            self._close(transport, member)
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
                if (member := self._members.get(fact.transport)) is not None:
                    member.connected, member.number = True, next(self._numbers)
                    _count_down(self._unanswered, member.account)
                    await self._limit_devices(member.account)
            case Flowing():
                if (member := self._members.get(fact.transport)) is not None:
                    member.flows = True
                    await self._take_flow(member)
            case Disconnected():
                if (member := self._members.pop(fact.transport, None)) is not None:
                    self._forget_transport(member.account, fact.transport)
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
        before, self._attending = self._attending, frozenset(rights.actor.account for rights, _ in here)
        receiving = [rights for rights, subscribes in here if subscribes]
        came = {rights.actor.account for rights in receiving if rights not in self._sessions}
        self._sessions = {rights: self._sessions.get(rights) or next(self._numbers) for rights in receiving}
        self._audience = frozenset(rights.actor.account for rights in receiving)
        for rights, _ in here:
            if not self.knows(rights.actor.account):
                self._tell_arrived(self.stream.id, rights.actor)
        self._tell_changed(self.stream.id)
        for account in sorted(before - self._attending):
            await self._sweep(account)
        for account in sorted(came):
            await self._limit_devices(account)

    async def _take_flow(self, member: _Member) -> None:
        if member.account == self.state.owner:
            await self._change(None, c.StreamerFlows(), when=lambda: member.flows)
        await self._change(None, c.MediaFlows(), when=self._both_sides_flow)

    def _add_member(self, actor: Actor, transport: TransportId, source: str, *, publishes: bool) -> None:
        self._members[transport] = _Member(actor.account, publishes, source)
        self._transports.setdefault(actor.account, set()).add(transport)
        self._unanswered[actor.account] += 1
        self.names[actor.account] = actor.name

    def _forget_transport(self, account: AccountId, transport: TransportId) -> None:
        self._transports[account].discard(transport)
        if not self._transports[account]:
            del self._transports[account]

    async def _take_loss(self, member: _Member) -> None:
        member.flows = False
        if not member.connected:
            _count_down(self._unanswered, member.account)
        if member.publishes:
            await self._change(None, c.MediaStops(), when=lambda: not self._both_sides_flow())
        if member.publishes and self.state.owner == member.account:
            await self._change(None, c.StreamerLost(), when=lambda: not self._owner_publishes())
        self._tell_changed(self.stream.id)
        await self._sweep(member.account)

    async def _sweep(self, account: AccountId) -> None:
        """Let an account leave that is here neither by a session nor by a transport.

        Not the guest of a one-to-one: the pause that is allowed to a lost connection ends it in time.
        """
        if self._is_gone(account):
            await self._change(account, c.Leave(), when=lambda: self._is_gone(account))

    def _is_gone(self, account: AccountId) -> bool:
        here = self._listeners.is_present(account) or account in self._transports or account in self._attending
        return account in self.state.present and not here and not self.state.in_one_to_one(account)

    async def _keep_time(self) -> None:
        while self.state.ended is None:
            self._changed = trio.Event()
            left_ns = deadline_ns(self.state) - self._clock.now_ns()
            with trio.move_on_after(max(0.0, left_ns / 1e9)):
                await self._changed.wait()
            if deadline_ns(self.state) <= self._clock.now_ns():
                await self._change(None, c.Tick())

    # -- what a one-to-one delivers ------------------------------------------------------------------------------------

    async def _measure(self) -> None:
        """See once a second whether media passes both ways while a one-to-one's clock runs."""
        looked_ns = said = 0
        while True:
            if self.state.one_to_one is None:
                self._accepted = trio.Event()
                await self._accepted.wait()
            await trio.sleep(MEASURED_EVERY_S)
            session, now_ns = self.state.one_to_one, self._clock.now_ns()
            if session is None or session.running_since_ns is None or now_ns >= session.until_ns:
                said = 0
                continue
            since_ns = max(looked_ns, session.running_since_ns)
            if not self._passes_both_ways(session, since_ns):
                self.state, _ = step(self.state, None, c.MediaMissed(now_ns - since_ns), now_ns)
            looked_ns, said = now_ns, said + 1
            if session.request and said % WRITTEN_EVERY == 0 and (session := self.state.one_to_one) is not None:
                self._desk.delivered(session.request, one_to_one.delivered_ns(session, now_ns))

    async def _keep_shown(self) -> None:
        """Have written down now and then how long the stream was on for ticket holders alone: they paid for that."""
        while True:
            await trio.sleep(WRITTEN_EVERY * MEASURED_EVERY_S)
            if self.state.showing_since_ns is not None:
                self._minutes.ask()

    def _passes_both_ways(self, session: OneToOne, since_ns: int) -> bool:
        ways = {(self.state.owner, GUEST), (session.guest, STREAMER)}
        passing = {
            (member.account, member.source)
            for transport, member in self._members.items()
            if not member.publishes and not member.is_closed and self._media.delivered_ns(transport) >= since_ns
        }
        return all(way in passing or self._passes_over_moq(*way, since_ns) for way in ways)

    def _passes_over_moq(self, account: AccountId, source: str, since_ns: int) -> bool:
        return self._media.delivered_to(self._row, source, of_accounts(frozenset({account}))) >= since_ns

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
            if self._is_written_first(given):
                intended, _ = step(self.state, actor, given, self._clock.now_ns())
                try:
                    await self._minutes.intend(intended)
                except Refused:
                    if not isinstance(given, SHUTTING):
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
        self._apply(before, _concerned(given))
        self._changed.set()
        if self.state.one_to_one is not None:
            self._accepted.set()
        fenced_ns = 0
        if self.state.epoch != before.epoch:
            await self._media.fence()
            fenced_ns = self._clock.now_ns() - now.ns
            self._close_revoked(events)
        if events:
            self._listeners.tell(events, self.scene)
            self._desk.hear(self.stream.id, events)
            self._minutes.note(events, self.state.epoch, now.wall_ms)
        if self.state != before:
            self._tell_changed(self.stream.id)
        return Outcome(events, fenced_ns)

    def _apply(self, before: RoomState, concerned: frozenset[AccountId]) -> None:
        # No checkpoint in here, yet packets pass between the stores. None admits whom neither state admits, for both
        # states' demands come first; none cuts whom both admit, for those hold what both demand before they do.
        after = self.state
        if concerned and _of_all(before) == _of_all(after):
            self._admit_anew(self._transports_of(concerned))
            self._media.review(self._row, of_accounts(concerned))
            return
        if (before.epoch, before.one_to_one, before.until_ns) == (after.epoch, after.one_to_one, after.until_ns):
            return
        self._media.reserve_best(self._row, before.best_requires | after.best_requires)
        staying = self._admitted_by_both(before, after) if before.requires != after.requires else {}
        for transport, account in staying.items():
            self._media.hold(transport, before.holding(account).joined(after.holding(account)))
        self._media.require(self._row, before.requires | after.requires)
        self._admit_anew(transport for transport in self._members if transport not in staying)
        closes_ns = FOREVER if after.until_ns is None else after.until_ns
        self._media.open_until(self._row, 0 if after.ended is not None else closes_ns)
        self._media.require(self._row, after.requires)
        for transport, account in staying.items():
            self._media.hold(transport, after.holding(account))
        self._media.reserve_best(self._row, after.best_requires)
        self._media.review(self._row)

    def _admitted_by_both(self, before: RoomState, after: RoomState) -> dict[TransportId, AccountId]:
        now_ns = self._clock.now_ns()
        return {
            transport: member.account
            for transport, member in self._members.items()
            if not member.publishes and before.admits(member.account, now_ns) and after.admits(member.account, now_ns)
        }

    def _admit_anew(self, transports: Iterable[TransportId]) -> None:
        for transport in transports:
            member = self._members[transport]
            if not member.publishes:
                self._media.hold(transport, self.state.holding(member.account))
            elif member.account != self.state.owner:
                self._media.publish_until(transport, self._guest_until_ns(member.account))

    def _transports_of(self, accounts: Iterable[AccountId]) -> list[TransportId]:
        return [transport for account in accounts for transport in self._transports.get(account, ())]

    def _close_revoked(self, events: list[e.Event]) -> None:
        # Those whom a one-to-one or an unfinished payment shuts out wait with their transports open, and come back
        # without joining again.
        gone = {event.account for event in events if isinstance(event, e.AccessRevoked)}
        over = {event.account for event in events if isinstance(event, e.OneToOneEnded)}
        for transport in self._transports_of(gone | over):
            member = self._members[transport]
            revoked = not member.publishes and member.account in gone and not self._may_wait(member.account)
            if revoked or (member.publishes and member.account in over):
                self._close(transport, member)

    async def _limit_devices(self, account: AccountId) -> None:
        """Let the newest of an account's connected viewers stay, so many as one person has devices."""
        mine = [(transport, self._members[transport]) for transport in self._transports_of([account])]
        watching: list[tuple[int, Callable[[], None]]] = [
            (member.number, partial(self._close, transport, member, DEVICE_LIMIT))
            for transport, member in mine
            if member.connected and not member.publishes and not member.is_closed
        ]
        watching += [
            (number, partial(self._displace, rights))
            for rights, number in self._sessions.items()
            if rights.actor.account == account
        ]
        if account == self.state.owner or len(watching) <= MAX_DEVICES:
            return
        for _, make_room in sorted(watching, key=lambda each: each[0])[:-MAX_DEVICES]:
            make_room()
            await self._change(None, c.TakenOver())

    def _displace(self, rights: SessionRights) -> None:
        # The session stays, or its player would come again at once, and take the place of the next.
        self._sessions.pop(rights, None)
        rights.displaced.add(self.stream.id)
        self._media.review(self._row, lambda one: one is rights)
        self._tell_displaced(self.stream.id, rights.actor.account, None)

    def _close(self, transport: TransportId, member: _Member, reason: str = "access_revoked") -> None:
        member.is_closed, member.flows = True, False
        self._media.close(transport, reason)

    # -- rights --------------------------------------------------------------------------------------------------------

    def _publishers(self, account: AccountId) -> list[TransportId]:
        transports = self._transports_of([account])
        return [transport for transport in transports if self._members[transport].publishes]

    def _kinds(self) -> tuple[str, ...]:
        return ("audio", "video") if self.stream.kind == "video" or self.state.one_to_one else ("audio",)

    def _require_running(self) -> None:
        if self.state.ended is not None or not self._is_running:
            raise Refused("stream_ended")

    def _require_admitted(self, state: RoomState, account: AccountId) -> None:
        now_ns = self._clock.now_ns()
        if not state.admits(account, now_ns):
            reason, readmit = state.refusal(account, now_ns)
            verdict = state.verdict(account)
            help = verdict.help if reason in ("not_entitled", verdict.denied) else {}
            if "ticket" in readmit and self.state.offer is not None:
                help = {**help, "offer": self.state.offer}
            raise Refused(reason, "", readmit=readmit, **help)

    def _require_few_unanswered(self, account: AccountId) -> None:
        if self._unanswered[account] >= MAX_UNANSWERED:
            raise Refused("too_many_sessions")

    def _require_right(self, member: _Member) -> None:
        now_ns, account = self._clock.now_ns(), member.account
        if member.publishes:
            self._publishing_right(account)
        elif not self.state.admits(account, now_ns) and not self._may_wait(account):
            self._require_admitted(self.state, account)

    def _may_wait(self, account: AccountId) -> bool:
        """Whether it is only a one-to-one that shuts an account out, or a payment under way: it is back by itself."""
        if self.state.one_to_one is not None:
            return self.state.hears(account)
        return self.state.refusal(account, self._clock.now_ns())[0] == "payment_pending"

    def _publishing_right(self, account: AccountId) -> tuple[str, int]:
        if account == self.state.owner:
            return STREAMER, FOREVER
        session = self.state.one_to_one
        if session is None or session.guest != account:
            raise Refused("not_the_owner", "only the streamer, and the guest of a one-to-one, may publish")
        return GUEST, session.until_ns

    def _is_written_first(self, given: c.Command | c.Fact) -> bool:
        # Who may watch, but for the way back to public: a restart must find the narrower, and no ticket lost.
        prepared = self.state.prepared
        if isinstance(given, c.ConfirmMode):
            return prepared is not None and prepared.token == given.token and prepared.mode is not Mode.PUBLIC
        if isinstance(given, c.SetBestPicture):
            return given.best_picture != "everyone"
        return isinstance(given, WRITTEN_FIRST)

    def _guest_until_ns(self, account: AccountId) -> int:
        session = self.state.one_to_one
        return session.until_ns if session is not None and session.guest == account else 0

    def _both_sides_flow(self) -> bool:
        session = self.state.one_to_one
        if session is None:
            return False
        flowing = {member.account for member in self._members.values() if member.publishes and member.flows}
        return {self.state.owner, session.guest} <= flowing

    def _owner_publishes(self) -> bool:
        return any(member.publishes and member.account == self.state.owner for member in self._members.values())


def _count_down(counter: Counter[AccountId], account: AccountId) -> None:
    counter[account] -= 1
    if not counter[account]:
        del counter[account]


async def _raise(fault: Exception) -> None:
    await trio.lowlevel.checkpoint()
    raise fault


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

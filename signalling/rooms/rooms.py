"""Leads what people ask of streams to their rooms, and shows what becomes of it to all whom it concerns."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog
import trio

from media.door import Media
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.replies import reply
from signalling.policy.showing import Now, Stream, card, is_listed, mentioned, room, you
from signalling.policy.state import RoomState
from signalling.policy.step import WAITING_NS, step
from signalling.policy.verdicts import Sight, sees_all
from signalling.ports import Archive, Clock, Desk, Feed, Gate, Messenger, NoDesk, NoMessenger, Outbox
from signalling.refusals import Refused
from signalling.rooms.audience import Audience
from signalling.rooms.chat import Chat
from signalling.rooms.directory import ALL, Directory, Wanted
from signalling.rooms.gate import Ungated, Unlogged
from signalling.rooms.judging import Judging
from signalling.rooms.passing_on import pass_facts_on
from signalling.rooms.registry import Live, Registry
from signalling.rooms.room import DEVICE_LIMIT, Gone, Room
from signalling.sessions.answering import answer, answer_soon
from signalling.sessions.data_channels import DataChannels
from signalling.sessions.fanning import show_newest, tell_all
from signalling.sessions.media_sessions import MediaSessions
from signalling.sessions.moq_sessions import MoqSessions
from signalling.sessions.session import Session
from signalling.sessions.sessions import Sessions
from signalling.wire import views as v
from signalling.wire.events import MediaTakenOver, WireEvent
from signalling.wire.messages import Encoded, Encoding
from signalling.wire.requests import Request, Resume
from signalling.wire.tips import GoalTold, TipTold

SHOWN_EVERY_S = 0.25  # how late the directory and the count of viewers may be; a storm of joins is one message
log = structlog.get_logger("signalling")


@dataclass(slots=True)
class _Changed:
    """What is to be shown at the next turn."""

    streams: set[StreamId] = field(default_factory=set)
    woken: trio.Event = field(default_factory=trio.Event)


class Rooms:
    """All rooms of a node; `run` it in a nursery before the first call. Raises Refused."""

    def __init__(
        self, media: Media, archive: Archive, clock: Clock, gate: Gate | None = None, feed: Feed | None = None
    ) -> None:
        self._media, self._archive, self._clock = media, archive, clock
        self._gate = Ungated() if gate is None else gate
        self.feed = Unlogged() if feed is None else feed
        self._registry = Registry(self, archive, clock, self._gate)
        self.reopen = self._registry.reopen
        self._judging = Judging(self._gate)
        self.media_sessions = MediaSessions(self._registry, media, self._judging, self.command)
        self.moq_sessions = MoqSessions(self._registry, media, self._judging, self.media_sessions, clock)
        self._data_channels = DataChannels(self, clock)
        self._directory = Directory(clock.wall_ms())
        self._changed = _Changed()
        self.sessions = Sessions(clock)
        self._desk: Desk = NoDesk()
        self.messenger: Messenger = NoMessenger()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Restore what was running, then keep rooms until cancelled."""
        async with trio.open_nursery() as nursery:
            self.moq_sessions.live_in(nursery)
            await self._registry.restore(nursery)
            self._data_channels.live_in(nursery)
            nursery.start_soon(
                pass_facts_on,
                self._media,
                self._clock,
                self._registry,
                self.media_sessions,
                self.moq_sessions,
                self._data_channels,
                self._tell_device_limit,
            )
            nursery.start_soon(self._show_changes)
            nursery.start_soon(self._forget_lost_sessions)
            task_status.started()

    def attend(self, desk: Desk) -> None:
        """Have what happens in one-to-ones heard from now on, and what is asked for them minded."""
        self._desk = desk

    def talk_through(self, messenger: Messenger) -> None:
        """Have messages written that sessions send."""
        self.messenger = messenger

    async def require_free(self, stream: StreamId, account: AccountId) -> None:
        """Ask the desk, for a room."""
        await self._desk.require_free(stream, account)

    async def manner_of(self, stream: StreamId) -> c.Manner:
        """Ask the desk, for a room."""
        return await self._desk.manner_of(stream)

    def hear(self, stream: StreamId, events: Sequence[e.Event]) -> None:
        """Pass on to the desk what a room says."""
        self._desk.hear(stream, events)

    def delivered(self, request: str, delivered_ns: int) -> None:
        """Pass on to the desk what a room says."""
        self._desk.delivered(request, delivered_ns)

    def counters(self) -> dict[str, int]:
        """How much there is of everything, by name."""
        return {
            "rooms": len(self._registry),
            "room_faults": self._registry.faults,
            "rooms_unwritten": sum(live.room.is_unwritten for live in self._registry.all()),
            "media_sessions": len(self.media_sessions),
            **self.sessions.counters(),
        }

    # -- streams -------------------------------------------------------------------------------------------------------

    async def create_stream(
        self,
        actor: Actor,
        *,
        title: str,
        kind: v.Kind = "video",
        mode: Mode = Mode.PUBLIC,
        description: str = "",
        best_picture: v.BestPicture = "everyone",
        entitled: frozenset[AccountId] = frozenset(),
    ) -> v.StreamView:
        """Open a stream, for those `entitled` also while it is private.

        Raises Refused (already_live, invalid_mode, not_stored) and NoCapacity.
        """
        if mode is Mode.ONE_TO_ONE:
            raise Refused("invalid_mode", "a one-to-one begins by accepting a viewer")
        await self._judging.require_streamer(actor.account)
        self._registry.require_none(actor.account)
        now = Now.read(self._clock)
        owner = v.Person(actor.account, actor.name)
        id, number = StreamId(f"s_{secrets.token_hex(8)}"), self._registry.next_number()
        stream = Stream(id, number, owner, kind, now.wall_ms)
        state = RoomState(actor.account, mode=mode, title=title.strip(), description=description.strip())
        until_ns, chosen = now.ns + WAITING_NS, entitled - {actor.account}
        state = replace(state, best_picture=best_picture, picture_until_ns=until_ns, entitled=chosen)
        await self._registry.open(stream, state)
        await self._gate.reconsider(stream.id, actor.account)
        return self.stream(stream.id, actor)

    def stream(self, stream_id: StreamId, viewer: Actor | None) -> v.StreamView:
        """Show a stream to someone."""
        scene, now = self._registry.find(stream_id, viewer).room.scene, Now.read(self._clock)
        account = AccountId("") if viewer is None else viewer.account
        return v.StreamView(card(scene, now), you(scene.state, account, now), now.wall_ms)

    async def show(self, stream_id: StreamId, viewer: Actor) -> v.StreamView:
        """Show a stream to someone who may not have come in yet, with what the rules would say then."""
        live = self._registry.find(stream_id, viewer)
        verdict = await self._judging.appraise(live.room, viewer)
        live, now = self._registry.find(stream_id, viewer), Now.read(self._clock)
        state = live.room.state
        if verdict is not None and viewer.account not in state.present:
            state = state.supposing(viewer.account, verdict)
        return v.StreamView(card(live.room.scene, now), you(state, viewer.account, now), now.wall_ms)

    async def browse(self, viewer: Actor, *, cursor: str | None, limit: int, wanted: Wanted = ALL) -> v.Page:
        """Show a part of the directory, without what the viewer is known to be kept out of by what it demands."""
        sight = await self._judging.sight_of(viewer.account)
        return self.live(viewer, cursor=cursor, limit=limit, sight=sight, wanted=wanted)

    async def listed_of(self, owner: AccountId, viewer: Actor) -> v.Card | None:
        """Show the stream that an account has on as the directory lists it for the viewer, None where it does not."""
        sight = await self._judging.sight_of(viewer.account)
        live = self._registry.of(owner)
        if live is None or not is_listed(live.room.state, viewer, sight):
            return None
        return card(live.room.scene, Now.read(self._clock))

    def live(
        self,
        viewer: Actor | None,
        *,
        cursor: str | None = None,
        limit: int = 50,
        sight: Sight = sees_all,
        wanted: Wanted = ALL,
    ) -> v.Page:
        """Show a part of the directory, newest first, as it is this moment: who asks has not been told of it before."""
        for stream in self._changed.streams:
            if (changed := self._registry.get(stream)) is not None:
                self._directory.put(changed.room.scene)
        return self._directory.page(viewer, cursor, limit, Now.read(self._clock), sight, wanted)

    async def command(self, stream_id: StreamId, actor: Actor, command: c.Command | c.Chat | c.ShowRoom) -> v.Reply:
        """Do what someone asks of a room; returns when it is done for the last packet, too."""
        live = self._registry.find(stream_id, actor)
        state = live.room.state
        verdict = await self._judging.weigh(live.room, actor)
        if verdict is not None and verdict.denied is not None:
            raise Refused(verdict.denied, "", **verdict.help)
        if actor.admin and isinstance(command, c.OwnersCommand | c.EndOneToOne):
            owner = live.room.stream.owner
            actor = Actor(owner.id, owner.name)
        match command:
            case c.ShowRoom():
                if actor.account != state.owner and not actor.admin:
                    raise Refused("not_the_owner")
                return await self._show_room(live)
            case c.Chat():
                return await self._say(live, actor, command)
            case c.Join() | c.Leave():
                raise Refused("not_present", "presence is told over the signalling socket")
            case c.RequestOneToOne(id=""):
                await self._desk.require_free(stream_id, actor.account)
            case c.AcceptOneToOne(account, seconds):
                command = c.AcceptOneToOne(account, seconds, await self._desk.manner_of(stream_id))
        outcome = await live.room.command(actor, command)
        if isinstance(command, c.GrantTicket | c.RevokeTicket):
            await self._gate.reconsider(stream_id, command.account)
        return reply(live.room.scene, command, outcome.events, outcome.fenced_ns, Now.read(self._clock))

    # -- signalling sessions -------------------------------------------------------------------------------------------

    def attach(self, actor: Actor, encoding: Encoding, outbox: Outbox, resume: Resume | None) -> Session:
        """Begin a signalling session over a connection, or go on with one; `welcome` is the first thing it says.

        Raises Refused("too_many_sessions").
        """
        former = self.sessions.find(actor, resume)
        if former is None or resume is None:
            session = self.sessions.open(actor, encoding, self._answer, self._answer_soon)
            session.attach(outbox, encoding, None)
            return session
        former.attach(outbox, encoding, resume.after)
        for stream in sorted(former.joined):
            if (live := self._registry.get(stream)) is not None:
                live.audience.show_all(former, live.room.scene)
        if former.watches_directory:
            self._directory.watch(former, Now.read(self._clock))
        return former

    async def join(self, session: Session, stream_id: StreamId) -> v.Done:
        """Let a session follow a stream; its state is the first event."""
        await trio.lowlevel.checkpoint()
        live = self._registry.find(stream_id, session.actor)
        live.room.enter(session.actor, await self._judging.weigh(live.room, session.actor))
        live.audience.join(session, live.room.scene)
        return v.Done(live.room.state.epoch)

    async def leave(self, session: Session, stream_id: StreamId) -> v.Done:
        """No longer. The guest of a one-to-one ends it by leaving."""
        live = self._registry.find(stream_id, session.actor)
        live.audience.leave(session)
        if not live.audience.is_present(session.actor.account):
            if live.room.state.in_one_to_one(session.actor.account) and session.actor.account != live.room.state.owner:
                await live.room.command(session.actor, c.EndOneToOne())
            live.room.notice(Gone(session.actor.account))
        return v.Done(live.room.state.epoch)

    async def watch_directory(self, session: Session) -> None:
        """Send the directory, and from now on its changes."""
        session.sight = await self._judging.sight_of(session.actor.account)
        self._directory.watch(session, Now.read(self._clock))

    def unwatch_directory(self, session: Session) -> None:
        """No more of that."""
        self._directory.unwatch(session)

    # -- who may come in -----------------------------------------------------------------------------------------------

    def stream_of(self, owner: AccountId) -> StreamId | None:
        """Return the stream that an account has on, if any."""
        live = self._registry.of(owner)
        return None if live is None else live.room.stream.id

    def owners(self) -> dict[StreamId, AccountId]:
        """Return the running streams and their streamers."""
        return {live.room.stream.id: live.room.state.owner for live in self._registry.all()}

    def state(self, stream: StreamId) -> RoomState | None:
        """Return the state of a running room."""
        live = self._registry.get(stream)
        return None if live is None else live.room.state

    async def wait_ended(self, stream: StreamId) -> None:
        """Return when a stream has ended, at once for one that does not run."""
        live = self._registry.get(stream)
        if live is not None:
            await live.room.ended.wait()

    def streams_with(self, account: AccountId) -> list[StreamId]:
        """Return the running streams in which an account is present, or which it owns."""
        here = [live.room.stream.id for live in self._registry.all() if account in live.room.state.present]
        own = self.stream_of(account)
        return here if own is None else [*here, own]

    def rehearse(self, stream: StreamId, actor: Actor, command: c.Command) -> None:
        """See whether a command would be refused, and do nothing; raises Refused."""
        step(self._registry.find(stream, actor).room.state, actor.account, command, self._clock.now_ns())

    async def take(self, stream: StreamId, fact: c.Fact) -> None:
        """Take a fact about who may come in; returns when it is done for the last packet. An ended room needs none."""
        live = self._registry.get(stream)
        if live is None:
            return
        try:
            await live.room.take(fact)
        except Refused as refusal:
            if refusal.code != "stream_ended":
                raise
        if isinstance(fact, c.Hidden):
            live.audience.drop(fact.account)

    async def see_anew(self, account: AccountId) -> None:
        """Show someone the directory anew who follows it and of whom something else is known now."""
        followers = [session for session in self.sessions.of(account) if session.watches_directory]
        if not followers and not self.moq_sessions.roaming(account):
            return
        sight = await self._gate.sight_of(account)
        self.moq_sessions.see(account, sight)
        for session in followers:
            session.sight = sight
            if session.watches_directory:
                self._directory.watch(session, Now.read(self._clock))

    def tell(self, account: AccountId, event: WireEvent) -> None:
        """Tell someone something, on all the account's sessions."""
        tell_all(self.sessions.of(account), Encoded(event))

    def show_now(self, account: AccountId, event: WireEvent, key: str) -> None:
        """Show someone what only matters now, on all the account's sessions; of one key the newest alone."""
        shown = Encoded(event)
        for session in self.sessions.of(account):
            session.show(shown, key)

    def tell_room(self, stream: StreamId, event: WireEvent, *, key: str | None = None) -> None:
        """Tell all who follow a running stream; with a key, a slow client may hear the newest of its kind alone."""
        live = self._registry.get(stream)
        sessions = () if live is None else live.audience.sessions()
        if key is None:
            tell_all(sessions, Encoded(event))
        else:
            show_newest(sessions, Encoded(event), key)

    def shown_s(self, stream: StreamId) -> int:
        """Return for how many seconds a running stream was on for ticket holders alone."""
        state = self.state(stream)
        return 0 if state is None else state.shown_by_ns(self._clock.now_ns()) // 1_000_000_000

    def show_tip(self, told: TipTold) -> None:
        """Show a tip to the two whom it concerns on all their sessions, and in its stream to who may see it."""
        assert told.sender is not None
        for account in (told.sender.id, told.to.id):
            self.tell(account, told)
        live = self._registry.get(told.stream)
        if live is not None:
            live.audience.show_tip(told, live.room.scene)

    def show_goal(self, owner: AccountId, told: GoalTold) -> None:
        """Show a goal to its owner, and to who may see it in the stream that the owner has on."""
        self.tell(owner, told)
        live = self._registry.of(owner)
        if live is not None and told.stream in (None, live.room.stream.id):
            live.audience.show_goal(told, live.room.scene)

    def close_sessions_of(self, account: AccountId, reason: str) -> None:
        """End all connections of an account."""
        for session in self.sessions.of(account):
            session.close(reason)

    # -- around each room ----------------------------------------------------------------------------------------------

    def make(self, stream: Stream, state: RoomState, chat: Chat) -> Live:
        """Make a room that does not run yet; raises NoCapacity."""
        audience = Audience(stream.id, self._clock, chat)
        room = Room(
            stream,
            state,
            media=self._media,
            archive=self._archive,
            listeners=audience,
            clock=self._clock,
            changed=self._mark,
            desk=self,
            arrived=self.moq_sessions.arrive,
            displaced=self._tell_device_limit,
        )
        return Live(room, audience, chat)

    def began(self, live: Live) -> None:
        """Show a room in the directory."""
        self._mark(live.room.stream.id)

    def ended(self, live: Live) -> None:
        """Show that a room is over, and no more of it."""
        try:
            self._directory.tell([live.room.scene], Now.read(self._clock))
        except Exception:
            log.exception("room_fault_untold", stream=live.room.stream.id)
        self._directory.remove(live.room.stream.number)

    # -- what goes on by itself ----------------------------------------------------------------------------------------

    def _tell_device_limit(self, stream: StreamId, account: AccountId, session: str | None) -> None:
        now = self._clock.wall_ms()
        self.tell(account, MediaTakenOver(server_now=now, stream=stream, session=session, reason=DEVICE_LIMIT))

    async def _show_changes(self) -> None:
        while True:
            await self._changed.woken.wait()
            streams, self._changed = self._changed.streams, _Changed()
            now = Now.read(self._clock)
            for live in [live for stream in streams if (live := self._registry.get(stream)) is not None]:
                try:
                    scene = live.room.scene
                    self._directory.put(scene)
                    live.audience.show_presence(scene)
                    self._directory.tell([scene], now)
                except Exception as fault:
                    live.room.break_down(fault)
            await trio.sleep(SHOWN_EVERY_S)

    async def _forget_lost_sessions(self) -> None:
        while True:
            await trio.sleep(1)
            for session in self.sessions.take_lost():
                self._directory.unwatch(session)
                for stream in sorted(session.joined):
                    live = self._registry.get(stream)
                    if live is None:
                        continue
                    live.audience.leave(session)
                    if not live.audience.is_present(session.actor.account):
                        live.room.notice(Gone(session.actor.account))

    def _mark(self, stream: StreamId) -> None:
        self._changed.streams.add(stream)
        self._changed.woken.set()

    # -- answers -------------------------------------------------------------------------------------------------------

    async def _answer(self, session: Session, request: Request) -> object:
        return await answer(self, session, request)

    def _answer_soon(self, session: Session, request: Request, done: Callable[[object], None]) -> bool:
        return answer_soon(self, session, request, done)

    async def _show_room(self, live: Live) -> v.RoomView:
        unknown = sorted(mentioned(live.room.state) - live.room.names.keys())
        if unknown:
            live.room.names.update(await self._archive.names(unknown))
        return room(live.room.scene, Now.read(self._clock))

    async def _say(self, live: Live, actor: Actor, command: c.Chat) -> v.ChatAccepted:
        state, now = live.room.state, Now.read(self._clock)
        in_private = state.in_one_to_one(actor.account)
        if not in_private and not state.hears(actor.account):
            reason, readmit = state.refusal(actor.account, now.ns)
            raise Refused(reason, readmit=readmit)
        accepted, message = live.chat.say(
            v.Person(actor.account, actor.name),
            "one_to_one" if in_private else "main",
            command.text,
            command.client_txn,
            now_ns=now.ns,
            wall_ms=now.wall_ms,
        )
        if message is not None:
            live.audience.say(message, live.room.scene)
            await live.room.archive_chat(message)
        return accepted

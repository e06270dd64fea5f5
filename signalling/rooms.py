"""The registry of rooms: opens, restores and ends them, each in a nursery of its own, and leads requests to them."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakSet

import msgspec
import structlog
import trio

from media.door import (
    AudienceChanged,
    BroadcastBegan,
    Disconnected,
    Media,
    NoCapacity,
    NoSource,
    Quality,
    RoomRow,
    TransportId,
)
from signalling import commands as c
from signalling import events as e
from signalling import views as v
from signalling.answering import answer
from signalling.audience import Audience
from signalling.broadcasts import SessionRights
from signalling.chat import Chat
from signalling.directory import ALL, Directory, Wanted
from signalling.gate import Ungated, Unlogged
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.messages import Encoded, Encoding
from signalling.policy import WAITING_NS, step
from signalling.ports import (
    Archive,
    ArchiveFailed,
    Clock,
    Desk,
    Feed,
    Gate,
    Messenger,
    NoDesk,
    NoMessenger,
    Outbox,
)
from signalling.refusals import Refused
from signalling.requests import Request, Resume
from signalling.room import DEVICE_LIMIT, Gone, Room
from signalling.session import Session
from signalling.sessions import Sessions
from signalling.showing import (
    Now,
    Scene,
    Stream,
    card,
    is_listed,
    mentioned,
    one_to_one_answer,
    record,
    restored,
    room,
    you,
)
from signalling.state import RoomState
from signalling.verdicts import Sight, Verdict, sees_all
from signalling.wire_events import GoalTold, MediaTakenOver, TipTold, WireEvent

REMEMBERED = 10_000  # ended streams of which one can still say that they ended
SHOWN_EVERY_S = 0.25  # how late the directory and the count of viewers may be; a storm of joins is one message
CHAT_SHOWN = 50  # messages brought back after a restart
SESSION_BYTES = 24  # of a media session's id: unguessable, since its address alone ends it for its owner

Judge = Callable[[StreamId, AccountId, AccountId], Awaitable[Verdict]]

log = structlog.get_logger("signalling")


@dataclass(slots=True)
class MediaSession:
    """A WHIP or WHEP session; `etag` is that of its ICE session."""

    session_id: str
    answer_sdp: str
    etag: str


@dataclass(slots=True)
class _Live:
    """A running room and who listens to it."""

    room: Room
    audience: Audience
    chat: Chat


@dataclass(slots=True)
class _Opening:
    """A stream on its way to be written down and to run."""

    live: _Live
    done: trio.Event = field(default_factory=trio.Event)
    refusal: Refused | None = None


@dataclass(slots=True)
class _MediaPlace:
    """Where a media session lives."""

    live: _Live
    transport: TransportId
    account: AccountId
    session: MediaSession


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
        self._live: dict[StreamId, _Live] = {}
        self._by_row: dict[RoomRow, _Live] = {}
        self._owners: dict[AccountId, StreamId] = {}
        self._ended: OrderedDict[StreamId, frozenset[AccountId]] = OrderedDict()  # from whom each was hidden
        self._places: dict[str, _MediaPlace] = {}
        self._by_transport: dict[TransportId, _MediaPlace] = {}
        self._directory = Directory(clock.wall_ms())
        self._changed = _Changed()
        self._sessions = Sessions(clock)
        self._arriving: set[tuple[StreamId, AccountId]] = set()
        self._roaming: WeakSet[SessionRights] = WeakSet()
        self._last_number = 0
        self._nursery: trio.Nursery | None = None
        self._desk: Desk = NoDesk()
        self.messenger: Messenger = NoMessenger()
        self.faults = 0  # rooms ended by an exception of ours

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Restore what was running, then keep rooms until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await self._restore()
            self._nursery.start_soon(self._pass_facts_on)
            self._nursery.start_soon(self._show_changes)
            self._nursery.start_soon(self._forget_lost_sessions)
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
            "rooms": len(self._live),
            "room_faults": self.faults,
            "rooms_unwritten": sum(live.room.is_unwritten for live in self._live.values()),
            "media_sessions": len(self._places),
            **self._sessions.counters(),
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
    ) -> v.StreamView:
        """Open a stream. Raises Refused (already_live, invalid_mode, not_stored) and NoCapacity."""
        if mode is Mode.ONE_TO_ONE:
            raise Refused("invalid_mode", "a one-to-one begins by accepting a viewer")
        await self._require_streamer(actor.account)
        if actor.account in self._owners:
            raise Refused("already_live", stream=self._owners[actor.account])
        now = Now.read(self._clock)
        number = self._last_number = max(self._last_number + 1, now.wall_ms)
        owner = v.Person(actor.account, actor.name)
        stream = Stream(
            StreamId(f"s_{secrets.token_hex(8)}"), number, owner, title.strip(), description.strip(), kind, now.wall_ms
        )
        until_ns = now.ns + WAITING_NS
        state = RoomState(actor.account, mode=mode, best_picture=best_picture, picture_until_ns=until_ns)
        opening = _Opening(self._prepare(stream, state, Chat(stream.id)))
        assert self._nursery is not None, "rooms live in `run`"
        self._owners[actor.account] = stream.id
        # In the registry's nursery: a caller that is cancelled leaves no stream that is written down and does not run.
        self._nursery.start_soon(self._write_and_host, opening)
        await opening.done.wait()
        if opening.refusal is not None:
            raise opening.refusal
        await self._gate.reconsider(stream.id, actor.account)
        return self.stream(stream.id, actor)

    def stream(self, stream_id: StreamId, viewer: Actor | None) -> v.StreamView:
        """Show a stream to someone."""
        scene, now = self._find(stream_id, viewer).room.scene, Now.read(self._clock)
        account = AccountId("") if viewer is None else viewer.account
        return v.StreamView(card(scene, now), you(scene.state, account, now), now.wall_ms)

    async def show(self, stream_id: StreamId, viewer: Actor) -> v.StreamView:
        """Show a stream to someone who may not have come in yet, with what the rules would say then."""
        live = self._find(stream_id, viewer)
        verdict = await self._judge(live, viewer, self._gate.appraise)
        live, now = self._find(stream_id, viewer), Now.read(self._clock)
        state = live.room.state
        if verdict is not None and viewer.account not in state.present:
            state = state.supposing(viewer.account, verdict)
        return v.StreamView(card(live.room.scene, now), you(state, viewer.account, now), now.wall_ms)

    async def browse(self, viewer: Actor, *, cursor: str | None, limit: int, wanted: Wanted = ALL) -> v.Page:
        """Show a part of the directory, without what the viewer is known to be kept out of by what it demands."""
        sight = await self._sight_of(viewer.account)
        return self.live(viewer, cursor=cursor, limit=limit, sight=sight, wanted=wanted)

    async def listed_of(self, owner: AccountId, viewer: Actor) -> v.Card | None:
        """Show the stream that an account has on as the directory lists it for the viewer, None where it does not."""
        sight = await self._sight_of(viewer.account)
        stream = self.stream_of(owner)
        if stream is None:
            return None
        scene = self._live[stream].room.scene
        return card(scene, Now.read(self._clock)) if is_listed(scene.state, viewer, sight) else None

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
            if (changed := self._live.get(stream)) is not None:
                self._directory.put(changed.room.scene)
        return self._directory.page(viewer, cursor, limit, Now.read(self._clock), sight, wanted)

    async def command(self, stream_id: StreamId, actor: Actor, command: c.Command | c.Chat | c.ShowRoom) -> v.Reply:
        """Do what someone asks of a room; returns when it is done for the last packet, too."""
        live = self._find(stream_id, actor)
        state = live.room.state
        verdict = await self._weigh(live, actor)
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
        return self._reply(live.room.scene, command, outcome.events, outcome.fenced_ns)

    # -- media sessions ------------------------------------------------------------------------------------------------

    async def publish(self, stream_id: StreamId, actor: Actor, offer_sdp: str) -> MediaSession:
        """Answer a WHIP offer. Raises Refused, MalformedSdp, OfferRejected and NoCapacity."""
        await trio.lowlevel.checkpoint()
        live = self._find(stream_id, actor)
        if actor.account == live.room.state.owner:
            await self._require_streamer(actor.account)
        called = live.room.state.called
        if called is not None and called.account == actor.account:
            await self.command(stream_id, actor, c.ConfirmOneToOne())  # whose camera is on has come
        negotiated = live.room.publish(actor, offer_sdp)
        return self._keep(live, actor, negotiated.transport, negotiated.answer_sdp, negotiated.etag)

    async def watch(self, stream_id: StreamId, actor: Actor, offer_sdp: str) -> MediaSession:
        """Answer a WHEP offer. Raises Refused, MalformedSdp, OfferRejected and NoCapacity."""
        await trio.lowlevel.checkpoint()
        live = self._find(stream_id, actor)
        verdict = await self._weigh(live, actor)
        try:
            negotiated = live.room.watch(actor, offer_sdp, verdict)
        except NoSource:
            raise Refused("no_publisher") from None
        return self._keep(live, actor, negotiated.transport, negotiated.answer_sdp, negotiated.etag)

    async def restart_ice(self, session_id: str, actor: Actor, if_match: str, sdpfrag: str) -> tuple[str, str] | None:
        """Take an ICE fragment: (new ETag, answer) for a restart, None for candidates, which this server needs none of.

        Raises Refused("precondition_failed") when `if_match` is neither "*" nor the session's ETag.
        """
        await trio.lowlevel.checkpoint()
        place = self._place(session_id, actor)
        if if_match not in ("*", place.session.etag):
            raise Refused("precondition_failed")
        try:
            is_restart = self._media.is_ice_restart(place.transport, sdpfrag)
        except KeyError:  # it ended this moment, and the news of it is still on its way
            raise Refused("session_unknown") from None
        if not is_restart:
            return None
        place.session.etag, fragment = place.live.room.restart_ice(place.transport, sdpfrag)
        return place.session.etag, fragment

    async def prefer(self, session_id: str, actor: Actor, quality: Quality) -> None:
        """Have a media session of the actor's get the picture that it wishes for; raises Refused("session_unknown")."""
        await trio.lowlevel.checkpoint()
        self._media.prefer(self._place(session_id, actor).transport, quality)

    async def close_session(self, session_id: str, actor: Actor) -> None:
        """End a media session of the actor's; raises Refused("session_unknown")."""
        await trio.lowlevel.checkpoint()
        place = self._place(session_id, actor)
        del self._places[session_id]
        self._media.close(place.transport, "closed_by_client")

    # -- MoQ sessions --------------------------------------------------------------------------------------------------

    def receives(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether an object of what `source` publishes in a stream may be written to someone this moment."""
        live = self._live.get(stream)
        return live is not None and live.room.receives(actor.account, source)

    def knows(self, actor: Actor, stream: StreamId) -> bool:
        """Whether it is known what someone may have of a stream; of one that is not there that is nothing."""
        live = self._live.get(stream)
        return live is None or live.room.knows(actor.account)

    def shows(self, actor: Actor, stream: StreamId, sight: Sight) -> bool:
        """Whether someone finds a stream who is not present in it."""
        live = self._live.get(stream)
        return live is not None and live.room.shows(actor.account, sight)

    def barred(self, actor: Actor, stream: StreamId) -> str | None:
        """Why someone can have nothing of a stream for good: it is not there for them, or they may nowhere watch."""
        try:
            state = self._find(stream, actor).room.state
        except Refused as refused:
            return refused.code
        if actor.account in state.ejected:
            return "ejected"
        return "suspended" if state.verdict(actor.account).denied == "suspended" else None

    async def roam(self, rights: SessionRights) -> None:
        """Announce to a session that came for no stream in particular what the directory would show. Raises Refused."""
        self._roaming.add(rights)
        rights.sight = await self._sight_of(rights.actor.account)
        self._media.review_session(rights)

    def may_publish(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether someone may publish in a stream this moment, as the streamer ("") or as the guest of a one-to-one."""
        live = self._live.get(stream)
        return live is not None and live.room.may_publish(actor.account, source)

    async def _take_in(self, live: _Live, began: BroadcastBegan) -> None:
        """Take in what is published over MoQ, as `publish` does."""
        rights = began.rights
        assert isinstance(rights, SessionRights), "sessions of a node have no other rights"
        actor = rights.actor
        try:
            if actor.account == live.room.state.owner:
                await self._require_streamer(actor.account)
            self._keep(live, actor, live.room.take_in(actor, began), "", "")
        except (Refused, NoCapacity, NoSource) as error:
            log.info("broadcast_refused", stream=live.room.stream.id, why=repr(error))
            self._media.turn_down(began)

    def _arrive(self, stream: StreamId, actor: Actor) -> None:
        key = stream, actor.account
        if key not in self._arriving and self._nursery is not None:
            self._arriving.add(key)
            self._nursery.start_soon(self._let_in, stream, actor)

    async def _let_in(self, stream: StreamId, actor: Actor) -> None:
        """Judge one who came over MoQ, as `watch` and `join` do."""
        live = self._live.get(stream)
        if live is not None:
            try:
                live.room.enter(actor, await self._weigh(live, actor))
            except Refused as refused:
                live.room.turn_away(actor.account, refused.code)
            live.room.notice(Gone(actor.account))  # who asked and went away meanwhile
        self._arriving.discard((stream, actor.account))

    # -- signalling sessions -------------------------------------------------------------------------------------------

    def attach(self, actor: Actor, encoding: Encoding, outbox: Outbox, resume: Resume | None) -> Session:
        """Begin a signalling session over a connection, or go on with one; `welcome` is the first thing it says.

        Raises Refused("too_many_sessions").
        """
        former = self._sessions.find(actor, resume)
        if former is None or resume is None:
            session = self._sessions.open(actor, encoding, self._answer)
            session.attach(outbox, encoding, None)
            return session
        former.attach(outbox, encoding, resume.after)
        for stream in sorted(former.joined):
            if (live := self._live.get(stream)) is not None:
                live.audience.show_all(former, live.room.scene)
        if former.watches_directory:
            self._directory.watch(former, Now.read(self._clock))
        return former

    async def join(self, session: Session, stream_id: StreamId) -> v.Done:
        """Let a session follow a stream; its state is the first event."""
        await trio.lowlevel.checkpoint()
        live = self._find(stream_id, session.actor)
        live.room.enter(session.actor, await self._weigh(live, session.actor))
        live.audience.join(session, live.room.scene)
        return v.Done(live.room.state.epoch)

    async def leave(self, session: Session, stream_id: StreamId) -> v.Done:
        """No longer. The guest of a one-to-one ends it by leaving."""
        live = self._find(stream_id, session.actor)
        live.audience.leave(session)
        if not live.audience.is_present(session.actor.account):
            if live.room.state.in_one_to_one(session.actor.account) and session.actor.account != live.room.state.owner:
                await live.room.command(session.actor, c.EndOneToOne())
            live.room.notice(Gone(session.actor.account))
        return v.Done(live.room.state.epoch)

    async def watch_directory(self, session: Session) -> None:
        """Send the directory, and from now on its changes."""
        session.sight = await self._sight_of(session.actor.account)
        self._directory.watch(session, Now.read(self._clock))

    def unwatch_directory(self, session: Session) -> None:
        """No more of that."""
        self._directory.unwatch(session)

    # -- who may come in -----------------------------------------------------------------------------------------------

    def stream_of(self, owner: AccountId) -> StreamId | None:
        """Return the stream that an account has on, if any."""
        stream = self._owners.get(owner)
        return stream if stream in self._live else None

    def owners(self) -> dict[StreamId, AccountId]:
        """Return the running streams and their streamers."""
        return {stream: live.room.state.owner for stream, live in self._live.items()}

    def state(self, stream: StreamId) -> RoomState | None:
        """Return the state of a running room."""
        live = self._live.get(stream)
        return None if live is None else live.room.state

    def streams_with(self, account: AccountId) -> list[StreamId]:
        """Return the running streams in which an account is present, or which it owns."""
        here = [stream for stream, live in self._live.items() if account in live.room.state.present]
        own = self.stream_of(account)
        return here if own is None else [*here, own]

    def rehearse(self, stream: StreamId, actor: Actor, command: c.Command) -> None:
        """See whether a command would be refused, and do nothing; raises Refused."""
        step(self._find(stream, actor).room.state, actor.account, command, self._clock.now_ns())

    async def take(self, stream: StreamId, fact: c.Fact) -> None:
        """Take a fact about who may come in; returns when it is done for the last packet. An ended room needs none."""
        live = self._live.get(stream)
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
        followers = [session for session in self._sessions.of(account) if session.watches_directory]
        roaming = [rights for rights in self._roaming if rights.actor.account == account]
        if not followers and not roaming:
            return
        sight = await self._gate.sight_of(account)
        for rights in roaming:
            rights.sight = sight
            self._media.review_session(rights)
        for session in followers:
            session.sight = sight
            if session.watches_directory:
                self._directory.watch(session, Now.read(self._clock))

    def tell(self, account: AccountId, event: WireEvent) -> None:
        """Tell someone something, on all the account's sessions."""
        told = Encoded(event)
        for session in self._sessions.of(account):
            session.tell(told)

    def show_now(self, account: AccountId, event: WireEvent, key: str) -> None:
        """Show someone what only matters now, on all the account's sessions; of one key the newest alone."""
        shown = Encoded(event)
        for session in self._sessions.of(account):
            session.show(shown, key)

    def is_here(self, account: AccountId) -> bool:
        """Whether an account has a signalling connection."""
        return any(session.lost_at_ns is None for session in self._sessions.of(account))

    def tell_room(self, stream: StreamId, event: WireEvent, *, key: str | None = None) -> None:
        """Tell all who follow a running stream; with a key, a slow client may hear the newest of its kind alone."""
        live = self._live.get(stream)
        told = Encoded(event)
        for session in () if live is None else live.audience.sessions():
            if key is None:
                session.tell(told)
            else:
                session.show(told, key)

    def shown_s(self, stream: StreamId) -> int:
        """Return for how many seconds a running stream was on for ticket holders alone."""
        state = self.state(stream)
        return 0 if state is None else state.shown_by_ns(self._clock.now_ns()) // 1_000_000_000

    def show_tip(self, told: TipTold) -> None:
        """Show a tip to the two whom it concerns on all their sessions, and in its stream to who may see it."""
        assert told.sender is not None
        for account in (told.sender.id, told.to.id):
            self.tell(account, told)
        live = None if told.stream is None else self._live.get(told.stream)
        if live is not None:
            live.audience.show_tip(told, live.room.scene)

    def show_goal(self, owner: AccountId, told: GoalTold) -> None:
        """Show a goal to its owner, and to who may see it in the stream that the owner has on."""
        self.tell(owner, told)
        stream = self.stream_of(owner)
        if stream is not None and told.stream in (None, stream):
            self._live[stream].audience.show_goal(told, self._live[stream].room.scene)

    def close_sessions_of(self, account: AccountId, reason: str) -> None:
        """End all connections of an account."""
        for session in self._sessions.of(account):
            session.close(reason)

    async def _weigh(self, live: _Live, actor: Actor) -> Verdict | None:
        """Return what the rules say of one who wants to come in."""
        return await self._judge(live, actor, self._gate.weigh)

    async def _judge(self, live: _Live, actor: Actor, by: Judge) -> Verdict | None:
        """Return what the rules say of one who is not present; what they say of those present, the room knows.

        Raises Refused for whom no proof could help; who lacks one may be present and wait.
        """
        state = live.room.state
        if actor.admin or actor.account == state.owner or actor.account in state.present:
            await trio.lowlevel.checkpoint()
            return None
        try:
            verdict = await by(live.room.stream.id, state.owner, actor.account)
        except ArchiveFailed as failure:
            raise Refused("access_unavailable") from failure
        if verdict.denied in ("suspended", "stream_unknown"):
            raise Refused(verdict.denied)
        return verdict

    async def _sight_of(self, account: AccountId) -> Sight:
        try:
            return await self._gate.sight_of(account)
        except ArchiveFailed as failure:
            raise Refused("access_unavailable") from failure

    async def _require_streamer(self, account: AccountId) -> None:
        try:
            verdict = await self._gate.weigh_streamer(account)
        except ArchiveFailed as failure:
            raise Refused("access_unavailable") from failure
        if verdict.denied is not None:
            raise Refused(verdict.denied, "", **verdict.help)

    # -- a room's life -------------------------------------------------------------------------------------------------

    async def _restore(self) -> None:
        now = Now.read(self._clock)
        everything = sorted(await self._archive.load(), key=lambda written: written.number)
        newest = {written.owner: written.id for written in everything}
        for written in everything:
            self._last_number = max(self._last_number, written.number)
            if newest[written.owner] != written.id:  # its end could not be written down
                await self._archive.save_stream(msgspec.structs.replace(written, ended="superseded"))
                continue
            stream, state = restored(written, now, now.ns + WAITING_NS)
            chat = Chat(stream.id, await self._archive.recent_chat(stream.id, CHAT_SHOWN))
            try:
                live = self._prepare(stream, state, chat)
            except NoCapacity:
                log.error("no_room_for_stream", stream=stream.id)  # it stays in the archive, for a node with more
                continue
            self._owners[stream.owner.id] = stream.id
            await self._start(live)

    def _prepare(self, stream: Stream, state: RoomState, chat: Chat) -> _Live:
        audience = Audience(stream.id, self._clock, chat)
        opened = Room(
            stream,
            state,
            media=self._media,
            archive=self._archive,
            listeners=audience,
            clock=self._clock,
            changed=self._mark,
            desk=self,
            arrived=self._arrive,
            displaced=self._tell_device_limit,
        )
        return _Live(opened, audience, chat)

    async def _write_and_host(self, opening: _Opening) -> None:
        room, owner = opening.live.room, opening.live.room.stream.owner.id
        try:
            await self._archive.save_stream(record(room.stream, room.state, Now.read(self._clock)))
            await self._start(opening.live)
        except Exception as fault:
            if not isinstance(fault, ArchiveFailed):
                log.exception("stream_not_opened", stream=room.stream.id)
            opening.refusal = Refused("not_stored")
            self._owners.pop(owner, None)
            room.shut()
        finally:
            opening.done.set()

    async def _start(self, live: _Live) -> None:
        assert self._nursery is not None, "rooms live in `run`"
        demands = await self._gate.demands_of(live.room.stream.id)  # nobody can change them before the room runs
        # No checkpoint from the answer to the entry into `_live`: a block that comes later finds the room.
        live.room.restrict(await self._gate.hidden_from(live.room.stream.owner.id), demands)
        self._live[live.room.stream.id] = self._by_row[live.room.row] = live
        self._mark(live.room.stream.id)
        await self._nursery.start(self._host, live)

    async def _host(  # noqa: ASYNC128  (the room itself reports that it has started)
        self, live: _Live, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await live.room.run(task_status=task_status)
        except Exception:
            self.faults += 1
            log.exception("room_fault", stream=live.room.stream.id)
            live.room.fail()
            await self._bury(live)
        finally:
            self._close(live)

    async def _bury(self, live: _Live) -> None:
        """Say that a room is over that died of a fault, which may strike again while it is said."""
        try:
            live.audience.tell([e.StreamEnded("internal_error")], live.room.scene)
        except Exception:
            log.exception("room_fault_untold", stream=live.room.stream.id)
            for session in live.audience.sessions():
                session.close("internal_error")  # who comes back finds the stream ended
        self._desk.hear(live.room.stream.id, [e.StreamEnded("internal_error")])
        try:
            await self._archive.save_stream(record(live.room.stream, live.room.state, Now.read(self._clock)))
        except Exception:
            log.exception("room_end_unwritten", stream=live.room.stream.id)

    def _close(self, live: _Live) -> None:
        stream = live.room.stream
        self._live.pop(stream.id, None)
        if self._by_row.get(live.room.row) is live:
            del self._by_row[live.room.row]
        if self._owners.get(stream.owner.id) == stream.id:
            del self._owners[stream.owner.id]
        self._ended[stream.id] = live.room.state.hidden
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        for session in live.audience.sessions():
            live.audience.leave(session)
        try:
            self._directory.tell([live.room.scene], Now.read(self._clock))
        except Exception:
            log.exception("room_fault_untold", stream=stream.id)
        self._directory.remove(stream.number)

    # -- what goes on by itself ----------------------------------------------------------------------------------------

    async def _pass_facts_on(self) -> None:
        async for fact in self._media.events:
            if isinstance(fact, BroadcastBegan):
                if (live := self._by_row.get(fact.room)) is not None and self._nursery is not None:
                    self._nursery.start_soon(self._take_in, live, fact)
                continue
            if isinstance(fact, AudienceChanged):
                if (live := self._by_row.get(fact.room)) is not None:
                    live.room.notice(fact)
                continue
            place = self._by_transport.get(fact.transport)
            if place is not None:
                place.live.room.notice(fact)
            if place is not None and isinstance(fact, Disconnected):
                del self._by_transport[fact.transport]
                self._places.pop(place.session.session_id, None)
                if fact.reason == DEVICE_LIMIT:
                    self._tell_device_limit(place.live.room.stream.id, place.account, place.session.session_id)

    def _tell_device_limit(self, stream: StreamId, account: AccountId, session: str | None) -> None:
        now = self._clock.wall_ms()
        self.tell(account, MediaTakenOver(server_now=now, stream=stream, session=session, reason=DEVICE_LIMIT))

    async def _show_changes(self) -> None:
        while True:
            await self._changed.woken.wait()
            streams, self._changed = self._changed.streams, _Changed()
            now = Now.read(self._clock)
            changed = [self._live[stream] for stream in streams if stream in self._live]
            for live in changed:
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
            for session in self._sessions.take_lost():
                self._directory.unwatch(session)
                for stream in sorted(session.joined):
                    live = self._live.get(stream)
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

    async def _show_room(self, live: _Live) -> v.RoomView:
        unknown = sorted(mentioned(live.room.state) - live.room.names.keys())
        if unknown:
            live.room.names.update(await self._archive.names(unknown))
        return room(live.room.scene, Now.read(self._clock))

    async def _say(self, live: _Live, actor: Actor, command: c.Chat) -> v.ChatAccepted:
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

    def _reply(self, scene: Scene, command: c.Command, events: list[e.Event], fenced_ns: int) -> v.Reply:
        now = Now.read(self._clock)
        for event in events:
            match event:
                case e.ModePrepared(mode, token, removed, stay, expires_ns, paying):
                    return v.Prepared(
                        mode,
                        _names(scene, removed),
                        len(removed),
                        _names(scene, stay),
                        len(stay),
                        token,
                        now.wall_of(expires_ns),
                        _names(scene, paying),
                        len(paying),
                        scene.state.offer,
                    )
                case e.ModeAnnounced(mode, at_ns) | e.AlreadyAnnounced(mode, at_ns):
                    return v.ModeChanged(mode, scene.state.epoch, (), 0, fenced_ns, now.wall_of(at_ns))
                case e.ModeSwitched(mode, epoch, removed) | e.AlreadySwitched(mode, epoch, removed) if isinstance(
                    command, c.ConfirmMode
                ):
                    return v.ModeChanged(mode, epoch, _names(scene, removed), len(removed), fenced_ns)
                case e.TimeLimitSet(until_ns):
                    return v.TimeLimitChanged(None if until_ns is None else now.wall_of(until_ns))
        if isinstance(command, c.AcceptOneToOne | c.ConfirmOneToOne):
            return one_to_one_answer(scene.state, now)
        return v.Done(scene.state.epoch)

    # -- look-ups ------------------------------------------------------------------------------------------------------

    def _find(self, stream_id: StreamId, viewer: Actor | None) -> _Live:
        """Return a running stream; to those from whom it is hidden it is one that never was."""
        live = self._live.get(stream_id)
        hidden = self._ended.get(stream_id, frozenset()) if live is None else live.room.state.hidden
        if viewer is not None and viewer.account in hidden and not viewer.admin:
            raise Refused("stream_unknown")
        if live is not None:
            return live
        raise Refused("stream_ended" if stream_id in self._ended else "stream_unknown")

    def _keep(self, live: _Live, actor: Actor, transport: TransportId, answer_sdp: str, etag: str) -> MediaSession:
        session = MediaSession(secrets.token_urlsafe(SESSION_BYTES), answer_sdp, etag)
        place = _MediaPlace(live, transport, actor.account, session)
        self._places[session.session_id] = self._by_transport[transport] = place
        return session

    def _place(self, session_id: str, actor: Actor) -> _MediaPlace:
        place = self._places.get(session_id)
        if place is None or not (actor.admin or place.account == actor.account):
            raise Refused("session_unknown")
        return place


def _names(scene: Scene, accounts: tuple[AccountId, ...]) -> tuple[str, ...]:
    return tuple(scene.person(account).name for account in accounts[: v.MAX_NAMES])

"""A crowd that does anything at any moment, chosen by a seed; and what must hold whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from random import Random

import trio
from trio.testing import wait_all_tasks_blocked

from media.door import NoCapacity
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.policy import commands as c
from signalling.policy.showing import Now, restored
from signalling.policy.state import RoomState
from signalling.policy.step import step
from signalling.ports import StreamRecord
from signalling.refusals import Refused
from signalling.rooms.registry import Live
from signalling.rooms.room import Room
from signalling.sessions.media_sessions import MediaSession
from signalling.wire import views as v
from tests.signalling.worlds import Client, World, actor

OWNERS = [actor("olga"), actor("otto")]
PEOPLE = [actor(name) for name in ("ann", "bob", "cat", "dan", "eve")]
EVERYBODY = [*OWNERS, *PEOPLE]
SHUTTING = (c.SetBestPicture, c.Eject, c.RevokeTicket, c.Disentitle, c.EndStream, c.ConfirmMode)


class Crowd:
    """Seven people in two streams; `act` lets one of them do something, `check` says what is wrong."""

    def __init__(self, world: World, random: Random, nursery: trio.Nursery) -> None:
        self.world, self.random, self._nursery = world, random, nursery
        self.streams: dict[StreamId, Actor] = {}
        self.clients: dict[AccountId, Client] = {}
        self.sessions: list[tuple[StreamId, Actor, MediaSession]] = []
        self.epochs: dict[StreamId, int] = {}
        self.tokens: dict[StreamId, list[str]] = {}
        self.under_way: dict[int, tuple[StreamId, Actor, c.Command]] = {}
        self.ended: set[StreamId] = set()
        self.done: dict[str, int] = {}
        self._numbers = self._busy = 0
        self._idle = trio.Event()

    # -- what people do ------------------------------------------------------------------------------------------------

    async def act(self) -> None:
        """Let somebody do something; the answer may come whenever it likes."""
        deed = self.random.choice(
            [
                *[self._command] * 6,
                self._switch,
                *[self._call] * 2,
                *[self._watch] * 8,
                *[self._publish] * 4,
                *[self._join] * 3,
                self._leave,
                self._lose_signalling,
                self._lose_media,
                self._restart_ice,
                self._close_session,
                self._say,
                self._send,
                self._create,
            ]
        )
        self._busy += 1
        if not self.running:
            await self._try(self._create)
            return
        self._nursery.start_soon(self._try, deed)
        if self.random.random() < 0.06:
            await trio.sleep(self.random.choice([0.001, 0.5, 0.5, 5, 30, 200]))
        elif self.random.random() < 0.6:
            await wait_all_tasks_blocked()

    async def _try(self, deed: Callable[[], object]) -> None:
        try:
            result = deed()
            if hasattr(result, "__await__"):
                await result
            self._count(deed.__name__)
        except Refused as refused:
            if refused.code == "internal_error":
                raise
            self._count(refused.code)
        except NoCapacity:
            self._count("no_capacity")
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
                self._idle = trio.Event()

    def _count(self, name: str) -> None:
        self.done[name] = self.done.get(name, 0) + 1

    def _stream(self) -> StreamId:
        """Choose a stream, most often one that is on."""
        known = list(self.running if self.random.random() < 0.95 else self.streams)
        known = [stream for stream in known if stream in self.streams]
        if not known:
            raise Refused("stream_unknown")
        return self.random.choice(known)

    async def _create(self) -> None:
        owner = self.random.choice(OWNERS)
        stream = await self.world.create(owner, self.random.choice([Mode.PUBLIC, Mode.PRIVATE, Mode.PAID]))
        self.streams[stream] = owner

    async def _command(self) -> None:
        stream = self._stream()
        owner, someone = self.streams[stream], self.random.choice(PEOPLE)
        commands: list[tuple[Actor, c.Command]] = [
            (owner, c.PrepareMode(self.random.choice(list(Mode)), f"token {self._next()}")),
            (owner, c.ConfirmMode(self._token(stream), allow_empty=self.random.random() < 0.8)),
            (owner, c.ConfirmMode(self._token(stream), allow_empty=True)),
            (owner, c.SetBestPicture(self.random.choice(["everyone", "entitled"]))),
            (owner, c.SetTimeLimit(self.random.choice([None, None, 60, 400, 4000, 5]))),
            (owner, c.GrantTicket(someone.account)),
            (owner, c.RevokeTicket(someone.account)),
            (owner, c.Entitle(someone.account)),
            (owner, c.Disentitle(someone.account)),
            (owner, c.Eject(someone.account)),
            (owner, c.Readmit(someone.account)),
            (owner, c.Readmit(someone.account)),
            (someone, c.RequestOneToOne(self.random.choice([None, 300, 299]))),
            (someone, c.RequestOneToOne()),
            (someone, c.CancelOneToOne()),
            (owner, c.DeclineOneToOne(someone.account)),
            (owner, c.AcceptOneToOne(someone.account, self.random.choice([300, 1800, 1801]))),
            (owner, c.AcceptOneToOne(someone.account, 300)),
            (self.random.choice([owner, someone]), c.EndOneToOne()),
            (someone, c.Eject(owner.account)),
        ]
        if self.random.random() < 0.02:
            commands = [(owner, c.EndStream())]
        await self._order(stream, *self.random.choice(commands))

    async def _switch(self) -> None:
        stream, token = self._stream(), f"token {self._next()}"
        mode = self.random.choice([Mode.PUBLIC, Mode.PUBLIC, Mode.PRIVATE, Mode.PAID])
        await self._order(stream, self.streams[stream], c.PrepareMode(mode, token))
        await self._order(stream, self.streams[stream], c.ConfirmMode(token, allow_empty=True))

    async def _call(self) -> None:
        stream = self._stream()
        present = sorted(self.world.room(stream).state.present) if stream in self.running else []
        guest = actor(self.random.choice(present)) if present else PEOPLE[0]
        await self._order(stream, guest, c.RequestOneToOne())
        await self._order(stream, self.streams[stream], c.AcceptOneToOne(guest.account, 300))

    async def _order(self, stream: StreamId, who: Actor, command: c.Command) -> None:
        number = self._next()
        if isinstance(command, c.PrepareMode):
            self.tokens.setdefault(stream, []).append(command.token)
        self.under_way[number] = (stream, who, command)
        try:
            answer = await self.world.rooms.command(stream, who, command)
        finally:
            del self.under_way[number]
        self._count(type(command).__name__)
        if isinstance(answer, v.ModeChanged):
            self._check_after_confirmation(stream, answer)

    def _token(self, stream: StreamId) -> str:
        known = self.tokens.get(stream, [])
        return self.random.choice(known[-3:]) if known else "none"

    async def _watch(self) -> None:
        stream, who = self._stream(), self.random.choice(EVERYBODY)
        session = await self.world.rooms.media_sessions.watch(stream, who, "offer")
        transport = self._place(stream, who, session)
        if transport and self.random.random() < 0.9:
            self.world.media.connect(transport)

    async def _publish(self) -> None:
        stream = self._stream()
        called = self.running[stream].room.state.one_to_one if stream in self.running else None
        guest = [actor(called.guest)] * 3 if called is not None else []
        who = self.random.choice([*[self.streams[stream]] * 4, *guest, self.random.choice(PEOPLE)])
        session = await self.world.rooms.media_sessions.publish(stream, who, "offer")
        transport = self._place(stream, who, session)
        if transport and self.random.random() < 0.9:
            self.world.media.connect(transport)
            await trio.sleep(self.random.choice([0, 0.1, 3]))
            if transport in self.world.media.transports:
                self.world.media.flow(transport)

    def _place(self, stream: StreamId, who: Actor, session: MediaSession) -> int | None:
        self.sessions.append((stream, who, session))
        place = self.world.rooms.media_sessions._places.get(session.session_id)
        if place is not None:
            self.world.transports[session.session_id] = place.transport
        return None if place is None else place.transport

    async def _join(self) -> None:
        who = self.random.choice(EVERYBODY)
        client = self.clients.get(who.account)
        if client is None:
            client = self.clients[who.account] = Client(self.world.rooms, who)
        elif not client.connected:
            client.connect()
        assert client.session is not None
        await self.world.rooms.join(client.session, self._stream())

    async def _leave(self) -> None:
        client = self._client()
        assert client.session is not None
        stream = self._stream()
        if stream in client.session.joined:
            await self.world.rooms.leave(client.session, stream)

    def _lose_signalling(self) -> None:
        self._client().lose()

    def _client(self) -> Client:
        connected = [client for _, client in sorted(self.clients.items()) if client.connected]
        if not connected:
            raise Refused("not_present")
        return self.random.choice(connected)

    def _lose_media(self) -> None:
        if self.world.media.transports:
            self.world.media.close(self.random.choice(sorted(self.world.media.transports)), "consent_expired")

    async def _restart_ice(self) -> None:
        if self.sessions:
            _, who, session = self.random.choice(self.sessions)
            await self.world.rooms.media_sessions.restart_ice(session.session_id, who, "*", "restart")

    async def _close_session(self) -> None:
        if self.sessions:
            _, who, session = self.random.choice(self.sessions)
            await self.world.rooms.media_sessions.close_session(session.session_id, who)

    async def _say(self) -> None:
        await self.world.rooms.command(
            self._stream(), self.random.choice(EVERYBODY), c.Chat("hello", str(self._next()))
        )

    def _send(self) -> None:
        self.world.send_all()

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    @property
    def running(self) -> dict[StreamId, Live]:
        return self.world.rooms._registry._running

    # -- what must hold ------------------------------------------------------------------------------------------------

    def rooms(self) -> list[tuple[StreamId, Room]]:
        return [(stream, live.room) for stream, live in sorted(self.running.items())]

    def check(self) -> None:
        """Check what holds at every moment, also in the middle of changes."""
        now_ns = self.world.now_ns
        for stream, room in self.rooms():
            assert room.state.epoch >= self.epochs.get(stream, 0), "the epoch fell"
            self.epochs[stream] = room.state.epoch
            self._check_admission(room, now_ns)
            self._check_one_to_one(room.state, now_ns)

    def _check_admission(self, room: Room, now_ns: int) -> None:
        for member in room.members:
            transport = member.transport
            if transport not in self.world.media.transports:
                continue  # it ended this moment
            if not member.publishes:
                policy = room.state.admits(member.account, now_ns)
                assert self.world.media.admits(transport, now_ns) == policy, f"{member.account} is not as decided"
                best = room.state.gives_best(member.account, now_ns)
                assert self.world.media.gives_best(transport, now_ns) == best, f"{member.account} has another picture"
            elif member.account != room.state.owner:
                row = self.world.media.transports[transport].row
                until_ns = self.world.media._tables.transports["publish_until"][row]
                session = room.state.one_to_one
                right = session.until_ns if session is not None and session.guest == member.account else 0
                assert until_ns == right, f"{member.account} may publish until {until_ns}, not {right}"

    def _check_one_to_one(self, state: RoomState, now_ns: int) -> None:
        session = state.one_to_one
        admitted = {person.account for person in PEOPLE if state.admits(person.account, now_ns)}
        if session is None:
            # After a restart a room may still be as shut as for the call that was lost.
            assert state.mode is not Mode.ONE_TO_ONE or not admitted
            return
        assert state.mode is Mode.ONE_TO_ONE
        assert admitted <= {session.guest}, "a third party is in the one-to-one"
        assert 0 <= session.pause_left_ns <= 60 * 10**9
        running_ns = 0 if session.running_since_ns is None else session.until_ns - session.running_since_ns
        assert session.delivered_ns + max(running_ns, session.left_ns) <= 1800 * 10**9

    async def check_at_rest(self) -> None:
        """Check what holds when nothing is under way."""
        while self._busy:
            await self._idle.wait()
        await trio.sleep(1)
        for _, room in self.rooms():
            async with room._turn:
                pass
        await wait_all_tasks_blocked()
        self.check()
        for stream, room in self.rooms():
            if room.state.ended is None:
                self._check_presence(room)
                self._check_what_was_told(stream, room)
        live = {room._row for _, room in self.rooms() if room.state.ended is None}
        assert self.world.media.open_rooms == live, "rows of ended rooms are not free"

    def _check_presence(self, room: Room) -> None:
        watching = {member.account for member in room.members if not member.publishes} - {room.state.owner}
        assert watching <= room.state.present, "somebody watches who is not present"
        for member in room.members:
            may = room.state.admits(member.account, self.world.now_ns)
            assert member.publishes or may or room._may_wait(member.account), "a cut transport is still open"
            assert member.transport in self.world.media.transports, "a room remembers a transport that is gone"

    def _check_what_was_told(self, stream: StreamId, room: Room) -> None:
        """Follow what each client was told: it must know where it stands, and be told every change once."""
        for account, client in sorted(self.clients.items()):
            told = [event for event in client.heard if event.get("stream") == stream]
            if not client.connected or client.session is None or stream not in client.session.joined:
                continue
            if account == room.state.owner:
                continue
            admitted: bool | None = None
            has_best = False
            reason: str | None = None
            epoch = 0
            for event in told:
                if event["type"].startswith(("access.", "stream.best_picture")) and event["epoch"] <= epoch:
                    continue  # the state that was shown on joining knew it already
                match event["type"]:
                    case "stream.state":
                        epoch = event["card"]["epoch"]
                        admitted, reason = event["you"]["admitted"], event["you"]["reason"]
                        has_best = event["you"]["best_picture"]
                    case "stream.best_picture":
                        has_best = event["yours"]
                    case "access.granted":
                        assert admitted is not True, f"{account} was let in twice: {told}"
                        admitted, reason = True, None
                    case "access.revoked":
                        assert admitted is not False or reason != event["reason"], f"{account} was cut twice: {event}"
                        assert event["epoch"] <= room.state.epoch
                        admitted, reason = False, event["reason"]
            now_ns = self.world.now_ns
            assert admitted == room.state.admits(account, now_ns), f"{account} was told {admitted}, not so: {told}"
            if admitted:
                assert has_best == room.state.gives_best(account, now_ns), f"{account} has another picture than told"
            if not admitted:
                known = {room.state.refusal(account, now_ns)[0]} | ({"ticket_revoked"} & {reason})
                assert reason in known, f"{account} was told {reason}"

    def _check_after_confirmation(self, stream: StreamId, answer: v.ModeChanged) -> None:
        live = self.running.get(stream)
        if live is None or live.room.state.epoch != answer.epoch:
            return  # the room went on meanwhile
        before = {id(t): len(t.got) for t in self.world.media.transports.values()}
        self.world.send_all()
        for member in live.room.members:
            open_transport = self.world.media.transports.get(member.transport)
            if open_transport is not None and live.room.names[member.account] in answer.removed:
                assert len(open_transport.got) == before[id(open_transport)], f"{member.account} got one packet more"

    # -- a crash -------------------------------------------------------------------------------------------------------

    def admitted_now(self) -> dict[StreamId, set[AccountId]]:
        """Who may watch what, were the node to die this moment; who was to be let in by a change under way counts."""
        now_ns = self.world.now_ns
        allowed: dict[StreamId, set[AccountId]] = {}
        for stream, room in self.rooms():
            states = [room.state]
            for _, who, command in (deed for deed in self.under_way.values() if deed[0] == stream):
                with suppress(Refused):
                    states.append(step(room.state, who.account, command, now_ns)[0])
            allowed[stream] = {
                person.account for state in states for person in PEOPLE if state.admits(person.account, now_ns)
            }
        return allowed


def admitted_after(record: StreamRecord, now: Now) -> set[AccountId]:
    """Who may watch a stream that is restored from its record."""
    _, state = restored(record, now, now.ns + 10**12)
    state = replace(state, present=frozenset())
    return {person.account for person in PEOPLE if state.admits(person.account, now.ns)}

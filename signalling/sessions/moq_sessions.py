"""Tells MoQ sessions what of the rooms is theirs, lets in who comes that way, and takes in what is published so."""

from __future__ import annotations

from weakref import WeakSet

import structlog
import trio

from media.door import BroadcastBegan, Media, NoCapacity, NoSource
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy.verdicts import Sight
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.broadcasts import SessionRights
from signalling.rooms.judging import Judging
from signalling.rooms.registry import Live, Registry
from signalling.rooms.room import Gone
from signalling.sessions.media_sessions import MediaSessions

log = structlog.get_logger("signalling")


class MoqSessions:
    """The rooms as the rules of MoQ sessions (`broadcasts.RoomsRules`)."""

    def __init__(
        self, registry: Registry, media: Media, judging: Judging, media_sessions: MediaSessions, clock: Clock
    ) -> None:
        self._registry, self._media, self._judging, self._media_sessions = registry, media, judging, media_sessions
        self._clock = clock
        self._roaming: WeakSet[SessionRights] = WeakSet()
        self._arriving: set[tuple[StreamId, AccountId]] = set()
        self._nursery: trio.Nursery | None = None

    def live_in(self, nursery: trio.Nursery) -> None:
        """Judge in a nursery whoever comes from now on."""
        self._nursery = nursery

    def receives(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether an object of what `source` publishes in a stream may be written to someone this moment."""
        live = self._registry.get(stream)
        return live is not None and live.room.receives(actor.account, source)

    def receives_best(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether that is so of the best layer of its picture, too."""
        live = self._registry.get(stream)
        if live is None or not live.room.receives(actor.account, source):
            return False
        return live.room.state.gives_best(actor.account, self._clock.now_ns())

    def knows(self, actor: Actor, stream: StreamId) -> bool:
        """Whether it is known what someone may have of a stream; of one that is not there that is nothing."""
        live = self._registry.get(stream)
        return live is None or live.room.knows(actor.account)

    def shows(self, actor: Actor, stream: StreamId, sight: Sight) -> bool:
        """Whether someone finds a stream who is not present in it."""
        live = self._registry.get(stream)
        return live is not None and live.room.shows(actor.account, sight)

    def may_publish(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether someone may publish in a stream now, as the streamer (""), a host, or the guest of a one-to-one."""
        live = self._registry.get(stream)
        return live is not None and live.room.may_publish(actor.account, source)

    def barred(self, actor: Actor, stream: StreamId) -> str | None:
        """Why someone can have nothing of a stream for good: it is not there for them, or they may nowhere watch."""
        try:
            state = self._registry.find(stream, actor).room.state
        except Refused as refused:
            return refused.code
        if actor.account in state.ejected:
            return "ejected"
        return "suspended" if state.verdict(actor.account).denied == "suspended" else None

    async def roam(self, rights: SessionRights) -> None:
        """Announce to a session that came for no stream in particular what the directory would show. Raises Refused."""
        self._roaming.add(rights)
        self._see(rights, await self._judging.sight_of(rights.actor.account))

    def roaming(self, account: AccountId) -> list[SessionRights]:
        """Return an account's sessions that came for no stream in particular."""
        return [rights for rights in self._roaming if rights.actor.account == account]

    def see(self, account: AccountId, sight: Sight) -> None:
        """Announce and retract what an account finds now, and did not, or no longer."""
        for rights in self.roaming(account):
            self._see(rights, sight)

    def _see(self, rights: SessionRights, sight: Sight) -> None:
        rights.sight = sight
        self._media.review_session(rights)

    def begin(self, live: Live, began: BroadcastBegan) -> None:
        """Take in what was announced in a room."""
        if self._nursery is not None:
            self._nursery.start_soon(self._take_in, live, began)

    async def _take_in(self, live: Live, began: BroadcastBegan) -> None:
        """Take in what is published over MoQ, as `MediaSessions.publish` does."""
        rights = began.rights
        assert isinstance(rights, SessionRights), "sessions of a node have no other rights"
        actor = rights.actor
        try:
            if actor.account == live.room.state.owner:
                await self._judging.require_streamer(actor.account)
            self._media_sessions.keep(live.room, live.room.stream.id, actor, live.room.take_in(actor, began))
        except (Refused, NoCapacity, NoSource) as error:
            log.info("broadcast_refused", stream=live.room.stream.id, why=repr(error))
            self._media.turn_down(began)

    def arrive(self, stream: StreamId, actor: Actor) -> None:
        """Judge one who came to a room and is not present yet."""
        key = stream, actor.account
        if key not in self._arriving and self._nursery is not None:
            self._arriving.add(key)
            self._nursery.start_soon(self._let_in, stream, actor)

    async def _let_in(self, stream: StreamId, actor: Actor) -> None:
        """Judge one who came over MoQ, as `MediaSessions.watch` and `Rooms.join` do."""
        live = self._registry.get(stream)
        if live is not None:
            try:
                live.room.enter(actor, await self._judging.weigh(live.room, actor))
            except Refused as refused:
                live.room.turn_away(actor.account, refused.code)
            live.room.notice(Gone(actor.account))  # who asked and went away meanwhile
        self._arriving.discard((stream, actor.account))

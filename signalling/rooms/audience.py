"""Tells the people in one room what happened, each what concerns him, encoded once for all who hear the same."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from signalling.identifiers import AccountId, StreamId
from signalling.policy import events as e
from signalling.policy.showing import Now, Scene, card, hosts, starts_of, you
from signalling.ports import Clock
from signalling.rooms.chat import Chat
from signalling.sessions.fanning import show_newest, tell_all
from signalling.sessions.session import Session
from signalling.wire import events as w
from signalling.wire.descriptions import StreamUpdated
from signalling.wire.events import ChatMessage, WireEvent
from signalling.wire.hosts import HostsTold
from signalling.wire.messages import Encoded, Personal
from signalling.wire.tips import GoalTold, TipTold
from signalling.wire.views import MAX_NAMES

SECOND_NS = 1_000_000_000


class Audience:
    """The signalling sessions that follow one room and hear its chat."""

    def __init__(self, stream: StreamId, clock: Clock, chat: Chat) -> None:
        self._stream, self._clock, self._chat = stream, clock, chat
        self._sessions: dict[AccountId, set[Session]] = {}

    def is_present(self, account: AccountId) -> bool:
        """Whether an account follows the room."""
        return account in self._sessions

    def sessions(self) -> list[Session]:
        """Return all sessions that follow the room."""
        return [session for sessions in self._sessions.values() for session in sessions]

    def join(self, session: Session, scene: Scene) -> None:
        """Let a session follow the room, and show it everything."""
        self._sessions.setdefault(session.actor.account, set()).add(session)
        session.joined.add(self._stream)
        self.show_all(session, scene)

    def drop(self, account: AccountId) -> None:
        """Let none of an account's sessions follow the room any more."""
        for session in tuple(self._sessions.get(account, ())):
            self.leave(session)

    def leave(self, session: Session) -> None:
        """No longer."""
        session.joined.discard(self._stream)
        sessions = self._sessions.get(session.actor.account, set())
        sessions.discard(session)
        if not sessions:
            self._sessions.pop(session.actor.account, None)

    def show_all(self, session: Session, scene: Scene) -> None:
        """Send the state of the stream as this session's account sees it."""
        session.tell(Personal(self._state_for(session.actor.account, scene)))

    def show_presence(self, scene: Scene) -> None:
        """Send how many are watching; to the streamer also who."""
        now, count = self._clock.wall_ms(), len(scene.watching)
        for_all = Encoded(w.RoomPresence(server_now=now, stream=self._stream, viewers=count))
        names = tuple(scene.person(account).name for account in sorted(scene.watching)[:MAX_NAMES])
        for_owner = Encoded(w.RoomPresence(server_now=now, stream=self._stream, viewers=count, names=names))
        key, of_owner = f"presence {self._stream}", self._sessions.get(scene.state.owner, ())
        show_newest((session for session in self.sessions() if session not in of_owner), for_all, key)
        show_newest(of_owner, for_owner, key)

    def say(self, message: ChatMessage, scene: Scene) -> None:
        """Send a chat message to all who hear its circle."""
        said, state = Encoded(message), scene.state
        hears = state.hears if message.circle == "main" else state.in_one_to_one
        self._send([account for account in self._sessions if hears(account)], said)

    def show_tip(self, told: TipTold, scene: Scene) -> None:
        """Send a tip to all who may see it but the two, who are told wherever they are."""
        assert told.sender is not None
        sender, state = told.sender.id, scene.state
        hears = state.in_one_to_one if state.in_one_to_one(sender) else state.hears
        for_others = Encoded(
            msgspec.structs.replace(
                told,
                sender=None if told.anonymous else told.sender,
                message=told.message if hears(sender) else "",
            )
        )
        self._send(
            [account for account in self._sessions if account not in (sender, told.to.id) and hears(account)],
            for_others,
        )

    def show_goal(self, told: GoalTold, scene: Scene) -> None:
        """Send how far a goal is to all who hear the chat but the streamer, who is told wherever he is."""
        state = scene.state
        self._send([a for a in self._sessions if a != state.owner and state.hears(a)], Encoded(told))

    def tell(self, events: list[e.Event], scene: Scene) -> None:
        """Pass events of one moment on to whom they concern."""
        now = Now.read(self._clock)
        for event in events:
            if isinstance(event, e.OneToOneEnded):
                self._chat.forget_circle()
            for accounts, told in self._told(event, scene, now):
                self._send(accounts, Encoded(told))

    # -- who hears what ------------------------------------------------------------------------------------------------

    def _told(self, event: e.Event, scene: Scene, now: Now) -> Iterable[tuple[Iterable[AccountId], WireEvent]]:
        owner, everyone = [scene.state.owner], tuple(self._sessions)
        at, of = now.wall_ms, self._stream
        match event:
            case e.ModePrepared(mode=mode, expires_ns=expires_ns):
                yield owner, w.ModePrepared(server_now=at, stream=of, mode=mode, expires_at=now.wall_of(expires_ns))
            case e.ModeAnnounced(mode, at_ns):
                yield everyone, w.ModePending(server_now=at, stream=of, mode=mode, at=now.wall_of(at_ns))
            case e.ModeCalledOff(mode):
                yield everyone, w.ModeCalledOffTold(server_now=at, stream=of, mode=mode)
            case e.ModeSwitched(mode, epoch):
                yield everyone, w.ModeSwitchedTold(server_now=at, stream=of, mode=mode, epoch=epoch)
            case e.AccessGranted(account, epoch, via):
                yield [account], w.AccessGrantedTold(server_now=at, stream=of, epoch=epoch, via=via)
                yield [account], self._state_for(account, scene)
            case e.AccessRevoked(account, epoch, reason, readmit):
                offer = scene.state.offer if "ticket" in readmit else None
                revoked = w.AccessRevokedTold(
                    server_now=at, stream=of, reason=reason, epoch=epoch, readmit=readmit, offer=offer
                )
                yield [account], revoked
            case e.RulesChanged(version):
                yield everyone, w.AccessRulesChanged(server_now=at, stream=of, version=version)
            case e.HostsChanged():
                yield everyone, HostsTold(server_now=at, stream=of, hosts=hosts(scene.state))
            case e.BestPictureSet():
                for has in (True, False):
                    whose = [account for account in everyone if scene.state.gives_best(account, now.ns) is has]
                    yield whose, self._best_picture(scene, has, now)
            case e.BestPictureJudged(account, has):
                yield [account], self._best_picture(scene, has, now)
            case e.Described(title, description):
                yield everyone, StreamUpdated(server_now=at, stream=of, title=title, description=description)
            case e.TimeLimitSet(until_ns):
                ends_at = None if until_ns is None else now.wall_of(until_ns)
                yield everyone, w.TimeLimitTold(server_now=at, stream=of, ends_at=ends_at)
            case e.TimeWarning(remaining_s, until_ns, False):
                ends_at = now.wall_of(until_ns)
                yield everyone, w.StreamWarning(server_now=at, stream=of, ends_at=ends_at, remaining_s=remaining_s)
            case e.StreamStarted():
                yield everyone, w.StreamStarted(server_now=at, stream=of)
            case e.StreamInterrupted(until_ns):
                yield everyone, w.StreamInterrupted(server_now=at, stream=of, ends_at=now.wall_of(until_ns))
            case e.StreamResumed():
                yield everyone, w.StreamResumed(server_now=at, stream=of)
            case e.StreamEnded(reason):
                yield everyone, w.StreamEndedTold(server_now=at, stream=of, reason=reason)
            case _:
                yield from self._told_of_one_to_one(event, scene, now)

    def _told_of_one_to_one(
        self, event: e.Event, scene: Scene, now: Now
    ) -> Iterable[tuple[Iterable[AccountId], WireEvent]]:
        owner, at, of = scene.state.owner, now.wall_ms, self._stream
        match event:
            case e.OneToOneRequested(account, seconds):
                name = scene.person(account).name
                yield (
                    [owner],
                    w.OneToOneRequestedTold(server_now=at, stream=of, account=account, name=name, seconds=seconds),
                )
                yield from self._positions(scene, now)
            case e.OneToOneOffered(account, seconds, until_ns):
                name, until = scene.person(account).name, now.wall_of(until_ns)
                yield (
                    [owner, account],
                    w.OneToOneOfferedTold(
                        server_now=at, stream=of, account=account, name=name, seconds=seconds, confirm_by=until
                    ),
                )
                yield from self._positions(scene, now)
            case e.OneToOneWithdrawn(account, reason):
                yield [owner, account], self._withdrawn(account, reason, at)
                yield from self._positions(scene, now)
            case e.OneToOneAccepted(account, setup_until_ns):
                until = now.wall_of(setup_until_ns)
                yield (
                    [owner, account],
                    w.OneToOneAcceptedTold(server_now=at, stream=of, publish=True, setup_ends_at=until),
                )
                yield [account], w.MediaGrant(server_now=at, stream=of, until=until)
                yield self._others(owner, account), w.OneToOneNotice(server_now=at, stream=of, ends_at=None)
                yield from self._positions(scene, now)
            case e.OneToOneStarted(account, until_ns):
                until = now.wall_of(until_ns)
                yield [owner, account], w.OneToOneStartedTold(server_now=at, stream=of, ends_at=until)
                yield [account], w.MediaGrant(server_now=at, stream=of, until=until)
                yield self._others(owner, account), w.OneToOneNotice(server_now=at, stream=of, ends_at=until)
                yield from self._positions(scene, now)
            case e.OneToOnePaused(account, resume_by_ns):
                until = now.wall_of(resume_by_ns)
                yield [owner, account], w.OneToOnePausedTold(server_now=at, stream=of, resume_by=until)
                yield self._others(owner, account), w.OneToOneNotice(server_now=at, stream=of, ends_at=None)
            case e.ExtensionAsked(account, seconds):
                told = w.ExtensionAskedTold(server_now=at, stream=of, account=account, seconds=seconds)
                yield [owner, account], told
            case e.ExtensionEnded(account, seconds, reason):
                yield (
                    [owner, account],
                    w.ExtensionEndedTold(server_now=at, stream=of, account=account, seconds=seconds, reason=reason),
                )
            case e.OneToOneExtended(account, seconds, until_ns):
                ends_at = None if until_ns is None else now.wall_of(until_ns)
                yield (
                    [owner, account],
                    w.OneToOneExtendedTold(server_now=at, stream=of, seconds=seconds, ends_at=ends_at),
                )
                if ends_at is not None:
                    yield [account], w.MediaGrant(server_now=at, stream=of, until=ends_at)
                yield self._others(owner, account), w.OneToOneNotice(server_now=at, stream=of, ends_at=ends_at)
                yield from self._positions(scene, now)
            case e.TimeWarning(remaining_s, until_ns, True) if (session := scene.state.one_to_one) is not None:
                ends_at = now.wall_of(until_ns)
                yield (
                    [owner, session.guest],
                    w.OneToOneWarning(server_now=at, stream=of, ends_at=ends_at, remaining_s=remaining_s),
                )
            case e.OneToOneEnded(account, reason, delivered_ns):
                delivered_s = delivered_ns // SECOND_NS
                yield (
                    [owner, account],
                    w.OneToOneEndedTold(server_now=at, stream=of, reason=reason, delivered_s=delivered_s),
                )
                yield [account], w.MediaRevoked(server_now=at, stream=of, reason=reason)
                yield from self._positions(scene, now)

    def _best_picture(self, scene: Scene, has: bool, now: Now) -> WireEvent:
        state = scene.state
        return w.BestPictureTold(
            server_now=now.wall_ms,
            stream=self._stream,
            best_picture=state.best_picture,
            yours=has,
            epoch=state.epoch,
        )

    def _withdrawn(self, account: AccountId, reason: str, at: int) -> WireEvent:
        if reason == "declined":
            return w.OneToOneDeclined(server_now=at, stream=self._stream, account=account)
        return w.OneToOneCancelled(server_now=at, stream=self._stream, account=account, reason=reason)

    def _positions(self, scene: Scene, now: Now) -> Iterable[tuple[Iterable[AccountId], WireEvent]]:
        starts = starts_of(scene.state, now.ns)
        for position, (request, start_ns) in enumerate(starts, start=1):
            yield (
                [request.account],
                w.OneToOneQueued(
                    server_now=now.wall_ms,
                    stream=self._stream,
                    position=position,
                    waiting=len(starts),
                    estimated_start=now.wall_of(start_ns),
                ),
            )

    def _others(self, *two: AccountId) -> list[AccountId]:
        return [account for account in self._sessions if account not in two]

    def _state_for(self, account: AccountId, scene: Scene) -> w.StreamState:
        now = Now.read(self._clock)
        chat = self._chat.history if scene.state.hears(account) else ()
        return w.StreamState(
            server_now=now.wall_ms,
            stream=self._stream,
            card=card(scene, now),
            you=you(scene.state, account, now),
            chat=chat,
        )

    def _send(self, accounts: Iterable[AccountId], event: Encoded) -> None:
        tell_all((session for account in accounts for session in self._sessions.get(account, ())), event)

"""Shows a room's state as the views and records that leave it; pure, with the time given as `Now`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from media.forwarding.admission import Grant
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.policy.one_to_one import SECOND_NS
from signalling.policy.state import Announced, Request, RoomState
from signalling.policy.timing import warnings_ahead
from signalling.policy.verdicts import Sight
from signalling.ports import Clock, StreamRecord
from signalling.refusals import Refused
from signalling.wire.views import (
    MAX_NAMES,
    Card,
    Kind,
    OneToOneAnswer,
    OneToOneView,
    Participant,
    Person,
    Role,
    RoomView,
    StateWord,
    WaitingGuest,
    You,
)

LISTED = (Mode.PUBLIC, Mode.PAID)
USUAL_S = 600  # of a one-to-one whose length nobody has said


@dataclass(frozen=True, slots=True)
class Stream:
    """What never changes about a stream; `number` rises by one with each stream and orders the directory."""

    id: StreamId
    number: int
    owner: Person
    kind: Kind
    started_at: int


@dataclass(frozen=True, slots=True)
class Scene:
    """A room as it is to be shown: `watching` are the accounts with a viewer's transport, `names` what is known."""

    stream: Stream
    state: RoomState
    watching: frozenset[AccountId]
    names: Mapping[AccountId, str]

    def person(self, account: AccountId) -> Person:
        """Show an account."""
        return self.stream.owner if account == self.state.owner else Person(account, self.names.get(account, ""))


@dataclass(frozen=True, slots=True)
class Now:
    """One moment on both clocks: monotonic ns, by which rooms are judged, and epoch ms, which people read."""

    ns: int
    wall_ms: int

    @classmethod
    def read(cls, clock: Clock) -> Now:
        """Return this moment."""
        return cls(clock.now_ns(), clock.wall_ms())

    def wall_of(self, until_ns: int) -> int:
        """Return when a monotonic time is, in epoch ms."""
        return self.wall_ms + (until_ns - self.ns) // 1_000_000

    def monotonic_of(self, at_ms: int) -> int:
        """Return when an epoch time in ms is, in monotonic ns."""
        return self.ns + (at_ms - self.wall_ms) * 1_000_000


def starts_of(state: RoomState, now_ns: int) -> list[tuple[Request, int]]:
    """Return who waits for a one-to-one, in order, and when each would begin if all before took their whole time (ns).

    Nobody knows how long the streamer lets somebody wait, so it is the earliest for those of whom the length is known.
    """
    session, start_ns = state.one_to_one, now_ns
    if session is not None:
        start_ns = session.until_ns + (0 if session.running_since_ns is not None else session.left_ns)
    starts = []
    for waiting in state.requests:
        starts.append((waiting, start_ns))
        seconds = waiting.seconds if waiting.offered is None else waiting.offered.seconds
        start_ns += (USUAL_S if seconds is None else seconds) * SECOND_NS
    return starts


def confirm_by(request: Request, now: Now) -> int | None:
    """Return until when one who is offered a one-to-one must have come, in epoch ms; None for who waits still."""
    return None if request.offered is None else now.wall_of(request.offered.until_ns)


def one_to_one_answer(state: RoomState, now: Now) -> OneToOneAnswer:
    """Show what became of the request that was accepted, or confirmed, just now."""
    session, called = state.one_to_one, state.called
    if session is not None:
        setup_ends_at = None if session.is_timed else now.wall_of(session.until_ns)
        return OneToOneAnswer(session.guest, session.seconds, None, setup_ends_at)
    if called is None or called.offered is None:
        raise Refused("request_unknown")  # it went as fast as it came
    return OneToOneAnswer(called.account, called.offered.seconds, now.wall_of(called.offered.until_ns), None)


def card(scene: Scene, now: Now) -> Card:
    """Show a stream as the directory lists it."""
    stream, state = scene.stream, scene.state
    session = state.one_to_one
    running = session is not None and session.running_since_ns is not None
    return Card(
        id=stream.id,
        title=state.title,
        description=state.description,
        kind=stream.kind,
        mode=state.mode,
        state=_state_word(state),
        streamer=stream.owner,
        viewers=len(scene.watching),
        epoch=state.epoch,
        started_at=stream.started_at,
        ends_at=None if state.until_ns is None else now.wall_of(state.until_ns),
        one_to_one_ends_at=now.wall_of(session.until_ns) if session is not None and running else None,
        next_mode=None if state.announced is None else state.announced.mode,
        switches_at=None if state.announced is None else now.wall_of(state.announced.at_ns),
        offer=state.offer,
        best_picture=state.best_picture,
        hosts=hosts(state),
    )


def hosts(state: RoomState) -> tuple[Person, ...]:
    """Show who is live beside the streamer: in a one-to-one nobody."""
    return () if state.one_to_one is not None else tuple(Person(*each) for each in sorted(state.hosts.items()))


def _state_word(state: RoomState) -> StateWord:
    return "one_to_one" if state.mode is Mode.ONE_TO_ONE else state.picture


def is_listed(state: RoomState, viewer: Actor | None, sight: Sight) -> bool:
    """Whether the directory shows a stream to someone: what is on, to everyone it is for."""
    if state.ended is not None:
        return False
    if viewer is not None and (viewer.admin or viewer.account == state.owner):
        return True
    if state.picture == "waiting":
        return False
    if viewer is not None and (viewer.account in state.ejected or viewer.account in state.hidden):
        return False
    if not sight(state.demands):
        return False
    return state.usual_mode in LISTED or (viewer is not None and state.hears(viewer.account))


def you(state: RoomState, account: AccountId, now: Now) -> You:
    """Show what an account may do in a stream."""
    holding = state.holding(account)
    held = holding.holds if now.ns < holding.until_ns else holding.keeps
    grants = tuple(grant.name.lower() for grant in Grant if grant in held and grant.name)
    role: Role = "viewer"
    if account == state.owner:
        role = "streamer"
    elif state.in_one_to_one(account):
        role = "guest"
    if state.admits(account, now.ns):
        best_picture = state.gives_best(account, now.ns)
        return You(True, None, grants, role, best_picture=best_picture, extension_s=_extension_s(state, account))
    reason, readmit = state.refusal(account, now.ns)
    return You(False, reason, grants, role, readmit)


def _extension_s(state: RoomState, account: AccountId) -> int:
    session = state.one_to_one
    asked = None if session is None or not state.in_one_to_one(account) else session.extension
    return 0 if asked is None else asked.seconds


def room(scene: Scene, now: Now) -> RoomView:
    """Show a whole room."""
    state, session = scene.state, scene.state.one_to_one

    def people(accounts: frozenset[AccountId]) -> tuple[Person, ...]:
        return tuple(scene.person(account) for account in sorted(accounts)[:MAX_NAMES])

    pair = None
    if session is not None:
        running = session.running_since_ns is not None
        pair = OneToOneView(scene.person(session.guest), now.wall_of(session.until_ns) if running else None)
    return RoomView(
        card=card(scene, now),
        participants=tuple(
            Participant(person, state.admits(person.id, now.ns), person.id in scene.watching)
            for person in people(state.present)
        ),
        present=len(state.present),
        tickets=people(state.holders),
        entitled=people(state.entitled),
        ejected=people(state.ejected),
        requests=tuple(
            WaitingGuest(request.account, scene.person(request.account).name, request.seconds, confirm_by(request, now))
            for request in state.requests
        ),
        one_to_one=pair,
        server_now=now.wall_ms,
    )


def mentioned(state: RoomState) -> set[AccountId]:
    """Return the accounts that a view of the whole room names."""
    accounts = {*state.present, *state.holders, *state.entitled, *state.ejected, *state.hosts}
    accounts |= {request.account for request in state.requests}
    if state.one_to_one is not None:
        accounts.add(state.one_to_one.guest)
    return accounts


def record(stream: Stream, state: RoomState, now: Now) -> StreamRecord:
    """Show what of a room outlives a restart."""
    return StreamRecord(
        id=stream.id,
        number=stream.number,
        owner=stream.owner.id,
        owner_name=stream.owner.name,
        title=state.title,
        description=state.description,
        kind=stream.kind,
        mode=state.mode,
        former=None if state.one_to_one is None else state.one_to_one.former,
        epoch=state.epoch,
        tickets=tuple(sorted(state.tickets)),
        entitled=tuple(sorted(state.entitled)),
        ejected=tuple(sorted(state.ejected)),
        started_at=stream.started_at,
        ends_at=None if state.until_ns is None else now.wall_of(state.until_ns),
        ended=state.ended,
        shown_ms=state.shown_by_ns(now.ns) // 1_000_000,
        takeovers=state.takeovers,
        next_mode=None if state.announced is None else state.announced.mode,
        switches_at=None if state.announced is None else now.wall_of(state.announced.at_ns),
        best_picture=state.best_picture,
    )


def restored(record: StreamRecord, now: Now, waiting_until_ns: int) -> tuple[Stream, RoomState]:
    """Return the stream and state of a record, never wider than what was written down.

    A one-to-one does not outlive a restart, and its stream stays shut: its streamer may not know that the call is over.
    A switch that was announced comes at its time, or at once if that is over; but none to public, which is announced
    anew. The epoch rises, so that nothing issued before counts.
    """
    owner = Person(record.owner, record.owner_name)
    stream = Stream(record.id, record.number, owner, record.kind, record.started_at)
    until_ns = None if record.ends_at is None else now.monotonic_of(record.ends_at)
    mode, announced = record.mode, None
    if record.next_mode is not None and record.switches_at is not None and record.next_mode is not Mode.PUBLIC:
        if record.switches_at <= now.wall_ms:
            mode = record.next_mode
        else:
            announced = Announced(record.next_mode, "", now.monotonic_of(record.switches_at))
    state = RoomState(
        owner=record.owner,
        mode=mode,
        epoch=record.epoch + 1,
        tickets=frozenset(record.tickets),
        entitled=frozenset(record.entitled),
        ejected=frozenset(record.ejected),
        until_ns=until_ns,
        warnings_s=() if until_ns is None else warnings_ahead(until_ns, now.ns),
        picture_until_ns=waiting_until_ns,
        ended=record.ended,
        shown_ns=record.shown_ms * 1_000_000,
        takeovers=record.takeovers,
        announced=announced,
        title=record.title,
        description=record.description,
        best_picture="everyone" if record.best_picture == "everyone" else "entitled",
    )
    return stream, state

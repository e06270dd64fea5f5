"""Groups that go live: the stream, for whom it is, and the card that shows it in the conversation for as long.

What is written in the group stays there: a stream has a chat of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec
import sqlalchemy as sa
import structlog
import trio

from server.access.judging import StreamRules
from server.access.rules import Invite
from server.database.prepared import Prepared
from server.database.store import Database, StoreFailed
from server.events import eventlog
from server.events.eventlog import Happened
from server.talk import rows
from server.talk.cards import bring_up_to_date
from server.talk.posting import Batch, Draft, Written
from signalling.calls import commands as calling
from signalling.calls.calls import Calls
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.messenger import policy
from signalling.messenger.model import ConversationId
from signalling.messenger.quotas import Quotas
from signalling.policy import commands as c
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.rooms.turns import Turns

KIND = "live"
RETRY_S = 5.0
Audience = Literal["members", "followers", "everyone"]
ONLY_MEMBERS = StreamRules(Invite())  # the members are let in by name, others by an invitation to the stream alone

_ADD = Prepared(
    "INSERT INTO conversation_lives (stream, conversation, seq, starter, audience, began_at)"
    " VALUES (:stream, :conversation, :seq, :starter, :audience, :at)"
)
_OPEN = Prepared(
    "SELECT l.stream, l.conversation, l.starter, a.name, l.audience, l.began_at"
    " FROM conversation_lives l JOIN accounts a ON a.id = l.starter WHERE l.ended_at IS NULL"
    " ORDER BY l.began_at, l.stream"
)
_FIND = Prepared("SELECT seq FROM conversation_lives WHERE stream = :stream AND ended_at IS NULL")
_END = Prepared("UPDATE conversation_lives SET ended_at = :at WHERE stream = :stream")

log = structlog.get_logger("lives")


class LiveCard(msgspec.Struct, frozen=True):
    """What the message of a stream shows; it is brought up to date in place."""

    stream: StreamId
    audience: Audience
    state: Literal["live", "ended"]
    seconds: int = 0


class LiveView(msgspec.Struct, frozen=True):
    """The stream that a group has on, and for whom it was opened."""

    stream: StreamId
    conversation: ConversationId
    audience: Audience
    starter: AccountId


class Ruling(Protocol):
    """Who sets the rules of streams."""

    async def set_rules(self, actor: Actor, stream: StreamId, rules: StreamRules, versions: tuple[int, ...]) -> int:
        """Replace a stream's rules, if they still are of one of these versions."""


@dataclass(slots=True)
class _Live:
    """A group's stream, the members whom it lets in as such, and those who may be live beside its starter."""

    view: LiveView
    began_at: int
    members: frozenset[AccountId]
    named: frozenset[AccountId]
    starter: str


class Lives:
    """Streams of groups; `run` it in a nursery. Raises Refused and StoreFailed."""

    def __init__(
        self, store: Database, clock: Clock, rooms: Rooms, people: Ruling, calls: Calls, nudge: Callable[[], None]
    ) -> None:
        self._store, self._clock, self._rooms, self._people, self._calls = store, clock, rooms, people, calls
        self._nudge = nudge
        self._lives: dict[str, _Live] = {}
        self._opening = Turns[ConversationId]()
        self._nursery: trio.Nursery | None = None
        self._begun = self._failures = 0

    def counters(self) -> dict[str, int]:
        """How many there are and were, by name."""
        return {
            "conversations_live": len(self._lives),
            "conversations_gone_live": self._begun,
            "conversation_live_failures": self._failures,
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Go on with those whose streams a restart has brought back, and keep them until cancelled."""
        async with trio.open_nursery() as self._nursery:
            for stream, conversation, starter, name, audience, began_at in await self._store.read(_open_lives):
                state = self._rooms.state(stream)
                members = frozenset[AccountId]() if state is None else state.entitled
                live = _Live(LiveView(stream, conversation, audience, starter), began_at, members, frozenset(), name)
                self._lives[conversation] = live
                self._nursery.start_soon(self._keep, live)
                await self.look_again(conversation)
            task_status.started()
            await trio.sleep_forever()

    async def start(
        self, actor: Actor, conversation: ConversationId, audience: Audience, named: frozenset[AccountId] = frozenset()
    ) -> LiveView:
        """Take a group live, or return the stream that it has on: two who do it at once have one stream.

        A call in which the actor is becomes it; members who are `named` may be live, too.
        Raises Refused (conversation_unknown, not_in_conversation, not_a_group, read_only, already_live, kyf_required)
        and NoCapacity.
        """
        async with self._opening.of(conversation):
            members = await self._store.read(_who_may_watch, conversation, actor.account)
            live = self._lives.get(conversation)
            if live is not None:
                return live.view
            return await self._open(actor, conversation, audience, members, named & members)

    async def _open(
        self,
        actor: Actor,
        conversation: ConversationId,
        audience: Audience,
        members: frozenset[AccountId],
        named: frozenset[AccountId],
    ) -> LiveView:
        mode = Mode.PUBLIC if audience == "everyone" else Mode.PRIVATE
        opened = await self._rooms.create_stream(actor, title=f"{actor.name} is live", mode=mode, entitled=members)
        view = LiveView(opened.card.id, conversation, audience, actor.account)
        live = _Live(view, self._clock.wall_ms(), members, named, actor.name)
        fault: Exception | None = None
        try:
            if audience == "members":
                await self._people.set_rules(actor, view.stream, ONLY_MEMBERS, (0,))
            await self._store.write(begin, view, live.began_at)
        except Exception as error:
            fault = error
        if fault is not None:
            await self._rooms.command(view.stream, actor, c.EndStream())
            raise fault
        self._lives[conversation] = live
        self._begun += 1
        assert self._nursery is not None, "lives are kept in a nursery"
        self._nursery.start_soon(self._keep, live)
        self._nudge()
        await self.look_again(conversation)
        call = self._calls.active_in(conversation, actor.account)
        if call is not None:
            await self._calls.do(actor, call, calling.BecomeLive(view.stream, named))
        return view

    async def join(self, actor: Actor, conversation: str) -> LiveView:
        """Be live, too. Raises Refused (not_live, not_named, too_many_hosts, and like `require_in`)."""
        await self._store.read(_require_in, conversation, actor.account)
        live = self._lives.get(conversation)
        if live is None:
            raise Refused("not_live")
        if actor.account not in live.named & live.members:
            raise Refused("not_named")
        await self._order(live, c.AddHost(actor.account, actor.name))
        await self.look_again(conversation)
        return live.view

    async def step_back(self, actor: Actor, conversation: str) -> None:
        """Be live no longer. Raises Refused like `policy.require_in`."""
        await self._store.read(_require_in, conversation, actor.account)
        live = self._lives.get(conversation)
        if live is not None:
            await self._order(live, c.DropHost(actor.account))

    async def look_again(self, conversation: str) -> None:
        """Let those in who came into the group, and nobody who has left it; without its starter the stream ends."""
        live = self._lives.get(conversation)
        if live is None:
            return
        now = await self._store.read(_members_of, conversation)
        before, live.members = live.members, now
        changes: list[c.Command] = [c.DropHost(account) for account in sorted(live.named - now)]
        changes += [c.Disentitle(account) for account in sorted(before - now)]
        changes += [c.Entitle(account) for account in sorted(now - before - {live.view.starter})]
        if live.view.starter not in now:
            changes = [c.EndStream()]
        for change in changes:
            await self._order(live, change)

    async def _order(self, live: _Live, command: c.Command) -> None:
        try:
            await self._rooms.command(live.view.stream, Actor(live.view.starter, live.starter), command)
        except Refused as refused:
            if refused.code not in ("stream_ended", "stream_unknown"):
                raise

    async def _keep(self, live: _Live) -> None:
        """Bring the card up to date when the stream has ended, and go back to the call."""
        stream, conversation = live.view.stream, live.view.conversation
        await self._rooms.wait_ended(stream)
        if self._lives.get(conversation) is live:
            del self._lives[conversation]
        await self._calls.resume(stream)
        while True:
            try:
                await self._store.write(end, live.view, live.began_at, self._clock.wall_ms())
            except StoreFailed as failure:
                self._failures += 1
                log.warning("live_unwritten", stream=stream, reason=str(failure))
                await trio.sleep(RETRY_S)
            else:
                self._nudge()
                return


def begin(connection: sa.Connection, view: LiveView, now_ms: int) -> None:
    """Write the message of a group's stream."""
    conversation = rows.lock(connection, view.conversation)
    member = rows.find_member(connection, view.conversation, view.starter)
    if conversation is None:
        raise Refused("conversation_unknown")
    grown = policy.go_live(conversation, member)
    batch = Batch(connection)
    draft = Draft(grown.id, view.starter, "", view.stream, now_ms, Quotas())
    batch.add(grown, draft, Written("", kind=KIND, card=LiveCard(view.stream, view.audience, "live")))
    of = {"stream": view.stream, "conversation": grown.id, "seq": grown.head}
    _ADD(connection, **of, starter=view.starter, audience=view.audience, at=now_ms)
    batch.write()
    _tell(connection, view, "conversation.live_started", now_ms)


def end(connection: sa.Connection, view: LiveView, began_at: int, now_ms: int) -> None:
    """Show on the message of a group's stream that it has ended."""
    rows.lock(connection, view.conversation)
    row = _FIND(connection, stream=view.stream).fetchone()
    if row is None:
        return
    _END(connection, stream=view.stream, at=now_ms)
    card = LiveCard(view.stream, view.audience, "ended", max(0, now_ms - began_at) // 1000)
    bring_up_to_date(connection, view.conversation, row[0], card, now_ms)
    _tell(connection, view, "conversation.live_ended", now_ms)


def _tell(connection: sa.Connection, view: LiveView, type: str, now_ms: int) -> None:
    fields: dict[str, Any] = {"stream": view.stream, "audience": view.audience, "account": view.starter}
    eventlog.append(connection, Happened(view.conversation, type, now_ms, fields, party=view.conversation))


def _who_may_watch(connection: sa.Connection, conversation: str, account: AccountId) -> frozenset[AccountId]:
    found = rows.find(connection, conversation)
    if found is None:
        raise Refused("conversation_unknown")
    policy.go_live(found, rows.find_member(connection, conversation, account))
    return _members_of(connection, conversation)


def _require_in(connection: sa.Connection, conversation: str, account: AccountId) -> None:
    policy.require_in(rows.find_member(connection, conversation, account))


def _members_of(connection: sa.Connection, conversation: str) -> frozenset[AccountId]:
    return frozenset(member.account for member in rows.members_in(connection, conversation))


def _open_lives(connection: sa.Connection) -> list[tuple[StreamId, ConversationId, AccountId, str, Audience, int]]:
    return [
        (StreamId(stream), ConversationId(conversation), AccountId(starter), name, audience, began_at)
        for stream, conversation, starter, name, audience, began_at in _OPEN(connection).fetchall()
    ]

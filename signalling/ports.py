"""What rooms need of the world around them; the server gives them the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.messenger.model import ConversationId
from signalling.messenger.views import MessageSent, PresencePage
from signalling.policy.commands import AT_ONCE, Manner
from signalling.policy.events import Event
from signalling.policy.verdicts import Demands, Sight, Verdict
from signalling.refusals import Refused
from signalling.wire.events import ChatMessage
from signalling.wire.views import BestPicture, Followed, Kind

if TYPE_CHECKING:
    from signalling.sessions.session import Session
    from signalling.wire.messages import Bundle, Encoded, Encoding


class Clock(Protocol):
    """Both clocks: the one that admission is judged by, and the one that people read."""

    def now_ns(self) -> int:
        """Return `time.monotonic_ns()`, or a test's."""

    def wall_ms(self) -> int:
        """Return wall-clock epoch milliseconds."""


class Gate(Protocol):
    """What is known outside the rooms of who may come in.

    Every answer is true at the moment at which it is given: who uses it before the next checkpoint misses no change.
    """

    async def hidden_from(self, owner: AccountId) -> frozenset[AccountId]:
        """Return for whom a streamer's streams do not exist. Raises ArchiveFailed."""

    async def demands_of(self, stream: StreamId) -> Demands:
        """Return what everybody must have proven in a stream. Raises ArchiveFailed."""

    async def sight_of(self, account: AccountId) -> Sight:
        """Return which streams an account may find in the directory. Raises ArchiveFailed."""

    async def weigh(self, stream: StreamId, owner: AccountId, account: AccountId) -> Verdict:
        """Judge an account that wants to come in. Raises ArchiveFailed."""

    async def appraise(self, stream: StreamId, owner: AccountId, account: AccountId) -> Verdict:
        """Judge an account that only asks whether it could come in. Raises ArchiveFailed."""

    async def weigh_streamer(self, owner: AccountId) -> Verdict:
        """Judge an account that wants to stream. Raises ArchiveFailed."""

    async def reconsider(self, stream: StreamId, account: AccountId) -> None:
        """Judge an account anew whose ticket came or went, or who began to stream; returns when the room knows."""


class Desk(Protocol):
    """Who keeps what one-to-ones are agreed on and what is paid for them."""

    async def require_free(self, stream: StreamId, account: AccountId) -> None:
        """Let only those ask of whom nothing is asked in return. Raises Refused and ArchiveFailed."""

    async def manner_of(self, stream: StreamId) -> Manner:
        """Return how a stream's viewers are taken into a one-to-one. Raises ArchiveFailed."""

    def hear(self, stream: StreamId, events: Sequence[Event]) -> None:
        """Take up what happened in a room; never waits, and whoever is concerned was told already."""

    def delivered(self, request: str, delivered_ns: int) -> None:
        """Take up how much of a running one-to-one was delivered so far; never waits."""


class NoDesk:
    """Nothing is asked in return for a one-to-one: what a node without money says."""

    async def require_free(self, stream: StreamId, account: AccountId) -> None:
        """Let everybody ask."""
        await trio.lowlevel.checkpoint()

    async def manner_of(self, stream: StreamId) -> Manner:
        """Take everybody at once."""
        await trio.lowlevel.checkpoint()
        return AT_ONCE

    def hear(self, stream: StreamId, events: Sequence[Event]) -> None:
        """Do nothing."""

    def delivered(self, request: str, delivered_ns: int) -> None:
        """Do nothing."""


class Feed(Protocol):
    """The log of what happened, for those who follow it."""

    async def follow(self, session: Session, after: int | None) -> Followed:
        """Send a session what it may see, until its connection is lost; after an id, or from now on.

        Raises Refused("invalid_cursor") and ArchiveFailed.
        """


class Messenger(Protocol):
    """Conversations, for those who write over the signalling socket. Raises Refused and ArchiveFailed."""

    async def send(
        self,
        actor: Actor,
        conversation: ConversationId,
        text: str,
        client_txn: str,
        reply_to: int | None,
        files: tuple[str, ...] = (),
    ) -> MessageSent:
        """Write a message that shows files, once for each `client_txn`."""

    def send_soon(
        self,
        actor: Actor,
        conversation: ConversationId,
        text: str,
        client_txn: str,
        reply_to: int | None,
        files: tuple[str, ...],
        done: Callable[[object], None],
    ) -> bool:
        """Have a message written like `send`, and `done` called with what that returns or raises.

        False, and nothing done, where `send` must be called instead. Raises Refused for what needs no looking up.
        """

    async def mark(
        self, actor: Actor, conversation: ConversationId, delivered: int, read: int, *, private: bool
    ) -> None:
        """Move markers up to messages."""

    async def type(self, actor: Actor, conversation: ConversationId) -> None:
        """Show that somebody is writing."""

    async def watch(self, session: Session, accounts: Sequence[AccountId]) -> PresencePage:
        """Tell a session how people are, from now on."""


class NoMessenger:
    """There are no conversations: what a node without them says."""

    async def send(
        self,
        actor: Actor,
        conversation: ConversationId,
        text: str,
        client_txn: str,
        reply_to: int | None,
        files: tuple[str, ...] = (),
    ) -> MessageSent:
        """Know no conversation."""
        await trio.lowlevel.checkpoint()
        raise Refused("conversation_unknown")

    def send_soon(
        self,
        actor: Actor,
        conversation: ConversationId,
        text: str,
        client_txn: str,
        reply_to: int | None,
        files: tuple[str, ...],
        done: Callable[[object], None],
    ) -> bool:
        """Have it said by `send`."""
        return False

    async def mark(
        self, actor: Actor, conversation: ConversationId, delivered: int, read: int, *, private: bool
    ) -> None:
        """Know no conversation."""
        await trio.lowlevel.checkpoint()
        raise Refused("conversation_unknown")

    async def type(self, actor: Actor, conversation: ConversationId) -> None:
        """Know no conversation."""
        await trio.lowlevel.checkpoint()
        raise Refused("conversation_unknown")

    async def watch(self, session: Session, accounts: Sequence[AccountId]) -> PresencePage:
        """Know nobody."""
        await trio.lowlevel.checkpoint()
        return PresencePage(())


class Fanout(Protocol):
    """Writes what many connections are told at the same time; to each in order with what it is told alone."""

    def tell(self, encoding: Encoding, event: Encoded, outboxes: Sequence[Outbox], numbers: Sequence[int]) -> None:
        """Send each its copy of an event, under a number of its own."""

    def show(self, encoding: Encoding, shown: Sequence[tuple[Bundle, Sequence[Outbox]]]) -> None:
        """Send each bundle to its connections."""

    def show_newest(self, encoding: Encoding, event: Encoded, outboxes: Sequence[Outbox], key: str) -> None:
        """Send each an event, of which those that can't take it now get the newest of its key."""


class Outbox(Protocol):
    """Frames on their way to one connection, bounded: 256 messages or 256 kB, then it is closed as `slow_consumer`."""

    @property
    def fanout(self) -> Fanout | None:
        """What writes to this connection and many others; None for one that is written to alone."""

    def offer(self, frame: bytes, *, droppable: bool = False, key: str | None = None) -> None:
        """Send, or queue; never waits, and does nothing after `close`.

        A droppable frame may be dropped when the queue is full; of queued frames with one `key` only the newest goes.
        """

    def offer_all(self, bundle: Bundle, encoding: Encoding) -> None:
        """Send some, or queue them, as one."""

    def waiting(self) -> int:
        """Return how many frames, or KiB, are queued, whichever is more."""

    def close(self, reason: str) -> None:
        """Send what is queued as far as it goes at once, then end the connection with a close frame that says why."""


class StreamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All of a room that outlives a restart. `former` is the mode to which a one-to-one returns.

    `shown_ms` is how long it was on for ticket holders alone, by the time of the writing; at `switches_at` its mode
    will be `next_mode`. Of a `best_picture` that is not "everyone" a restart lets none but the entitled have it.
    """

    id: StreamId
    number: int
    owner: AccountId
    owner_name: str
    title: str
    description: str
    kind: Kind
    mode: Mode
    former: Mode | None
    epoch: int
    tickets: tuple[AccountId, ...]
    entitled: tuple[AccountId, ...]
    ejected: tuple[AccountId, ...]
    started_at: int
    ends_at: int | None
    ended: str | None
    shown_ms: int = 0
    takeovers: int = 0
    next_mode: Mode | None = None
    switches_at: int | None = None
    best_picture: BestPicture = "everyone"


class ArchivedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a stream's history: a policy event by the name of its type, its fields, and when (epoch ms)."""

    epoch: int
    type: str
    at: int
    fields: dict[str, object]


class ArchiveFailed(Exception):
    """It could not be written down, or not be read; nothing changed."""


class Archive(Protocol):
    """Where streams outlive a restart. Every method returns when it is written down, and raises ArchiveFailed.

    Calls about one stream never overlap: a room has one writer.
    """

    async def load(self) -> list[StreamRecord]:
        """Return all streams that have not ended."""

    async def save_stream(self, record: StreamRecord) -> None:
        """Write a stream down, replacing what was there."""

    async def append(self, stream_id: StreamId, epoch: int, events: list[ArchivedEvent | ChatMessage]) -> None:
        """Write down what happened and what was said, in this order."""

    async def recent_chat(self, stream_id: StreamId, limit: int) -> list[ChatMessage]:
        """Return the last messages, oldest first."""

    async def find_account(self, name: str) -> AccountId | None:
        """Return whose name this is."""

    async def names(self, accounts: list[AccountId]) -> dict[AccountId, str]:
        """Return what these accounts are called; unknown ones are left out."""

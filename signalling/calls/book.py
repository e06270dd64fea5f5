"""What calls need of the conversations in which they are held; the server keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from signalling.calls.state import Call, CallId
from signalling.calls.views import CallView
from signalling.identifiers import AccountId, Actor
from signalling.messenger.model import ConversationId, Kind


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that somebody wants to begin with a device; the same `client_txn` twice is one call."""

    conversation: ConversationId
    video: bool
    device: str
    client_txn: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that is written down: whom it rings, by name, who hears nothing of it, and who is parted, as in `Call`."""

    kind: Kind
    names: Mapping[AccountId, str]
    unaware: frozenset[AccountId] = frozenset()
    quiet: frozenset[AccountId] = frozenset()
    apart: frozenset[frozenset[AccountId]] = field(default_factory=frozenset)

    @property
    def rung(self) -> tuple[AccountId, ...]:
        """Whom it rings."""
        return tuple(self.names)


class Book(Protocol):
    """Calls as their conversations keep them. Raises ArchiveFailed."""

    async def begin(self, actor: Actor, id: CallId, wanted: Wanted, now_ms: int) -> Begun | CallView:
        """Write down that a call begins; one that was begun before is returned as it has ended.

        Raises Refused (conversation_unknown, not_in_conversation, read_only, you_blocked_them, too_fast).
        """

    async def write(self, call: Call, now_ms: int) -> None:
        """Write down what has become of a call."""

    async def apart_within(self, conversation: ConversationId, account: AccountId) -> frozenset[AccountId]:
        """Return from whom a member is parted by a block. Raises Refused like `policy.require_in`."""

    async def outside(self, conversation: str, accounts: Sequence[AccountId]) -> list[AccountId]:
        """Return those of accounts that are not in a conversation."""

    async def recover(self, now_ms: int) -> None:
        """Write down that the calls that were going on have ended."""

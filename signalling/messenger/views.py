"""Conversations and messages as clients see them; times are wall-clock epoch milliseconds."""

from __future__ import annotations

from typing import Any

import msgspec

from signalling.identifiers import AccountId
from signalling.messenger.model import ConversationId, History, Joining, Kind, Posting
from signalling.wire.views import Person


class Reaction(msgspec.Struct, frozen=True):
    """How many reacted to a message in one way, and the first of them."""

    reaction: str
    count: int
    accounts: tuple[AccountId, ...]


class AttachmentView(msgspec.Struct, frozen=True):
    """A file that a message shows; `preview` says that there is a small picture of it."""

    id: str
    name: str
    type: str
    size: int
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None
    preview: bool = False


class MessageView(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A message as it is now; one that was erased, or `taken_down` by reviewers, has no text.

    `reply_to` is the number of another message. `kind` is text, or names what else it stands for, which `card` tells:
    a tip, say.
    """

    conversation: ConversationId
    seq: int
    sender: Person
    kind: str
    text: str
    reply_to: int | None
    mentions: tuple[AccountId, ...]
    forwarded: bool
    at: int
    edited_at: int | None = None
    erased_at: int | None = None
    pinned_at: int | None = None
    reactions: tuple[Reaction, ...] = ()
    card: dict[str, Any] | None = None
    attachments: tuple[AttachmentView, ...] = ()
    taken_down: bool = False


class MessageSent(msgspec.Struct, frozen=True):
    """The number that a message has in its conversation, and when it was written down."""

    conversation: ConversationId
    seq: int
    at: int


class MarkerView(msgspec.Struct, frozen=True):
    """Up to which message somebody got, and has read, a conversation, as far as it is told."""

    account: AccountId
    delivered: int
    read: int


class Mine(msgspec.Struct, frozen=True):
    """What belongs to one member alone: markers, mute (-1: for ever), and what was begun to be written."""

    role: str
    standing: str
    delivered: int
    read: int
    seen: int
    muted_until: int | None
    pinned: bool
    archived: bool
    draft: str


class ConversationView(msgspec.Struct, frozen=True, rename={"other": "with"}):
    """A conversation as one member sees it. `unread` counts to 1000; `mentioned` says that one of them is for me.

    `with` is the other of a direct conversation, and `blocked` whether I blocked them. `markers` are those of the
    others in a direct conversation or a small group; of larger groups nobody is told who has read what.
    """

    id: ConversationId
    kind: Kind
    title: str
    other: Person | None
    members: int
    head: int
    unread: int
    mentioned: bool
    blocked: bool
    mine: Mine
    last: MessageView | None
    markers: tuple[MarkerView, ...]
    history: History
    joining: Joining
    posting: Posting
    keep_s: int | None
    last_at: int


class ConversationPage(msgspec.Struct, frozen=True):
    """Some conversations, the newest first; `cursor` leads to the next part, null at the end."""

    conversations: tuple[ConversationView, ...]
    cursor: str | None


class MessagePage(msgspec.Struct, frozen=True):
    """Some messages in the order of their numbers. `head` is the number of the last one that there is."""

    messages: tuple[MessageView, ...]
    head: int


class PresenceView(msgspec.Struct, frozen=True):
    """Whether somebody is here, and when they last were (epoch ms, to the minute).

    Of who does not show it, and of who is not to be found, it is false and null.
    """

    account: AccountId
    online: bool = False
    last_seen: int | None = None


class PresencePage(msgspec.Struct, frozen=True):
    """How the people are whom one watches."""

    people: tuple[PresenceView, ...]


class MemberView(msgspec.Struct, frozen=True):
    """Somebody who belongs to a conversation, was asked to, or asked to; `online` where one may know it."""

    account: Person
    role: str
    standing: str
    online: bool = False


class MemberPage(msgspec.Struct, frozen=True):
    """Some members, by their ids; there may be more when the page is full."""

    members: tuple[MemberView, ...]

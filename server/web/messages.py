"""The API of messages: writing, reading and finding them, and what is done to them afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from server.talk.messenger import Messenger
from server.talk.reading import Edges
from server.web import schemas as s
from server.web.api import ROOT
from server.web.conversations import CONVERSATION, DOING, IN, Number
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import Actor
from signalling.messenger.model import ConversationId
from signalling.messenger.views import MessagePage, MessageSent, MessageView
from signalling.refusals import Refused
from signalling.wire.requests import Attachments

MESSAGE = f"{CONVERSATION}/messages/{{seq}}"
NOT_TAKEN = ("file_type_not_allowed", "file_broken", "file_too_demanding", "checksum_mismatch")  # what became of a file
LAST = 2**53 - 1
Text = Annotated[str, Meta(max_length=8000)]  # how long a message may be is the messenger's to say
Txn = Annotated[str, Meta(min_length=1, max_length=64)]


class NewConversationMessage(s.Taken, frozen=True):
    """A message; the same `client_txn` twice is one message. `attachments` are my files that are ready, by id."""

    text: Text
    client_txn: Txn
    reply_to: Number | None = None
    attachments: Attachments = ()


class Forward(s.Taken, frozen=True):
    """The message to write again here: its conversation and number."""

    conversation: Annotated[str, Meta(min_length=1, max_length=128)]
    seq: Number
    client_txn: Txn


class Rewording(s.Taken, frozen=True):
    """What a message is to say from now on."""

    text: Text


class MessageQuery(s.Taken, frozen=True):
    """Which messages: the first above `after`, the last below `before`, those that are pinned, or the last."""

    after: Number | None = None
    before: Number | None = None
    pinned: bool = False
    limit: s.PageSize = 50


class SearchQuery(s.Taken, frozen=True):
    """What to look for, in all of my conversations or in one; there, in messages with numbers below `before`."""

    text: Annotated[str, Meta(min_length=1, max_length=200)]
    conversation: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    before: Number = LAST
    limit: s.PageSize = 50


class FoundMessages(msgspec.Struct, frozen=True):
    """Messages, the newest first."""

    messages: tuple[MessageView, ...]


def message_routes(messenger: Messenger) -> list[Route]:
    """Return the routes of messages."""
    return [*_writing_routes(messenger), *_changing_routes(messenger)]


def _writing_routes(messenger: Messenger) -> list[Route]:
    async def read(asked: Asked) -> Answer:
        part: MessageQuery = asked.query
        edges = Edges(part.after, part.before, part.limit, part.pinned)
        return Answer(await messenger.messages(asked.actor, asked.path["conversation"], edges))

    async def send(asked: Asked) -> Answer:
        new: NewConversationMessage = asked.body
        conversation = ConversationId(asked.path["conversation"])
        named = new.text, new.client_txn, new.reply_to, new.attachments
        return Answer(await messenger.send(asked.actor, conversation, *named))

    async def forward(asked: Asked) -> Answer:
        new: Forward = asked.body
        conversation = ConversationId(asked.path["conversation"])
        origin = new.conversation, new.seq
        return Answer(await messenger.forward(asked.actor, conversation, origin, new.client_txn))

    async def find(asked: Asked) -> Answer:
        part: SearchQuery = asked.query
        found = await messenger.search(asked.actor, part.text, part.conversation, part.before, part.limit)
        return Answer(FoundMessages(tuple(found)))

    messages = f"{CONVERSATION}/messages"
    page, sent = MessagePage, MessageSent
    writing = (*IN, "read_only", "you_blocked_them", "message_quota_used", "idempotency_mismatch")
    pointing = ("message_unknown", "message_erased")
    attaching = ("too_many_attachments", "file_unknown", "file_not_ready", *NOT_TAKEN)
    said = ("invalid_message", "message_too_long", *pointing, *attaching)
    return [
        Route("GET", messages, "Messages, in order", read, query=MessageQuery, result=page, problems=IN),
        Route(
            "POST",
            messages,
            "Write a message",
            send,
            body=NewConversationMessage,
            result=sent,
            status=201,
            problems=(*writing, *said),
        ),
        Route(
            "POST",
            f"{CONVERSATION}/forwards",
            "Write again what stands in another message",
            forward,
            body=Forward,
            result=sent,
            status=201,
            problems=(*writing, *pointing, "message_fixed"),
        ),
        Route("GET", f"{ROOT}/messages", "Find", find, query=SearchQuery, result=FoundMessages, problems=DOING),
    ]


def _changing_routes(messenger: Messenger) -> list[Route]:
    async def reword(actor: Actor, conversation: str, seq: int, asked: Asked) -> None:
        await messenger.edit(actor, conversation, seq, asked.body.text)

    async def erase(actor: Actor, conversation: str, seq: int, asked: Asked) -> None:
        await messenger.erase(actor, conversation, seq, for_all=True)

    async def hide(actor: Actor, conversation: str, seq: int, asked: Asked) -> None:
        await messenger.erase(actor, conversation, seq, for_all=False)

    async def react(actor: Actor, conversation: str, seq: int, asked: Asked) -> None:
        await messenger.react(actor, conversation, seq, asked.path["reaction"], given=True)

    async def unreact(actor: Actor, conversation: str, seq: int, asked: Asked) -> None:
        await messenger.react(actor, conversation, seq, asked.path["reaction"], given=False)

    async def pin(actor: Actor, conversation: str, seq: int, asked: Asked) -> None:
        await messenger.pin(actor, conversation, seq, pinned=True)

    async def unpin(actor: Actor, conversation: str, seq: int, asked: Asked) -> None:
        await messenger.pin(actor, conversation, seq, pinned=False)

    known = (*IN, "message_unknown")
    there = (*known, "message_erased")
    shown = (*there, "you_blocked_them")
    editing = ("not_the_sender", "message_fixed", "edit_too_late", "read_only", "invalid_message", "message_too_long")
    reaction, pinned = f"{MESSAGE}/reactions/{{reaction}}", f"{MESSAGE}/pin"
    return [
        _on_message("PUT", MESSAGE, "Write my message anew", reword, (*shown, *editing), Rewording),
        _on_message("DELETE", MESSAGE, "Take it back for all", erase, (*there, "not_the_sender", "message_fixed")),
        _on_message("PUT", f"{MESSAGE}/hidden", "Take it away for me alone", hide, known),
        _on_message("PUT", reaction, "React", react, (*shown, "invalid_reaction", "too_many_reactions")),
        _on_message("DELETE", reaction, "React no longer", unreact, (*there, "invalid_reaction")),
        _on_message("PUT", pinned, "Pin it", pin, (*shown, "not_admin", "too_many_pins")),
        _on_message("DELETE", pinned, "Pin it no longer", unpin, (*there, "not_admin")),
    ]


def _on_message(
    method: str,
    path: str,
    summary: str,
    do: Callable[[Actor, str, int, Asked], Awaitable[None]],
    problems: tuple[str, ...],
    body: type[s.Taken] | None = None,
) -> Route:
    async def serve(asked: Asked) -> Answer:
        await do(asked.actor, asked.path["conversation"], _number_untrusted(asked.path["seq"]), asked)
        return Answer()

    return Route(method, path, summary, serve, body=body, status=204, problems=problems)


def _number_untrusted(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Refused("message_unknown")
    return int(text)

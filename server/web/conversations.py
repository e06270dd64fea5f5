"""The API of conversations: opening them, who belongs to them, and what one keeps of them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.money.idempotency import read_request_untrusted
from server.talk.marking import Audience, Kept, Settings
from server.talk.messenger import Messenger
from server.talk.opening import Shape
from server.web import schemas as s
from server.web.access import ListQuery
from server.web.api import ROOT
from server.web.money import KEY
from server.web.routes import Answer, Asked, Route
from server.web.tips import answer
from signalling.messenger.model import ConversationId, History, Joining, Posting, Role
from signalling.messenger.views import ConversationPage, ConversationView, MemberPage

CONVERSATION = f"{ROOT}/conversations/{{conversation}}"
DOING = ("no_session", "rate_limited", "too_fast", "not_stored")
IN = (*DOING, "conversation_unknown", "not_in_conversation")
LEADING = (*IN, "not_a_group", "not_admin")
Number = Annotated[int, Meta(ge=0, le=2**53 - 1)]
KeepS = Annotated[int, Meta(ge=60, le=315_360_000)]


class GroupShape(s.Taken, frozen=True):
    """What a group is like: who reads what was written before, who comes in, who writes, how long it is kept (s)."""

    title: Annotated[str, Meta(max_length=500)]
    history: History = "joined"
    joining: Joining = "invited"
    posting: Posting = "members"
    keep_s: KeepS | None = None

    def shape(self) -> Shape:
        """Return it for the messenger."""
        return Shape(self.title, self.history, self.joining, self.posting, self.keep_s)


class WantedRole(s.Taken, frozen=True):
    """The role to give; who makes another the owner is an admin afterwards."""

    role: Role


class Markers(s.Taken, frozen=True):
    """Up to which messages everything arrived, and was read; unless `private`, others are told."""

    delivered: Number = 0
    read: Number = 0
    private: bool = False


class KeptByMe(s.Taken, frozen=True):
    """What I keep of a conversation; null leaves it. `muted_until` is epoch ms, 0 for no longer, -1 for ever."""

    muted_until: Annotated[int, Meta(ge=-1, le=2**53 - 1)] | None = None
    pinned: bool | None = None
    archived: bool | None = None
    draft: Annotated[str, Meta(max_length=8000)] | None = None


class MessengerSettings(s.Taken, frozen=True):
    """Whether others are told what I have read, who sees that I am here, and who may begin to write to me or invite me.

    I am seen by those with whom I am in a conversation: by all of them, by those whom I follow, or by none.
    """

    receipts: bool = True
    presence: Audience = "everyone"
    reached_by: Audience = "everyone"


def conversation_routes(messenger: Messenger) -> list[Route]:
    """Return the routes of conversations, but for messages."""
    return [*_opening_routes(messenger), *_member_routes(messenger), *_own_routes(messenger)]


def _opening_routes(messenger: Messenger) -> list[Route]:
    async def page(asked: Asked) -> Answer:
        return Answer(await messenger.page(asked.actor, asked.query.cursor, asked.query.limit))

    async def open_direct(asked: Asked) -> Answer:
        return Answer(await messenger.open_direct(asked.actor, asked.path["name"]))

    async def open_group(asked: Asked) -> Answer:
        new: GroupShape = asked.body
        key = asked.headers.get("Idempotency-Key")
        request = read_request_untrusted(asked.actor.account, "POST /conversations", key, msgspec.json.encode(new))
        return answer(await messenger.open_group(asked.actor, new.shape(), request))

    async def show(asked: Asked) -> Answer:
        return Answer(await messenger.show(asked.actor, asked.path["conversation"]))

    async def reshape(asked: Asked) -> Answer:
        return Answer(await messenger.reshape(asked.actor, asked.path["conversation"], asked.body.shape()))

    listing = f"{ROOT}/conversations"
    view, unknown = ConversationView, ("no_session", "conversation_unknown", "not_stored")
    grouping = (*DOING, "invalid_title", "too_many_groups", "idempotency_key_required", *KEY)
    reaching = (*DOING, "account_unknown", "self_message", "not_reachable", "conversation_unknown")
    taken = ("no_session", "invalid_cursor", "not_stored")
    return [
        Route("GET", listing, "My conversations", page, query=s.PageQuery, result=ConversationPage, problems=taken),
        Route(
            "POST",
            listing,
            "Begin a group",
            open_group,
            body=GroupShape,
            result=view,
            status=201,
            problems=grouping,
        ),
        Route(
            "PUT",
            f"{ROOT}/conversations/direct/{{name}}",
            "My conversation with somebody; there is one",
            open_direct,
            result=view,
            problems=reaching,
        ),
        Route("GET", CONVERSATION, "One conversation", show, result=view, problems=unknown),
        Route(
            "PUT",
            f"{CONVERSATION}/shape",
            "Say what a group is like",
            reshape,
            body=GroupShape,
            result=view,
            problems=(*LEADING, "invalid_title"),
        ),
    ]


def _member_routes(messenger: Messenger) -> list[Route]:
    async def members(asked: Asked) -> Answer:
        part: ListQuery = asked.query
        return Answer(await messenger.members(asked.actor, asked.path["conversation"], part.after, part.limit))

    async def invite(asked: Asked) -> Answer:
        await messenger.invite(asked.actor, asked.path["conversation"], asked.path["name"])
        return Answer()

    async def remove(asked: Asked) -> Answer:
        await messenger.remove(asked.actor, asked.path["conversation"], asked.path["name"], ban=False)
        return Answer()

    async def ban(asked: Asked) -> Answer:
        await messenger.remove(asked.actor, asked.path["conversation"], asked.path["name"], ban=True)
        return Answer()

    async def pardon(asked: Asked) -> Answer:
        await messenger.pardon(asked.actor, asked.path["conversation"], asked.path["name"])
        return Answer()

    async def give_role(asked: Asked) -> Answer:
        role = Role(asked.body.role)
        await messenger.give_role(asked.actor, asked.path["conversation"], asked.path["name"], role)
        return Answer()

    async def join(asked: Asked) -> Answer:
        return Answer(await messenger.join(asked.actor, asked.path["conversation"]))

    async def leave(asked: Asked) -> Answer:
        await messenger.leave(asked.actor, asked.path["conversation"])
        return Answer()

    member, banned = f"{CONVERSATION}/members/{{name}}", f"{CONVERSATION}/banned/{{name}}"
    inviting = (*LEADING, "account_unknown", "not_reachable", "member_exists", "member_banned")
    crowded = ("too_many_members", "too_many_pending")
    putting = (*LEADING, "member_unknown", "outranked")
    coming = (*DOING, "conversation_unknown", "member_exists", "too_many_groups", *crowded)
    return [
        Route(
            "GET",
            f"{CONVERSATION}/members",
            "Who belongs to it",
            members,
            query=ListQuery,
            result=MemberPage,
            problems=IN,
        ),
        Route("PUT", member, "Ask somebody to come in", invite, status=204, problems=(*inviting, *crowded)),
        Route("DELETE", member, "Put somebody out", remove, status=204, problems=putting),
        Route(
            "PUT",
            f"{member}/role",
            "Give somebody a role",
            give_role,
            body=WantedRole,
            status=204,
            problems=(*putting, "last_owner"),
        ),
        Route("PUT", banned, "Put somebody out for good", ban, status=204, problems=putting),
        Route("DELETE", banned, "Let somebody be invited again", pardon, status=204, problems=putting),
        Route("POST", f"{CONVERSATION}/join", "Come in, or ask for it", join, result=ConversationView, problems=coming),
        Route(
            "POST",
            f"{CONVERSATION}/leave",
            "Go, or turn an invitation down",
            leave,
            status=204,
            problems=(*DOING, "conversation_unknown", "not_a_group"),
        ),
    ]


def _own_routes(messenger: Messenger) -> list[Route]:
    async def mark(asked: Asked) -> Answer:
        new: Markers = asked.body
        conversation = ConversationId(asked.path["conversation"])
        await messenger.mark(asked.actor, conversation, new.delivered, new.read, private=new.private)
        return Answer()

    async def keep(asked: Asked) -> Answer:
        kept = msgspec.convert(asked.body, Kept, from_attributes=True)
        await messenger.keep(asked.actor, asked.path["conversation"], kept)
        return Answer()

    async def settings(asked: Asked) -> Answer:
        return Answer(s.shown(await messenger.settings(asked.actor), MessengerSettings))

    async def set_settings(asked: Asked) -> Answer:
        await messenger.set_settings(asked.actor, msgspec.convert(asked.body, Settings, from_attributes=True))
        return Answer(asked.body)

    own = f"{ROOT}/me/messenger"
    wording = ("invalid_message", "message_too_long")
    return [
        Route("PUT", f"{CONVERSATION}/markers", "What I have read", mark, body=Markers, status=204, problems=IN),
        Route(
            "PUT",
            f"{CONVERSATION}/mine",
            "Mute, pin or archive it, or keep a draft",
            keep,
            body=KeptByMe,
            status=204,
            problems=(*IN, *wording),
        ),
        Route("GET", own, "Who may reach me, and is told of me", settings, result=MessengerSettings, problems=DOING),
        Route(
            "PUT",
            own,
            "Say who may reach me, and is told of me",
            set_settings,
            body=MessengerSettings,
            result=MessengerSettings,
            problems=DOING,
        ),
    ]

"""The API of invitations to private streams."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.access.guests import Guests
from server.access.invites import MAX_USES, Invitation
from server.web import schemas as s
from server.web.access import ListQuery
from server.web.api import OWNING, ROOT, STREAM
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import AccountId, StreamId

MAX_EXPIRES_S = 366 * 86_400


class NewInvite(s.Taken, frozen=True):
    """An invitation to make: for how many seconds and how many accounts, and whether each needs the streamer's yes."""

    expires_s: Annotated[int, Meta(ge=60, le=MAX_EXPIRES_S)] = 86_400
    max_uses: Annotated[int, Meta(ge=1, le=MAX_USES)] = 1
    needs_approval: bool = False


class Code(s.Taken, frozen=True):
    """What an invitation says."""

    code: Annotated[str, Meta(min_length=1, max_length=128)]


class Revocation(s.Taken, frozen=True):
    """Whether those whom the invitation let in go, too."""

    eject: bool = False


class InviteView(msgspec.Struct, frozen=True, omit_defaults=True):
    """An invitation; `code`, what it says, is there only once, when it is made."""

    id: str
    created_at: int
    expires_at: int
    max_uses: int
    uses: int
    needs_approval: bool
    revoked_at: int | None
    code: str | None = None


class InviteList(msgspec.Struct, frozen=True):
    """All invitations to a stream."""

    invites: tuple[InviteView, ...]


class UseView(msgspec.Struct, frozen=True):
    """Who used an invitation; `state` is granted, pending, denied or revoked."""

    id: str
    name: str
    state: str
    at: int


class UsePage(msgspec.Struct, frozen=True):
    """Some uses; there may be more when the page is full."""

    uses: tuple[UseView, ...]


class RedeemedView(msgspec.Struct, frozen=True):
    """Where an invitation leads; `state` is granted, or pending until the streamer approves."""

    stream: str
    state: str


def invite_routes(guests: Guests) -> list[Route]:
    """Return the routes of invitations."""

    async def create(asked: Asked) -> Answer:
        new: NewInvite = asked.body
        made, code = await guests.invite(
            asked.actor,
            StreamId(asked.path["stream"]),
            expires_s=new.expires_s,
            max_uses=new.max_uses,
            needs_approval=new.needs_approval,
        )
        return Answer(_view(made, code), {"Location": f"{ROOT}/invites/{made.id}"})

    async def listed(asked: Asked) -> Answer:
        found = await guests.invites(asked.actor, StreamId(asked.path["stream"]))
        return Answer(InviteList(tuple(map(_view, found))))

    async def redeem(asked: Asked) -> Answer:
        redeemed = await guests.redeem(asked.actor, asked.body.code)
        return Answer(RedeemedView(redeemed.stream, redeemed.state))

    async def uses(asked: Asked) -> Answer:
        found = await guests.uses(asked.actor, asked.path["invite"], asked.query.after, asked.query.limit)
        return Answer(UsePage(tuple(UseView(*use) for use in found)))

    async def revoke(asked: Asked) -> Answer:
        await guests.revoke(asked.actor, asked.path["invite"], asked.query.eject)
        return Answer()

    async def approve(asked: Asked) -> Answer:
        await guests.decide(asked.actor, asked.path["invite"], AccountId(asked.body.account), True)
        return Answer()

    async def deny(asked: Asked) -> Answer:
        await guests.decide(asked.actor, asked.path["invite"], AccountId(asked.body.account), False)
        return Answer()

    of_stream, one = f"{STREAM}/invites", f"{ROOT}/invites/{{invite}}"
    owning = ("no_session", "invite_unknown", "rate_limited")
    deciding = (*owning, "request_unknown", "invalid_request")
    making = (*OWNING, "too_many_invites", "invalid_request")
    return [
        Route("POST", of_stream, "Invite", create, body=NewInvite, result=InviteView, status=201, problems=making),
        Route("GET", of_stream, "All invitations to a stream of mine", listed, result=InviteList, problems=OWNING),
        Route(
            "POST",
            f"{ROOT}/invites/redeem",
            "Use an invitation",
            redeem,
            body=Code,
            result=RedeemedView,
            guessable=True,
            problems=(*owning, "invalid_request"),
        ),
        Route("GET", f"{one}/uses", "Who used it", uses, query=ListQuery, result=UsePage, problems=owning),
        Route("DELETE", one, "Let nobody new in by it", revoke, query=Revocation, status=204, problems=owning),
        Route("POST", f"{one}/approve", "Let in who waits", approve, body=s.Whom, status=204, problems=deciding),
        Route("POST", f"{one}/deny", "Don't let in who waits", deny, body=s.Whom, status=204, problems=deciding),
    ]


def _view(made: Invitation, code: str | None = None) -> InviteView:
    return InviteView(*made, code)

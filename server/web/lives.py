"""The API of groups that go live."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from server.talk.lives import Audience, Lives, LiveView
from server.web import schemas as s
from server.web.api import ROOT
from server.web.calls import offering_route
from server.web.conversations import CONVERSATION, IN
from server.web.ice_servers import IceServers
from server.web.routes import Answer, Asked, Route
from server.web.whip import OFFERS, REFUSALS, WATCHING, opened
from signalling.identifiers import AccountId, StreamId
from signalling.messenger.model import ConversationId
from signalling.sessions.media_sessions import MediaSessions

LIVE = f"{CONVERSATION}/go_live"
Named = Annotated[tuple[Annotated[AccountId, Meta(min_length=1, max_length=128)], ...], Meta(max_length=32)]


class NewLive(s.Taken, frozen=True):
    """For whom the stream is: the members of the group, those who follow me besides, or everyone.

    Members who are `named`, by id, may be live with me.
    """

    audience: Audience = "members"
    named: Named = ()


def live_routes(lives: Lives, media_sessions: MediaSessions, ice_servers: IceServers) -> list[Route]:
    """Return the routes of groups that go live, and of those who are live beside a streamer."""

    async def go_live(asked: Asked) -> Answer:
        new: NewLive = asked.body
        conversation = ConversationId(asked.path["conversation"])
        return Answer(await lives.start(asked.actor, conversation, new.audience, frozenset(new.named)))

    async def join(asked: Asked) -> Answer:
        return Answer(await lives.join(asked.actor, asked.path["conversation"]))

    async def step_back(asked: Asked) -> Answer:
        await lives.step_back(asked.actor, asked.path["conversation"])
        return Answer()

    async def watch(asked: Asked) -> Answer:
        stream, host = asked.path["stream"], AccountId(asked.path["account"])
        session = await media_sessions.watch(StreamId(stream), asked.actor, asked.body, host)
        return opened(session, f"/whep/{stream}", ice_servers, asked.actor)

    problems = ("not_a_group", "read_only", "already_live", "kyf_required", "no_capacity", "access_unavailable")
    joining = ("not_live", "not_named", "too_many_hosts", "stream_ended")
    return [
        Route(
            "POST",
            LIVE,
            "Take a group live, or get the stream that it has on; a call in which I am becomes it",
            go_live,
            body=NewLive,
            result=LiveView,
            problems=(*IN, *problems),
        ),
        Route("PUT", f"{LIVE}/me", "Be live, too, where I am named", join, result=LiveView, problems=(*IN, *joining)),
        Route("DELETE", f"{LIVE}/me", "Be live no longer", step_back, status=204, problems=IN),
        offering_route(
            f"{ROOT}/streams/{{stream}}/hosts/{{account}}/whep",
            "Watch one who is live beside the streamer, by WHEP",
            watch,
            (*REFUSALS, *OFFERS, *WATCHING, "too_many_sessions", "no_capacity", "stream_ended", "access_unavailable"),
        ),
    ]

"""The API of groups that go live."""

from __future__ import annotations

from server.talk.lives import Audience, Lives, LiveView
from server.web import schemas as s
from server.web.conversations import CONVERSATION, IN
from server.web.routes import Answer, Asked, Route
from signalling.messenger.model import ConversationId


class NewLive(s.Taken, frozen=True):
    """For whom the stream is: the members of the group, those who follow me besides, or everyone."""

    audience: Audience = "members"


def live_routes(lives: Lives) -> list[Route]:
    """Return the routes of groups that go live."""

    async def go_live(asked: Asked) -> Answer:
        conversation = ConversationId(asked.path["conversation"])
        return Answer(await lives.start(asked.actor, conversation, asked.body.audience))

    problems = ("not_a_group", "read_only", "already_live", "kyf_required", "no_capacity", "access_unavailable")
    return [
        Route(
            "POST",
            f"{CONVERSATION}/go_live",
            "Take a group live, or get the stream that it has on; a call in which I am becomes it",
            go_live,
            body=NewLive,
            result=LiveView,
            problems=(*IN, *problems),
        )
    ]

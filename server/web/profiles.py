"""The API of what one account sees of another: what the page with its name shows."""

from __future__ import annotations

import msgspec

from server.access.people import People
from server.web import schemas as s
from server.web.api import ROOT
from server.web.routes import Answer, Asked, Route
from signalling.wire.views import Card


class ProfileView(msgspec.Struct, frozen=True):
    """An account as who asks sees it: since when it is followed, and the stream that it has on."""

    id: str
    name: str
    follows_since: int | None
    stream: Card | None


def profile_routes(people: People) -> list[Route]:
    """Return the route of profiles."""

    async def show(asked: Asked) -> Answer:
        return Answer(s.shown(await people.profile(asked.actor, asked.path["name"]), ProfileView))

    problems = ("no_session", "account_unknown", "rate_limited")
    path = f"{ROOT}/profiles/{{name}}"
    return [Route("GET", path, "Somebody, as I see them", show, result=ProfileView, problems=problems)]

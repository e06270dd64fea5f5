"""The API of the event log: what happened, for whom it concerns."""

from __future__ import annotations

from typing import Annotated, Protocol

from msgspec import Meta

from server.events.feed import EventPage
from server.web import schemas as s
from server.web.api import ROOT
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import Actor

LONGEST_WAIT_S = 25.0  # below the 30 s after which the strictest proxies give up on an answer


class EventQuery(s.Taken, frozen=True):
    """Which events: after an id (0: from the oldest that is kept), of one subject or of all.

    With `wait_s`, an answer without events comes only after so many seconds.
    """

    after: Annotated[int, Meta(ge=0, le=2**53 - 1)] = 0
    subject: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    limit: s.PageSize = 50
    wait_s: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_S)] = 0


class Feed(Protocol):
    """What these routes need of `server.events.feed`."""

    async def page(
        self, actor: Actor, after: int, limit: int, *, subject: str | None = None, wait_s: float = 0
    ) -> EventPage:
        """Return some events."""


def event_routes(feed: Feed) -> list[Route]:
    """Return the routes of the event log."""

    async def read(asked: Asked) -> Answer:
        which: EventQuery = asked.query
        page = await feed.page(asked.actor, which.after, which.limit, subject=which.subject, wait_s=which.wait_s)
        return Answer(page)

    return [
        Route(
            "GET",
            f"{ROOT}/events",
            "What happened that concerns me, in order; administrators see everything",
            read,
            query=EventQuery,
            result=EventPage,
            problems=("invalid_cursor", "not_stored"),
        )
    ]

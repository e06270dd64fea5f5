"""The API of reviewers, which is not there for anybody else, and of the operator who chooses them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.problems import Problem
from server.review.cases import Outcome, State
from server.review.desk import ReviewDesk
from server.review.views import Docket, DocketPage
from server.web import schemas as s
from server.web.api import ROOT
from server.web.review import LOOKING, TAKEN
from server.web.routes import Access, Answer, Asked, Route, Serve

MOD = f"{ROOT}/mod"


class QueueQuery(s.Taken, frozen=True):
    """Which part of the cases: those in a state, above a number from the page before."""

    state: State | None = None
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: s.PageSize = 50


class LogQuery(s.Taken, frozen=True):
    """Which part of a log: what follows `after`, an id from the page before."""

    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: s.PageSize = 50


class Agreement(s.Taken, frozen=True):
    """Whether one agrees with what another reviewer proposed."""

    agrees: bool


class LogEntryView(msgspec.Struct, frozen=True):
    """Who did what with a case, looking included."""

    id: int
    name: str
    did: str
    at: int


class CaseLog(msgspec.Struct, frozen=True):
    """A part of the log of a case; there may be more when the page is full."""

    entries: tuple[LogEntryView, ...]


class ModeratorView(msgspec.Struct, frozen=True):
    """A reviewer, and since when."""

    id: str
    name: str
    since: int


class ModeratorList(msgspec.Struct, frozen=True):
    """All reviewers."""

    moderators: tuple[ModeratorView, ...]


class OwnRole(msgspec.Struct, frozen=True):
    """That who asks is a reviewer; nobody else gets an answer."""

    reviewer: bool


def moderation_routes(desk: ReviewDesk) -> list[Route]:
    """Return the routes of reviewers and of who chooses them."""
    return [*_looking_routes(desk), *_deciding_routes(desk), *_operator_routes(desk)]


def _looking_routes(desk: ReviewDesk) -> list[Route]:
    async def role(asked: Asked) -> Answer:
        return Answer(OwnRole(True))

    async def queue(asked: Asked) -> Answer:
        query: QueueQuery = asked.query
        return Answer(await desk.queue(asked.actor, query.state, query.after, query.limit))

    async def look(asked: Asked) -> Answer:
        return Answer(await desk.look(asked.actor, asked.path["case"]))

    async def log(asked: Asked) -> Answer:
        lines = await desk.read_log(asked.actor, asked.path["case"], asked.query.after, asked.query.limit)
        return Answer(CaseLog(tuple(s.shown(line, LogEntryView) for line in lines)))

    one = f"{MOD}/cases/{{case}}"
    return [
        _route(desk, "GET", f"{MOD}/role", "Whether I review", role, result=OwnRole),
        _route(desk, "GET", f"{MOD}/cases", "Cases, the oldest first", queue, query=QueueQuery, result=DocketPage),
        _route(desk, "GET", one, "A case with its evidence; that I looked is logged", look, ("case_unknown",)),
        _route(
            desk, "GET", f"{one}/log", "Who did what with it", log, ("case_unknown",), query=LogQuery, result=CaseLog
        ),
    ]


def _deciding_routes(desk: ReviewDesk) -> list[Route]:
    async def take(asked: Asked) -> Answer:
        return Answer(await desk.take(asked.actor, asked.path["case"]))

    async def release(asked: Asked) -> Answer:
        return Answer(await desk.release(asked.actor, asked.path["case"]))

    async def decide(asked: Asked) -> Answer:
        return Answer(await desk.decide(asked.actor, asked.path["case"], asked.body))

    async def second(asked: Asked) -> Answer:
        return Answer(await desk.second(asked.actor, asked.path["case"], asked.body.agrees))

    async def hold(asked: Asked) -> Answer:
        return Answer(await desk.hold(asked.actor, asked.path["case"], True))

    async def let_go(asked: Asked) -> Answer:
        return Answer(await desk.hold(asked.actor, asked.path["case"], False))

    one, moving = f"{MOD}/cases/{{case}}", ("case_unknown", "case_conflict", "not_stored")
    apart = (*moving, "own_case", "other_reviewer")
    held = "Keep what belongs to a case from being dropped"
    return [
        _route(desk, "POST", f"{one}/take", "Take a case, or an appeal", take, apart),
        _route(desk, "POST", f"{one}/release", "Put it back", release, moving),
        _route(
            desk,
            "POST",
            f"{one}/decide",
            "Decide it; what moves much money waits for a second reviewer",
            decide,
            (*apart, "invalid_outcome", *TAKEN),
            body=Outcome,
        ),
        _route(
            desk,
            "POST",
            f"{one}/second",
            "Agree with what another reviewer proposed, or don't",
            second,
            (*apart, *TAKEN),
            body=Agreement,
        ),
        _route(desk, "PUT", f"{one}/hold", held, hold, ("case_unknown", "not_stored")),
        _route(desk, "DELETE", f"{one}/hold", f"{held} no longer", let_go, ("case_unknown", "not_stored")),
    ]


def _operator_routes(desk: ReviewDesk) -> list[Route]:
    async def listed(asked: Asked) -> Answer:
        return Answer(ModeratorList(tuple(ModeratorView(*each) for each in await desk.moderators())))

    async def add(asked: Asked) -> Answer:
        await desk.add_moderator(asked.path["name"])
        return Answer()

    async def remove(asked: Asked) -> Answer:
        await desk.remove_moderator(asked.path["name"])
        return Answer()

    all_of_them = f"{ROOT}/admin/moderators"
    problems = (*LOOKING, "admin_only", "account_unknown", "not_stored")
    adding = (*problems, "too_many_moderators")
    one = f"{all_of_them}/{{name}}"
    return [
        Route("GET", all_of_them, "Who reviews", listed, Access.ADMIN, result=ModeratorList, problems=problems[:3]),
        Route("PUT", one, "Let an account review", add, Access.ADMIN, status=204, problems=adding),
        Route("DELETE", one, "Let an account review no more", remove, Access.ADMIN, status=204, problems=problems),
    ]


def _route(
    desk: ReviewDesk, method: str, path: str, summary: str, serve: Serve, problems: tuple[str, ...] = (), **more: Any
) -> Route:
    """Return a route that looks to everybody but reviewers as if there were nothing at its address."""

    async def for_reviewers(asked: Asked) -> Answer:
        if not await desk.reviews(asked.actor):
            raise Problem("not_found")
        return await serve(asked)

    return Route(method, path, summary, for_reviewers, problems=(*LOOKING, *problems), **{"result": Docket, **more})

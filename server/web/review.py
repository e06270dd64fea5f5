"""The API of reports and cases for their sides."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from server.review.cases import MAX_WORDS
from server.review.desk import ReviewDesk
from server.review.filing import Of, Reason, Report
from server.review.views import CasePage, CaseView
from server.web import schemas as s
from server.web.api import ROOT
from server.web.routes import Answer, Asked, Route

TAKEN = ("malformed_json", "unsupported_media_type", "body_too_large", "invalid_request", "not_stored")
LOOKING = ("no_session", "rate_limited")


class NewReport(s.Taken, frozen=True):
    """What is reported, why, and in your words; what does not exist is taken like what does."""

    about: Of
    reason: Reason
    words: Annotated[str, Meta(max_length=MAX_WORDS)] = ""


class Objection(s.Taken, frozen=True):
    """Why a decision is not accepted."""

    words: Annotated[str, Meta(min_length=1, max_length=MAX_WORDS)]


class CaseQuery(s.Taken, frozen=True):
    """Which part of a list: what is older than `before`, a number from the page before."""

    before: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    limit: s.PageSize = 50


def review_routes(desk: ReviewDesk) -> list[Route]:
    """Return the routes of who reports, and of who was reported; suspended accounts have them, too."""

    async def report(asked: Asked) -> Answer:
        new: NewReport = asked.body
        return Answer(await desk.file(asked.actor, Report(new.about, new.reason, new.words.strip())))

    async def mine(asked: Asked) -> Answer:
        return Answer(await desk.mine(asked.actor, asked.query.before, asked.query.limit))

    async def show(asked: Asked) -> Answer:
        return Answer(await desk.show(asked.actor, asked.path["case"]))

    async def appeal(asked: Asked) -> Answer:
        return Answer(await desk.appeal(asked.actor, asked.path["case"], asked.body.words))

    one = f"{ROOT}/cases/{{case}}"
    filing = ("conversation_unknown", "message_unknown", "self_report", "too_many_reports", "reports_paused")

    def route(method: str, path: str, summary: str, serve: Any, problems: tuple[str, ...], **more: Any) -> Route:
        given = {"result": CaseView, "suspended_too": True, **more}
        return Route(method, path, summary, serve, problems=(*LOOKING, *problems), **given)

    return [
        route("POST", f"{ROOT}/reports", "Report something", report, (*filing, *TAKEN), body=NewReport, status=201),
        route("GET", f"{ROOT}/cases", "My cases, the newest first", mine, (), query=CaseQuery, result=CasePage),
        route("GET", one, "How a case of mine stands", show, ("case_unknown",)),
        route(
            "POST",
            f"{one}/appeal",
            "Appeal against a decision",
            appeal,
            ("case_unknown", "case_conflict", "appeal_too_late", *TAKEN),
            body=Objection,
        ),
    ]

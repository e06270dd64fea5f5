"""The API by which a streamer asks a viewer for facts, and the viewer consents or not."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.access.consent import Consent
from server.access.disclosures import Disclosure, Field
from server.web import schemas as s
from server.web.access import ListQuery
from server.web.api import ROOT
from server.web.routes import Answer, Asked, Route

MAX_DEADLINE_S = 48 * 3600  # what is not answered in two days is not wanted
MAX_KEEP_S = 366 * 86_400


class NewDisclosure(s.Taken, frozen=True):
    """Whom to ask for what, why, for how long the answer is waited for and for how long it may then be looked at."""

    name: s.Name
    fields: Annotated[tuple[Field, ...], Meta(min_length=1, max_length=4)]
    purpose: Annotated[str, Meta(min_length=1, max_length=500)]
    deadline_s: Annotated[int, Meta(ge=60, le=MAX_DEADLINE_S)] = 120
    keep_s: Annotated[int, Meta(ge=60, le=MAX_KEEP_S)] = 86_400


class DisclosureView(msgspec.Struct, frozen=True):
    """A request and what became of it; `state` is pending, granted, refused, lapsed or revoked."""

    id: str
    streamer: str
    viewer: str
    fields: tuple[Field, ...]
    purpose: str
    state: str
    asked_at: int
    deadline: int
    keep_until: int | None


class DisclosurePage(msgspec.Struct, frozen=True):
    """Some requests; there may be more when the page is full."""

    disclosures: tuple[DisclosureView, ...]


class DisclosedFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The facts that were asked for and granted, as they are now; `age_over` 0 and no region: not proven."""

    age_over: int | None = None
    verified: bool | None = None
    region: str | None = None
    account_since: int | None = None


def disclosure_routes(consent: Consent) -> list[Route]:
    """Return the routes of disclosures."""

    async def ask(asked: Asked) -> Answer:
        new: NewDisclosure = asked.body
        made = await consent.ask(
            asked.actor,
            new.name,
            fields=tuple(dict.fromkeys(new.fields)),
            purpose=new.purpose,
            deadline_s=new.deadline_s,
            keep_s=new.keep_s,
        )
        return Answer(_view(made), {"Location": f"{ROOT}/disclosures/{made.id}"})

    async def listed(asked: Asked) -> Answer:
        found = await consent.list_of(asked.actor, asked.query.after, asked.query.limit)
        return Answer(DisclosurePage(tuple(map(_view, found))))

    async def grant(asked: Asked) -> Answer:
        return Answer(_view(await consent.answer(asked.actor, asked.path["disclosure"], True)))

    async def refuse(asked: Asked) -> Answer:
        return Answer(_view(await consent.answer(asked.actor, asked.path["disclosure"], False)))

    async def revoke(asked: Asked) -> Answer:
        return Answer(_view(await consent.revoke(asked.actor, asked.path["disclosure"])))

    async def look(asked: Asked) -> Answer:
        return Answer(msgspec.convert(await consent.look(asked.actor, asked.path["disclosure"]), DisclosedFacts))

    all_of_them, one = f"{ROOT}/disclosures", f"{ROOT}/disclosures/{{disclosure}}"
    seeing = ("no_session", "disclosure_unknown", "rate_limited")
    asking = ("no_session", "account_unknown", "request_exists", "too_many_requests", "invalid_request", "rate_limited")

    def route(method: str, path: str, summary: str, serve: Any, **more: Any) -> Route:
        return Route(method, path, summary, serve, **{"result": DisclosureView, "problems": seeing, **more})

    return [
        route("POST", all_of_them, "Ask a viewer for facts", ask, body=NewDisclosure, status=201, problems=asking),
        route("GET", all_of_them, "What I asked and was asked for", listed, query=ListQuery, result=DisclosurePage),
        route("POST", f"{one}/grant", "Consent", grant, problems=(*seeing, "request_expired")),
        route("POST", f"{one}/refuse", "Don't consent", refuse, problems=(*seeing, "request_expired")),
        route("POST", f"{one}/revoke", "Take my consent back", revoke),
        route("GET", f"{one}/facts", "Look at what was disclosed to me; it is logged", look, result=DisclosedFacts),
    ]


def _view(one: Disclosure) -> DisclosureView:
    return DisclosureView(
        one.id,
        one.streamer_name,
        one.viewer_name,
        one.fields,
        one.purpose,
        one.state,
        one.asked_at,
        one.deadline,
        one.keep_until,
    )

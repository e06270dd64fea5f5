"""The API of more time in a one-to-one: what it costs, and asking for it with that held."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.money.amounts import WireAmount
from server.money.extension_desk import ExtensionDesk, MoreTime, MoreTimeOffer
from server.money.idempotency import read_request_untrusted
from server.web import schemas as s
from server.web.api import SEEING, STREAM
from server.web.one_to_ones import AMOUNT, KEY
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import StreamId
from signalling.policy.extensions import LEAST_S
from signalling.policy.one_to_one import ONE_TO_ONE_S

LONGEST_S = ONE_TO_ONE_S[1] - ONE_TO_ONE_S[0]  # more than that fits after no one-to-one
MoreSeconds = Annotated[int, Meta(ge=LEAST_S, le=LONGEST_S)]


class MoreTimeWish(s.Taken, frozen=True):
    """How many seconds more, and the price that was shown: where it is higher, nothing is held."""

    seconds: MoreSeconds
    max_price: WireAmount | None = None


class MoreTimeQuery(s.Taken, frozen=True):
    """How many seconds more; five minutes where nothing is said."""

    seconds: MoreSeconds = 300


def extension_routes(desk: ExtensionDesk) -> list[Route]:
    """Return the routes by which a guest asks for more time."""

    async def look(asked: Asked) -> Answer:
        return Answer(await desk.look(_stream(asked), asked.actor, asked.query.seconds))

    async def ask(asked: Asked) -> Answer:
        new: MoreTimeWish = asked.body
        key, request = asked.headers.get("Idempotency-Key"), None
        if key is not None:
            route = f"POST /streams/{_stream(asked)}/one_to_one/extension"
            request = read_request_untrusted(asked.actor.account, route, key, msgspec.json.encode(new))
        answered = await desk.ask(
            _stream(asked), asked.actor, new.seconds, new.max_price, request, asked.session.surface
        )
        return Answer(answered.body, {"Idempotent-Replayed": "true"} if answered.replayed else {}, answered.status)

    path = f"{STREAM}/one_to_one/extension"
    asking = (
        *SEEING,
        *("stream_ended", "mode_conflict", "extension_exists", "too_many_requests", "duration_out_of_range"),
        *("exceeds_time_limit", "payment_required", "price_changed", "insufficient_funds", "in_debt"),
        *("asset_not_allowed_on_surface", "suspended", "invalid_request", *AMOUNT, *KEY),
    )
    return [
        Route(
            "GET",
            path,
            "Show what more time costs, and how much there may be",
            look,
            query=MoreTimeQuery,
            result=MoreTimeOffer,
            problems=(*SEEING, "stream_ended", "mode_conflict", "invalid_request"),
        ),
        Route(
            "POST",
            path,
            "Ask for more time, with what it costs held until it is answered and delivered",
            ask,
            body=MoreTimeWish,
            result=MoreTime,
            status=201,
            problems=asking,
        ),
    ]


def _stream(asked: Asked) -> StreamId:
    return StreamId(asked.path["stream"])

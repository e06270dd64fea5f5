"""The API of one-to-ones and what is paid for them: offers, requests with held money, places and reports."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.money.amounts import WireAmount, wire_amount
from server.money.appointments import FIRST
from server.money.idempotency import read_request_untrusted
from server.money.one_to_one_desk import Asked as Waits
from server.money.one_to_one_desk import OneToOneDesk, Place, Wish
from server.money.one_to_one_terms import Length, Offer
from server.money.one_to_ones import OneToOne
from server.web import schemas as s
from server.web.api import OWNING, ROOT, SEEING, STREAM
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import StreamId

EXPIRES_S = (60, 86_400)  # what a viewer may be willing to wait
AMOUNT = ("asset_unknown", "invalid_amount", "amount_exceeds_supply")
KEY = ("idempotency_key_required", "idempotency_key_invalid", "idempotency_mismatch", "idempotency_in_flight")


class OneToOneWish(s.Taken, frozen=True):
    """How long a one-to-one the viewer would like, and what is agreed to: all is optional where nothing is asked.

    `max_price` is the price that was shown: where it has risen since, nothing is held. A `tip` may be more than that.
    A request that nobody has taken after `expires_s` is given back.
    """

    seconds: Length | None = None
    max_price: WireAmount | None = None
    tip: WireAmount | None = None
    expires_s: Annotated[int, Meta(ge=EXPIRES_S[0], le=EXPIRES_S[1])] | None = None


class OfferView(msgspec.Struct, frozen=True):
    """What a streamer asks for a one-to-one; version 0 and null where nothing is."""

    version: int
    offer: Offer | None


class OneToOneLine(msgspec.Struct, frozen=True):
    """One request and what became of it; times in epoch ms, amounts null where nothing was held.

    Seconds and amounts are those of all that was agreed on, with more time that was asked for later.
    `cursor` is what the next page begins after.
    """

    cursor: str
    request: str
    stream: str
    streamer: str
    viewer: str
    seconds: int
    state: str
    reason: str
    asked_at: int
    started_at: int | None
    ended_at: int | None
    delivered_s: int
    held: WireAmount | None
    captured: WireAmount | None
    refunded: WireAmount | None


class OneToOneList(msgspec.Struct, frozen=True):
    """Requests; there may be more when the page is full."""

    one_to_ones: tuple[OneToOneLine, ...]


class OneToOneQuery(s.Taken, frozen=True):
    """Which part of a list: what follows `after`, a cursor from the page before."""

    after: Annotated[str, Meta(pattern=r"^[0-9]{0,15}$")] = ""
    limit: s.PageSize = 50


def one_to_one_routes(desk: OneToOneDesk) -> list[Route]:
    """Return the routes of one-to-ones that money, or conditions, decide about."""

    async def show_offer(asked: Asked) -> Answer:
        return Answer(OfferView(*await desk.offer(_stream(asked), asked.actor)))

    async def put_offer(asked: Asked) -> Answer:
        return Answer(OfferView(await desk.put_offer(_stream(asked), asked.actor, asked.body), asked.body))

    async def ask(asked: Asked) -> Answer:
        new: OneToOneWish = asked.body
        key, request = asked.headers.get("Idempotency-Key"), None
        if key is not None:
            route = f"POST /streams/{_stream(asked)}/one_to_one/requests"
            request = read_request_untrusted(asked.actor.account, route, key, msgspec.json.encode(new))

        wish = Wish(new.seconds, new.max_price, new.tip, new.expires_s)
        answered = await desk.ask(_stream(asked), asked.actor, wish, request, asked.session.surface)
        return Answer(answered.body, {"Idempotent-Replayed": "true"} if answered.replayed else {}, answered.status)

    async def place(asked: Asked) -> Answer:
        return Answer(await desk.place(_stream(asked), asked.actor))

    async def queue(asked: Asked) -> Answer:
        lines = await desk.queue(_stream(asked), asked.actor)
        return Answer(OneToOneList(tuple(_line("", one) for one in lines)))

    async def mine(asked: Asked) -> Answer:
        before = int(asked.query.after) if asked.query.after else FIRST
        lines = await desk.of_account(asked.actor.account, before, asked.query.limit)
        return Answer(OneToOneList(tuple(_line(str(number), one) for number, one in lines)))

    offer, requests = f"{STREAM}/one_to_one/offer", f"{STREAM}/one_to_one/requests"
    asking = (
        *SEEING,
        *("stream_ended", "request_exists", "request_too_soon", "too_many_requests", "mode_conflict", "not_present"),
        *("duration_out_of_range", "payment_required", "price_changed", "invalid_price"),
        *("insufficient_funds", "in_debt", "asset_not_allowed_on_surface"),
        *("conditions_not_met", "kyf_required", "suspended", "invalid_request", *AMOUNT, *KEY),
    )
    offering = (
        *OWNING,
        "duration_out_of_range",
        "invalid_offer",
        "recipient_not_eligible",
        "invalid_rules",
        "invalid_request",
        *AMOUNT,
    )

    def route(method: str, path: str, summary: str, serve: Any, **more: Any) -> Route:
        return Route(method, path, summary, serve, **{"problems": SEEING, **more})

    return [
        route("GET", offer, "Show what is asked for a one-to-one", show_offer, result=OfferView, problems=OWNING),
        route(
            "PUT", offer, "Say what I ask for a one-to-one", put_offer, body=Offer, result=OfferView, problems=offering
        ),
        route(
            "POST",
            requests,
            "Ask for a one-to-one, with what it costs held until it begins",
            ask,
            body=OneToOneWish,
            result=Waits,
            status=201,
            problems=asking,
        ),
        route(
            "GET",
            requests,
            "Show who waits, with what is held, to the streamer",
            queue,
            result=OneToOneList,
            problems=OWNING,
        ),
        route(
            "GET",
            f"{STREAM}/one_to_one/place",
            "Show my place in the queue, and when it would begin",
            place,
            result=Place,
            problems=(*OWNING, "request_unknown"),
        ),
        route(
            "GET",
            f"{ROOT}/me/one_to_ones",
            "List what I asked for and was asked for, with what was paid",
            mine,
            query=OneToOneQuery,
            result=OneToOneList,
            problems=("no_session", "rate_limited", "invalid_request"),
        ),
    ]


def _line(cursor: str, one: OneToOne) -> OneToOneLine:
    amount = one.whole_held
    asset = None if amount is None else amount.asset
    settled = asset is not None and not one.is_open
    return OneToOneLine(
        cursor,
        one.id,
        one.stream,
        one.streamer,
        one.viewer,
        one.whole_seconds,
        one.state.value,
        one.reason,
        one.asked_at,
        one.started_at,
        one.ended_at,
        one.delivered_ms // 1000,
        None if amount is None else wire_amount(amount),
        WireAmount(asset or "", str(one.captured)) if settled else None,
        WireAmount(asset or "", str(one.refunded)) if settled else None,
    )


def _stream(asked: Asked) -> StreamId:
    return StreamId(asked.path["stream"])

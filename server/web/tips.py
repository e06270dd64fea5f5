"""The API of tips: a quote, the tip itself, and taking one back."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.money.amounts import WireAmount, read_amount_untrusted
from server.money.assets import Assets
from server.money.idempotency import Answered, read_request_untrusted
from server.money.tip_jar import QuoteView, TipJar, Wish
from server.money.tips import TipView
from server.web import schemas as s
from server.web.api import ROOT
from server.web.money import ADMIN, AMOUNT, KEY
from server.web.routes import Access, Answer, Asked, Route
from signalling.identifiers import StreamId
from signalling.refusals import Refused

KEYED = ("idempotency_key_required", *KEY)
PRICED = (*AMOUNT, "asset_not_allowed_on_surface", "amount_too_small", "rate_unavailable", "invalid_request")
SPENDING = ("insufficient_funds", "in_debt")
Id = Annotated[str, Meta(min_length=1, max_length=64)]


class Context(s.Taken, frozen=True):
    """Where a tip is given: on the recipient's profile, in the stream `id` of the recipient's, or in a conversation."""

    kind: Literal["profile", "stream", "conversation"] = "profile"
    id: Id | None = None


class NewTip(s.Taken, frozen=True):
    """A tip: to whom, by name; by which link, for what of the menu. `anonymous`: to everybody but the recipient."""

    to: s.Name
    amount: WireAmount
    context: Context = Context()
    message: Annotated[str, Meta(max_length=2000)] = ""
    anonymous: bool = False
    quote: Id | None = None
    link: Id | None = None
    menu_item: Id | None = None


class WantedQuote(s.Taken, frozen=True):
    """What is to be converted."""

    amount: WireAmount


def tip_routes(jar: TipJar, assets: Assets) -> list[Route]:
    """Return the routes of tips."""

    async def quote(asked: Asked) -> Answer:
        amount = read_amount_untrusted(asked.body.amount, assets)
        return Answer(await jar.quote(amount, asked.session.surface))

    async def give(asked: Asked) -> Answer:
        new: NewTip = asked.body
        key = asked.headers.get("Idempotency-Key")
        request = read_request_untrusted(asked.actor.account, "POST /tips", key, msgspec.json.encode(new))
        amount = read_amount_untrusted(new.amount, assets)
        wish = Wish(
            new.to,
            amount,
            _stream(new.context),
            new.message,
            new.anonymous,
            new.quote,
            new.link,
            new.menu_item,
            new.context.id if new.context.kind == "conversation" else None,
        )
        return answer(await jar.give(asked.session, wish, request))

    async def show(asked: Asked) -> Answer:
        return Answer(await jar.find(asked.actor.account, asked.path["tip"]))

    async def reverse(asked: Asked) -> Answer:
        return Answer(await jar.reverse(asked.path["tip"]))

    return [
        Route(
            "POST",
            f"{ROOT}/quotes",
            "What would arrive of an amount, promised for some minutes",
            quote,
            body=WantedQuote,
            result=QuoteView,
            status=201,
            problems=("no_session", "rate_limited", "not_stored", "nothing_to_convert", *PRICED),
        ),
        Route(
            "POST",
            f"{ROOT}/tips",
            "Tip somebody",
            give,
            body=NewTip,
            result=TipView,
            status=201,
            problems=(
                *("no_session", "rate_limited", "not_stored", "account_unknown", "self_tip", "bad_context"),
                *("conversation_unknown", "not_in_conversation", "read_only"),
                "tip_link_unknown",
                "menu_item_unknown",
                "price_changed",
                *("invalid_message", "recipient_not_eligible", "step_up_required", "quote_expired"),
                *PRICED,
                *SPENDING,
                *KEYED,
            ),
        ),
        Route(
            "GET",
            f"{ROOT}/tips/{{tip}}",
            "A tip that I gave or got",
            show,
            result=TipView,
            problems=("no_session", "tip_unknown"),
        ),
        Route(
            "POST",
            f"{ROOT}/admin/tips/{{tip}}/reverse",
            "Take a tip back",
            reverse,
            Access.ADMIN,
            result=TipView,
            problems=(*ADMIN, "tip_unknown", "already_reversed", "not_stored"),
        ),
    ]


def answer(answered: Answered) -> Answer:
    """Return what a request with an Idempotency-Key is answered with."""
    return Answer(answered.body, {"Idempotent-Replayed": "true"} if answered.replayed else {}, answered.status)


def _stream(context: Context) -> StreamId | None:
    if (context.kind != "profile") != (context.id is not None):
        raise Refused("bad_context", "a stream and a conversation have an id, a profile none")
    return StreamId(context.id) if context.kind == "stream" and context.id is not None else None

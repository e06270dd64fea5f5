"""The API of requests for paid private chats."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.bids.desk import DOING, BidDesk
from server.bids.rows import BidView
from server.money.amounts import WireAmount, read_amount_untrusted
from server.money.assets import Assets
from server.money.idempotency import read_request_untrusted
from server.web import schemas as s
from server.web.api import ROOT
from server.web.conversations import CONVERSATION
from server.web.money import AMOUNT, KEY
from server.web.routes import Answer, Asked, Route, Serve
from server.web.tips import answer

SUMMARIES = {
    "accept": "Accept a paid chat; it is paid when the other says so, or after two days in which I have written",
    "decline": "Don't, or give back what I had accepted",
    "withdraw": "Ask no longer for a paid chat that was not accepted",
    "confirm": "Say that I had my chat: it is paid",
}


class NewBid(s.Taken, frozen=True):
    """A request for a paid chat with the other of two: how much is held for it, and in which words it is asked for."""

    amount: WireAmount
    words: Annotated[str, Meta(max_length=4000)] = ""


def bid_routes(desk: BidDesk, assets: Assets) -> list[Route]:
    """Return the routes of paid chats."""

    async def ask(asked: Asked) -> Answer:
        new: NewBid = asked.body
        route, key = f"POST {asked.path['conversation']}/bids", asked.headers.get("Idempotency-Key")
        request = read_request_untrusted(asked.actor.account, route, key, msgspec.json.encode(new))
        amount = read_amount_untrusted(new.amount, assets)
        return answer(await desk.ask(asked.session, asked.path["conversation"], amount, new.words, request))

    async def show(asked: Asked) -> Answer:
        return Answer(await desk.show(asked.actor.account, asked.path["bid"]))

    def doing(word: str) -> Serve:
        async def do(asked: Asked) -> Answer:
            return Answer(await desk.do(asked.actor.account, asked.path["bid"], word))

        return do

    one = f"{ROOT}/bids/{{bid}}"
    seeing = ("no_session", "rate_limited", "bid_unknown")
    asking = (
        *("no_session", "rate_limited", "not_stored", "too_fast", "conversation_unknown", "not_in_conversation"),
        *("read_only", "bad_context", "account_unknown", "recipient_not_eligible", "asset_not_allowed_on_surface"),
        *("bid_exists", "too_many_bids", "insufficient_funds", "in_debt", "amount_too_small", "invalid_request"),
        *("invalid_message", "message_too_long", "idempotency_key_required", *AMOUNT, *KEY),
    )
    return [
        Route(
            "POST",
            f"{CONVERSATION}/bids",
            "Ask for a paid chat; what is bid is held until it is accepted and had, or given back",
            ask,
            body=NewBid,
            result=BidView,
            status=201,
            problems=asking,
        ),
        Route("GET", one, "A paid chat that I asked for, or was asked for", show, result=BidView, problems=seeing),
        *(
            Route(
                "POST",
                f"{one}/{word}",
                SUMMARIES[word],
                doing(word),
                result=BidView,
                problems=(*seeing, "bid_closed", "not_stored"),
            )
            for word in DOING
        ),
    ]

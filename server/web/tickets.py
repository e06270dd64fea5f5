"""The API of tickets: what streamers sell, and what viewers reserve, buy and wait for."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from server.money.amounts import WireAmount
from server.money.idempotency import Answered, Request, read_request_untrusted
from server.money.ticket_desk import NewSale
from server.money.ticket_views import MyTickets, Position, ReportView, SaleView, TicketView
from server.money.tickets import DELIVERED_S
from server.tokens import Claims
from server.web import schemas as s
from server.web.api import OWNING, ROOT, SEEING, STREAM
from server.web.routes import Answer, Asked, Route
from server.web.tips import answer
from signalling.identifiers import Actor, StreamId

SALE = f"{ROOT}/sales/{{sale}}"
RESERVATION = f"{ROOT}/reservations/{{reservation}}"
OF_SALE = ("no_session", "sale_unknown", "rate_limited")
SELLING = (*OF_SALE, "not_the_owner", "sale_closed")
AMOUNT = ("asset_unknown", "invalid_amount", "amount_exceeds_supply", "invalid_request")
PRICE = ("invalid_quantity", "invalid_price", *AMOUNT)
KEY = ("idempotency_key_required", "idempotency_key_invalid", "idempotency_mismatch", "idempotency_in_flight")
PAYING = ("insufficient_funds", "in_debt", "asset_not_allowed_on_surface")
COMING_IN = ("stream_ended", "kyf_required", "ejected", "own_ticket", "ticket_exists", "sale_closed")
Epoch = Annotated[int, Meta(ge=0, le=2**53)]  # JavaScript's numbers end there
Number = Annotated[int, Meta(ge=0, le=2**53)]


class Desk(Protocol):
    """What these routes need of `server.money.ticket_desk`."""

    async def open_sale(self, actor: Actor, stream: StreamId, new: NewSale) -> SaleView:
        """Sell tickets for a stream."""

    async def show(self, actor: Actor, stream: StreamId) -> SaleView:
        """Show a stream's newest sale."""

    async def change(
        self, actor: Actor, sale_id: str, price: WireAmount | None, late_price: WireAmount | None, quantity: int | None
    ) -> SaleView:
        """Change a sale."""

    async def close(self, actor: Actor, sale_id: str) -> SaleView:
        """Sell no more."""

    async def cancel(self, actor: Actor, sale_id: str) -> SaleView:
        """End a sale."""

    async def refund(self, actor: Actor, sale_id: str, ticket_id: str) -> None:
        """Give one buyer the money back."""

    async def report(self, actor: Actor, sale_id: str, after: int, limit: int) -> ReportView:
        """Show its streamer how a sale goes."""

    async def reserve(self, session: Claims, sale_id: str, price_seen: WireAmount, request: Request) -> Answered:
        """Keep a seat."""

    async def buy(self, session: Claims, sale_id: str, price_seen: WireAmount, request: Request) -> Answered:
        """Buy a ticket."""

    async def pay(self, session: Claims, ticket_id: str, request: Request) -> Answered:
        """Pay for a reserved seat."""

    async def give_up(self, actor: Actor, ticket_id: str) -> None:
        """End a reservation."""

    async def wait(self, actor: Actor, sale_id: str) -> Position:
        """Queue up for a ticket."""

    async def stop_waiting(self, actor: Actor, sale_id: str) -> None:
        """Leave the queue."""

    async def mine(self, actor: Actor, before: int | None, limit: int) -> MyTickets:
        """Show somebody's own tickets."""


class SaleToOpen(s.Taken, frozen=True):
    """Seats to sell for a stream's ticket-only part, from `opens_at` (null: now) to `closes_at` (null: open end).

    Once the show has begun a ticket costs `late_price` (null: the same). The streamer is paid once `delivered_after_s`
    of it were delivered; a show that is planned to be shorter says so here, before anybody buys.
    """

    price: WireAmount
    quantity: int
    late_price: WireAmount | None = None
    opens_at: Epoch | None = None
    closes_at: Epoch | None = None
    delivered_after_s: Annotated[int, Meta(ge=1, le=86_400)] = DELIVERED_S


class SaleChange(s.Taken, frozen=True):
    """What to change of a sale; null leaves it as it is."""

    price: WireAmount | None = None
    late_price: WireAmount | None = None
    quantity: int | None = None


class PriceSeen(s.Taken, frozen=True):
    """The price that the buyer was shown: more is never charged."""

    price_seen: WireAmount


class ReportQuery(s.Taken, frozen=True):
    """Which part of a report's tickets: those numbered above `after`."""

    after: Number = 0
    limit: s.PageSize = 100


class MineQuery(s.Taken, frozen=True):
    """Which part of one's tickets: those numbered below `before`."""

    before: Number | None = None
    limit: s.PageSize = 50


def ticket_routes(desk: Desk) -> list[Route]:
    """Return the routes of tickets."""
    return [*_selling_routes(desk), *_buying_routes(desk), *_waiting_routes(desk)]


def _selling_routes(desk: Desk) -> list[Route]:
    async def open_sale(asked: Asked) -> Answer:
        new: SaleToOpen = asked.body
        sale = NewSale(new.price, new.quantity, new.late_price, new.opens_at, new.closes_at, new.delivered_after_s)
        return Answer(await desk.open_sale(asked.actor, StreamId(asked.path["stream"]), sale))

    async def show(asked: Asked) -> Answer:
        return Answer(await desk.show(asked.actor, StreamId(asked.path["stream"])))

    async def change(asked: Asked) -> Answer:
        new: SaleChange = asked.body
        return Answer(await desk.change(asked.actor, asked.path["sale"], new.price, new.late_price, new.quantity))

    async def close(asked: Asked) -> Answer:
        return Answer(await desk.close(asked.actor, asked.path["sale"]))

    async def cancel(asked: Asked) -> Answer:
        return Answer(await desk.cancel(asked.actor, asked.path["sale"]))

    async def refund(asked: Asked) -> Answer:
        await desk.refund(asked.actor, asked.path["sale"], asked.path["ticket"])
        return Answer()

    async def report(asked: Asked) -> Answer:
        return Answer(await desk.report(asked.actor, asked.path["sale"], asked.query.after, asked.query.limit))

    return [
        Route(
            "POST",
            f"{STREAM}/sales",
            "Sell tickets for a stream",
            open_sale,
            body=SaleToOpen,
            result=SaleView,
            status=201,
            problems=(*OWNING, "sale_exists", "invalid_sale", "rate_unavailable", *PRICE),
        ),
        Route(
            "GET",
            f"{STREAM}/sale",
            "What a ticket costs now, how many are left, and mine",
            show,
            result=SaleView,
            problems=(*SEEING, "sale_unknown"),
        ),
        Route(
            "PATCH",
            SALE,
            "Change price or seats; who has reserved keeps the old price",
            change,
            body=SaleChange,
            result=SaleView,
            problems=(*SELLING, "quantity_taken", *PRICE),
        ),
        Route("POST", f"{SALE}/close", "Sell no more", close, result=SaleView, problems=SELLING),
        Route(
            "POST",
            f"{SALE}/cancel",
            "End the sale: everybody is paid back, unless the show was delivered",
            cancel,
            result=SaleView,
            problems=(*SELLING, "rate_unavailable"),
        ),
        Route(
            "DELETE",
            f"{SALE}/tickets/{{ticket}}",
            "Give one buyer the money back; answers when the ticket lets in no more",
            refund,
            status=204,
            problems=(*SELLING, "ticket_unknown", "show_delivered"),
        ),
        Route(
            "GET",
            f"{SALE}/report",
            "How a sale goes: seats, money, who",
            report,
            query=ReportQuery,
            result=ReportView,
            problems=(*SELLING[:-1], "invalid_request"),
        ),
    ]


def _buying_routes(desk: Desk) -> list[Route]:
    async def reserve(asked: Asked) -> Answer:
        request = _request(asked, f"POST /sales/{asked.path['sale']}/reservations", asked.body)
        return answer(await desk.reserve(asked.session, asked.path["sale"], asked.body.price_seen, request))

    async def buy(asked: Asked) -> Answer:
        request = _request(asked, f"POST /sales/{asked.path['sale']}/tickets", asked.body)
        return answer(await desk.buy(asked.session, asked.path["sale"], asked.body.price_seen, request))

    async def pay(asked: Asked) -> Answer:
        request = _request(asked, f"POST /reservations/{asked.path['reservation']}/pay", None)
        return answer(await desk.pay(asked.session, asked.path["reservation"], request))

    async def give_up(asked: Asked) -> Answer:
        await desk.give_up(asked.actor, asked.path["reservation"])
        return Answer()

    buying = (*OF_SALE, *COMING_IN, *KEY, *AMOUNT, "sale_not_open", "sold_out", "price_changed")
    return [
        Route(
            "POST",
            f"{SALE}/reservations",
            "Keep a seat for two minutes",
            reserve,
            body=PriceSeen,
            result=TicketView,
            status=201,
            problems=(*buying, "asset_not_allowed_on_surface", "reserved_too_often"),
        ),
        Route(
            "POST",
            f"{SALE}/tickets",
            "Buy a ticket at once; answers when its holder is let in",
            buy,
            body=PriceSeen,
            result=TicketView,
            status=201,
            problems=(*buying, *PAYING),
        ),
        Route(
            "POST",
            f"{RESERVATION}/pay",
            "Pay for a reserved seat; answers when its holder is let in",
            pay,
            result=TicketView,
            status=201,
            problems=("no_session", "reservation_unknown", "reservation_expired", *COMING_IN, *KEY, *PAYING),
        ),
        Route(
            "DELETE",
            RESERVATION,
            "Give a reserved seat up",
            give_up,
            status=204,
            problems=("no_session", "reservation_unknown", "rate_limited"),
        ),
    ]


def _waiting_routes(desk: Desk) -> list[Route]:
    async def wait(asked: Asked) -> Answer:
        return Answer(await desk.wait(asked.actor, asked.path["sale"]))

    async def stop_waiting(asked: Asked) -> Answer:
        await desk.stop_waiting(asked.actor, asked.path["sale"])
        return Answer()

    async def mine(asked: Asked) -> Answer:
        return Answer(await desk.mine(asked.actor, asked.query.before, asked.query.limit))

    return [
        Route(
            "PUT",
            f"{SALE}/waiting",
            "Queue up for a ticket: the first is offered the next seat that becomes free",
            wait,
            result=Position,
            problems=(*OF_SALE, *COMING_IN, "not_sold_out", "too_many_waiting", "reserved_too_often"),
        ),
        Route("DELETE", f"{SALE}/waiting", "Leave the queue", stop_waiting, status=204, problems=OF_SALE),
        Route(
            "GET",
            f"{ROOT}/me/tickets",
            "My tickets",
            mine,
            query=MineQuery,
            result=MyTickets,
            problems=("no_session", "invalid_request"),
        ),
    ]


def _request(asked: Asked, route: str, body: PriceSeen | None) -> Request:
    digested = b"" if body is None else msgspec.json.encode(body)
    return read_request_untrusted(asked.actor.account, route, asked.headers.get("Idempotency-Key"), digested)

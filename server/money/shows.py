"""Shows: keeps sales in step with what becomes of their streams, and does what is due: pay out, or pay back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog

from server.database.store import Database
from server.money import books, box_office, ticket_reports
from server.money import tickets as t
from server.money.assets import Assets
from server.money.payments import Terms
from server.money.quotes import make_quote
from server.money.tickets import Sale, Show
from server.money.tips import Rates
from server.money.usher import Usher
from signalling.identifiers import AccountId, Mode, StreamId
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms

FORFEITS_EVERY_MS = 5000  # to look through all tickets of running sales takes a while where there are many
AT_ONCE = 100  # sales looked at, or tickets given back, in one go: some milliseconds of the writer

log = structlog.get_logger("shows")


class Shows:
    """What is due in sales, over a node's store and rooms; raises Refused and StoreFailed."""

    def __init__(
        self,
        store: Database,
        rooms: Rooms,
        usher: Usher,
        assets: Assets,
        rates: Rates,
        fee_bps: int,
        wall_ms: Callable[[], int],
    ) -> None:
        self._store, self._rooms, self._usher = store, rooms, usher
        self._assets, self._rates, self.fee_bps, self._wall_ms = assets, rates, fee_bps, wall_ms
        self._forfeits_at = 0
        self.paid_out = self.paid_back = 0

    def counters(self) -> dict[str, int]:
        """How often sellers were paid, and how many tickets were given back, by name."""
        return {"shows_paid_out": self.paid_out, "tickets_paid_back": self.paid_back}

    def terms(self, sale: Sale, now_ms: int) -> Terms:
        """Return what happens to a sale's money on its way to the seller. Raises Refused("rate_unavailable")."""
        asset = self._assets.find(sale.price.asset)
        if asset.settles_in == asset.code:
            return Terms(self.fee_bps)
        rate = self._rates.rate(asset.code, asset.settles_in, now_ms)
        return Terms(self.fee_bps, make_quote(f"{sale.id}.{now_ms}", rate, now_ms))

    async def look(self, sale: Sale) -> tuple[Show | None, int]:
        """Return what became of a sale's show, None when only another node knows; and how often devices took over."""
        stream = StreamId(sale.stream)
        state = self._rooms.state(stream)
        if state is not None:
            show = Show(state.ended is None, state.mode is Mode.PAID, self._rooms.shown_s(stream))
            return show, state.takeovers
        shown = await self._store.read(ticket_reports.shown, stream)
        return (Show(False, False, shown.shown_ms // 1000) if shown.has_ended else None), shown.takeovers

    async def keep_up(self, sale: Sale) -> Sale:
        """Do what is due in a sale by what became of its show; returns it as it is then."""
        if sale.state not in (t.SaleState.OPEN, t.SaleState.CLOSED):
            return sale
        show, _ = await self.look(sale)
        command = None if show is None else t.due(sale, show, self._wall_ms())
        return sale if command is None else await self.apply(sale, command)

    async def apply(self, sale: Sale, command: t.Begin | t.Close | t.Earn | t.Settle | t.Cancel) -> Sale:
        """Take one step in a sale; raises Refused("sale_closed") when another was faster."""
        now = self._wall_ms()
        if isinstance(command, t.Begin | t.Close):
            after = await self._store.write(box_office.change, sale.id, command, now)
        else:
            after = await self._store.write(box_office.earn, sale.id, command, self.terms(sale, now), now)
            self.paid_out += after.earned
        self._usher.look()
        return after

    # -- duties of the clerk -------------------------------------------------------------------------------------------

    def duties(self) -> Mapping[str, Callable[[int], Awaitable[int]]]:
        """Return what is to be done again and again, by name."""
        return {
            "reservations": self._end_reservations,
            "shows": self._keep_up_with_shows,
            "refunds": self._pay_back,
            "forfeited tickets": self._take_back,
        }

    async def _end_reservations(self, now_ms: int) -> int:
        if not await self._store.read(box_office.any_run_out, now_ms):
            return 0
        ended = await self._store.write(box_office.run_out, now_ms, AT_ONCE)
        if ended:
            self._usher.look()
        return len(ended)

    async def _keep_up_with_shows(self, now_ms: int) -> int:
        done, after = 0, ""
        while True:
            sales = await self._store.read(ticket_reports.running_sales, after, AT_ONCE)
            for sale in sales:
                done += await self._keep_up_with(sale)
            if len(sales) < AT_ONCE:
                return done
            after = sales[-1].id

    async def _keep_up_with(self, sale: Sale) -> bool:
        """Do one thing that is due; one sale that can't be served now keeps no other waiting."""
        try:
            if await self.keep_up(sale) != sale:
                return True
            there = await self._store.read(books.balance, box_office.escrow(sale)) if sale.earned else 0
            now = self._wall_ms()
            if there and box_office.is_worth_paying(sale, there, terms := self.terms(sale, now)):
                paid = await self._store.write(box_office.pay_out, sale.id, terms, now)
                self.paid_out += paid
                return paid
        except Refused as refused:
            if refused.code != "sale_closed":  # that another node was faster is nothing to worry about
                log.warning("show_not_kept_up", sale=sale.id, reason=refused.code)
        return False

    async def _pay_back(self, now_ms: int) -> int:
        done = 0
        for sale_id in await self._store.read(ticket_reports.owing_sales, AT_ONCE):
            sale = await self._store.read(ticket_reports.find_sale, sale_id)
            refunded = await self._store.write(box_office.refund_some, sale_id, now_ms, AT_ONCE)
            self.paid_back += len(refunded)
            done += len(refunded)
            self._usher.look()
            await self._usher.seat_soon(StreamId(sale.stream), [AccountId(ticket.account) for ticket in refunded])
        return done

    async def _take_back(self, now_ms: int) -> int:
        if now_ms < self._forfeits_at:
            return 0
        self._forfeits_at = now_ms + FORFEITS_EVERY_MS
        done = 0
        for ticket in await self._store.read(ticket_reports.forfeited_tickets, AT_ONCE):
            sale = await self._store.read(ticket_reports.find_sale, ticket.sale)
            try:
                await self._store.write(box_office.refund, ticket.id, now_ms)
            except Refused:
                continue  # refunded, or earned, in between
            done += 1
            self._usher.look()
            await self._usher.seat_soon(StreamId(sale.stream), [AccountId(ticket.account)])
        self.paid_back += done
        return done

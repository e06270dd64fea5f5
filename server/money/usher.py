"""The usher: carries into the rooms what was paid for, whoever wrote it. Who paid is let in, then told.

What an account has is read anew each time and never taken from an event, and one stream's accounts are carried one
batch after the other; so the last that a room hears is the last that was written. The event log says whom to look at:
whose ticket changed, and between whom a tip was given or taken back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio

from server.access.service import Access
from server.database.prepared import Prepared
from server.database.store import Database, StoreFailed
from server.events import eventlog
from server.events.eventlog import Happened, LoggedEvent
from server.money import ticket_reports
from server.money.tickets import Sale, SaleState, TicketState
from signalling.identifiers import AccountId, StreamId
from signalling.policy import commands as c
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms
from signalling.wire import tickets as w
from signalling.wire.views import Money, TicketOffer

RETRY_S = 1.0  # after the database failed, or a room
PATIENCE_S = 5.0  # a purchase that is on the disk is answered then, although its room could not be told yet
ATTEMPT_S = 10.0  # a room that did not take it in by then is asked anew: it has long answered, or never will
NEWS_AT_ONCE = 500  # events
OF_TIPS = {"tip.created", "tip.reversed"}

SEATS: dict[TicketState | None, c.Seat] = {TicketState.SOLD: "bought", TicketState.RESERVED: "paying", None: "none"}
# Returns when there may be an event above an id, for an account or, None, for anybody.
WaitBeyond = Callable[[int, str | None], Awaitable[None]]
_NEWEST = Prepared("SELECT COALESCE(max(id), 0) FROM event_log")

log = structlog.get_logger("usher")


@dataclass(slots=True)
class _Batch:
    """Whose seats are to be carried into one room, with what is on sale, and what is set when it knows."""

    accounts: set[AccountId] = field(default_factory=set)
    is_wanted: bool = False
    done: trio.Event = field(default_factory=trio.Event)


class Usher:
    """Keeps what rooms know of tickets true; `run` it after the rooms and before anybody is served.

    `wait_beyond` is `server.events.feed.Feed`'s: it wakes the usher for what other nodes write, too.
    """

    def __init__(self, store: Database, rooms: Rooms, access: Access, clock: Clock, wait_beyond: WaitBeyond) -> None:
        self._store, self._rooms, self._access, self._clock = store, rooms, access, clock
        self._wait_beyond = wait_beyond
        self._waiting: dict[StreamId, _Batch] = {}
        self._nursery: trio.Nursery | None = None
        self._read = 0
        self._news = trio.Event()
        self.seated = self.failures = self.late = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let in who has paid for running streams, then keep it so until cancelled. Raises StoreFailed at first."""
        async with trio.open_nursery() as self._nursery:
            self._read = await self._store.read(lambda connection: int(_NEWEST(connection).fetchone()[0]))
            for stream in self._rooms.owners():
                await self.seat(stream, map(AccountId, await self._store.read(ticket_reports.seats_of, stream)))
            self._nursery.start_soon(self._follow)
            task_status.started()

    async def seat(self, stream: StreamId, accounts: Iterable[AccountId]) -> None:
        """Have a room know what these accounts have by now; returns when it does, for the last packet, too."""
        assert self._nursery is not None, "the usher is not running"
        batch = self._waiting.get(stream)
        if batch is None:
            batch = self._waiting[stream] = _Batch()
            self._nursery.start_soon(self._work, stream)
        batch.accounts.update(accounts)
        batch.is_wanted = True
        await batch.done.wait()

    async def seat_soon(self, stream: StreamId, accounts: Iterable[AccountId]) -> None:
        """Do as `seat`, but return after PATIENCE_S although the room does not know yet; it will, as soon as it can.

        For those who wait for what is written already, and for whom one room must not hold up all others.
        """
        with trio.move_on_after(PATIENCE_S) as patience:
            await self.seat(stream, accounts)
        if patience.cancelled_caught:
            self.late += 1
            log.error("tickets_late", stream=stream)

    def look(self) -> None:
        """Look into the log at once: something was written."""
        self._news.set()

    def counters(self) -> dict[str, int]:
        """How much was carried, by name."""
        return {"tickets_carried": self.seated, "tickets_late": self.late, "ticket_failures": self.failures}

    # -- one room after the other's batch ------------------------------------------------------------------------------

    async def _work(self, stream: StreamId) -> None:
        while self._waiting[stream].is_wanted:
            batch = self._waiting[stream]
            self._waiting[stream] = _Batch()
            await self._carry_surely(stream, sorted(batch.accounts))
            batch.done.set()
        self._waiting.pop(stream).done.set()

    async def _carry_surely(self, stream: StreamId, accounts: list[AccountId]) -> None:
        is_first = True
        while True:
            try:
                with trio.fail_after(ATTEMPT_S):
                    return await self._carry(stream, accounts, is_first)
            except Exception:
                # Meanwhile who paid waits outside, and who was paid back is not cut: never give up.
                self.failures += 1
                log.exception("tickets_not_carried", stream=stream, accounts=len(accounts))
            is_first = False
            await trio.sleep(RETRY_S)

    async def _carry(self, stream: StreamId, accounts: list[AccountId], is_first: bool) -> None:
        state = self._rooms.state(stream)
        if state is None:
            return
        before = state.bought
        seats = await self._store.read(ticket_reports.seats_among, stream, accounts)
        offer = _offer(await self._store.read(ticket_reports.sale_of, stream))
        now = tuple((account, SEATS[seats.get(account)]) for account in accounts)
        await self._rooms.take(stream, c.Seated(now, offer))
        state = self._rooms.state(stream)
        if state is None:
            return
        # An attempt that failed may have changed who has a ticket, and not come to judge them.
        changed = (before ^ state.bought if is_first else frozenset(accounts)) & state.present & frozenset(accounts)
        async with trio.open_nursery() as nursery:
            for account in changed:  # the rules of a private part may ask for a ticket; they are judged together
                nursery.start_soon(self._access.reconsider, stream, account)
        self.seated += len(accounts)

    # -- news ----------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            self._news = trio.Event()
            try:
                news = await self._store.read(eventlog.read_from, self._read, NEWS_AT_ONCE)
            except StoreFailed:
                self.failures += 1
                log.exception("news_not_read")
                await trio.sleep(RETRY_S)
                continue
            if news:
                await self._take(news)
                self._read = news[-1].id
            else:
                await self._wait()

    async def _wait(self) -> None:
        """Wait for news, of this node or of any."""
        async with trio.open_nursery() as nursery:

            async def wait_for_any() -> None:
                await self._wait_beyond(self._read, None)
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for_any)
            await self._news.wait()
            nursery.cancel_scope.cancel()

    async def _take(self, news: list[LoggedEvent]) -> None:
        events = [logged.event for logged in news]
        concerned: dict[StreamId, set[AccountId]] = {}
        givers: dict[AccountId, set[AccountId]] = {}
        for event in events:
            if event.type in w.OF_TICKETS:
                concerned.setdefault(StreamId(event.subject), set()).add(AccountId(event.fields["account"]))
            elif event.type in w.OF_SALES:
                concerned.setdefault(StreamId(event.subject), set())
            elif event.type in OF_TIPS:
                givers.setdefault(AccountId(event.subject), set()).add(AccountId(event.fields["from"]["id"]))
        async with trio.open_nursery() as nursery:
            for stream, accounts in concerned.items():
                nursery.start_soon(self.seat_soon, stream, accounts)
            for streamer, accounts in givers.items():
                nursery.start_soon(self._judge_soon, streamer, accounts)
        for event in events:
            try:
                self._tell(event)
            except Exception:
                # It is carried already; one event that can't be told must not keep all later ones from being.
                self.failures += 1
                log.exception("news_not_told", type=event.type, stream=event.subject)

    async def _judge_soon(self, streamer: AccountId, accounts: set[AccountId]) -> None:
        """Have judged anew who gave tips: another node's, or one of ours whose request ended before it came to that."""
        with trio.move_on_after(PATIENCE_S) as patience:
            await self._access.changed_for_many(accounts, streamer)
        if patience.cancelled_caught:  # the service goes on by itself
            self.late += 1
            log.error("tips_late", streamer=streamer)

    def _tell(self, event: Happened) -> None:
        now, stream, fields = self._clock.wall_ms(), StreamId(event.subject), event.fields
        of: dict[str, Any] = {"server_now": now, "stream": stream}
        if (of_sale := w.OF_SALES.get(event.type)) is not None:
            told = {name: fields[name] for name in ("sale", "state", "price", "free")}
            self._rooms.tell_room(stream, of_sale(**of, **told))
        if (of_ticket := w.OF_TICKETS.get(event.type)) is not None:
            told = {name: fields[name] for name in ("sale", "ticket", "price", "until") if name in fields}
            self._rooms.tell(AccountId(fields["account"]), of_ticket(**of, **told))
            seats = w.SaleSeats(**of, sale=fields["sale"], free=fields["free"])
            self._rooms.tell_room(stream, seats, key=f"seats {stream}")


def _offer(sale: Sale | None) -> TicketOffer | None:
    if sale is None or sale.state is not SaleState.OPEN:
        return None
    price = sale.price_now
    return TicketOffer(sale.id, Money(price.asset, str(price.units)), sale.free)

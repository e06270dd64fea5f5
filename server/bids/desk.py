"""The desk of paid chats: what is bid is written down first, then told of; what nobody answers is given back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import msgspec
import sqlalchemy as sa

from server.bids import rows
from server.bids.rows import BidView, Wish
from server.bids.rules import Accept, Command, Confirm, Decline, Withdraw
from server.database.store import Database
from server.money.amounts import Amount
from server.money.assets import Assets
from server.money.clerk import Duty
from server.money.idempotency import Answered, Idempotent, Request
from server.talk.pace import Paces
from server.tokens import Claims
from signalling.messenger.wording import draft_untrusted
from signalling.refusals import Refused
from signalling.wire.views import Person

AT_ONCE = 100  # deadlines in one transaction: some milliseconds of the writer
DOING: Mapping[str, Command] = {
    "accept": Accept(),
    "decline": Decline(),
    "withdraw": Withdraw(),
    "confirm": Confirm(),
}


class BidDesk:
    """Paid chats on a node's store; raises Refused and StoreFailed. `nudge` has the log looked at."""

    def __init__(
        self,
        store: Database,
        assets: Assets,
        paces: Paces,
        fee_bps: int,
        wall_ms: Callable[[], int],
        nudge: Callable[[], None],
    ) -> None:
        self._store, self._assets, self._paces, self._fee_bps = store, assets, paces, fee_bps
        self._wall_ms, self._nudge = wall_ms, nudge
        self._keys = Idempotent(store)
        self.asked = self.refused = self.moved = self.run_out = 0

    def counters(self) -> dict[str, int]:
        """How much was bid, and what became of it, by name."""
        return {
            "bids_asked": self.asked,
            "bids_refused": self.refused,
            "bids_answered": self.moved,
            "bids_run_out": self.run_out,
        }

    async def ask(self, session: Claims, conversation: str, amount: Amount, words: str, request: Request) -> Answered:
        """Ask for a paid chat, once for each key; the answer holds a `BidView`. Raises Refused like `rows.ask`."""
        actor, now_ms = session.actor, self._wall_ms()
        self._paces.reach(actor.account)
        id, guest = secrets.token_hex(12), Person(actor.account, actor.name)
        wish = Wish(id, guest, conversation, amount, session.surface, draft_untrusted(words))
        try:
            answered = await self._keys.write(request, now_ms, _ask, wish, self._assets, self._fee_bps, now_ms)
        except Refused:
            self.refused += 1
            raise
        self.asked += not answered.replayed
        self._nudge()
        return answered

    async def do(self, account: str, bid: str, word: str) -> BidView:
        """Accept, decline, withdraw or confirm. Raises Refused (bid_unknown, bid_closed)."""
        view = await self._store.write(rows.move, bid, account, DOING[word], self._wall_ms())
        self.moved += 1
        self._nudge()
        return view

    async def show(self, account: str, bid: str) -> BidView:
        """Return a bid to one of the two. Raises Refused("bid_unknown")."""
        return await self._store.read(rows.find, bid, account)

    def duties(self) -> dict[str, Duty]:
        """Return what is to be done again and again, by name."""
        return {"paid chats whose time is over": self._run_out}

    async def _run_out(self, now_ms: int) -> int:
        if not await self._store.read(rows.due, now_ms, 1):
            return 0
        settled = await self._store.write(rows.run_out, now_ms, AT_ONCE)
        self.run_out += len(settled)
        self._nudge()
        return len(settled)


def _ask(connection: sa.Connection, wish: Wish, assets: Assets, fee_bps: int, now_ms: int) -> Answered:
    return Answered(201, msgspec.json.encode(rows.ask(connection, wish, assets, fee_bps, now_ms)))

"""What is to be done in the books again and again: the clerk's duties that are about no show."""

from __future__ import annotations

from server.database.store import Database
from server.money import books, debts, offers
from server.money.clerk import Duty
from server.money.idempotency import are_old_keys, forget_keys

AT_ONCE = 200  # expired holds in one transaction: a few milliseconds of the writer


def duties(store: Database) -> dict[str, Duty]:
    """Return what is to be done in the books again and again, by name."""

    # Each asks first: a write is a flush to the disk, and nearly always there is nothing to do.
    async def expire_holds(now_ms: int) -> int:
        if not await store.read(books.due_holds, now_ms, 1):
            return 0
        return len(await store.write(books.expire_due, now_ms, AT_ONCE))

    async def settle_debts(now_ms: int) -> int:
        if not await store.read(debts.are_due):
            return 0
        return await store.write(debts.settle_due, now_ms, AT_ONCE)

    async def forget_old_keys(now_ms: int) -> int:
        if not await store.read(are_old_keys, now_ms):
            return 0
        return await store.write(forget_keys, now_ms)

    async def forget_old_offers(now_ms: int) -> int:
        if not await store.read(offers.are_old, now_ms):
            return 0
        return await store.write(offers.forget, now_ms)

    return {
        "expired holds": expire_holds,
        "debts": settle_debts,
        "old keys": forget_old_keys,
        "old offers": forget_old_offers,
    }

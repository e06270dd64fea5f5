"""Removes what nobody wants: uploads that never got whole, files that no message shows, or no more."""

from __future__ import annotations

from server.database.store import Database
from server.files import rows
from server.files.arriving import Arriving
from server.files.processing import preview_key
from server.files.storage import Storage

AT_ONCE = 100


async def collect(store: Database, arriving: Arriving, storage: Storage, now_ms: int) -> int:
    """Remove some of what is due; returns how many. First nobody sees it, then it is gone, then it is forgotten."""
    due = await store.read(rows.due, now_ms, AT_ONCE)
    if not due:
        return 0
    dropped = await store.write(rows.drop_each, due)
    for id in dropped:
        await arriving.remove(id)
        await storage.remove(id)
        await storage.remove(preview_key(id))
    await store.write(rows.forget_each, dropped)
    return len(dropped)

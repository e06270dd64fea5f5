"""Puts the files of a node together: what people send, the duties, the routes."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import trio

from server.database.store import Database
from server.files.desk import FileDesk
from server.files.objects import Bucket, StorageSettings
from server.files.settings import FileSettings
from server.files.tickets import Tickets
from server.web.files import file_routes
from server.web.routes import Route
from server.web.uploads import upload_routes
from signalling.identifiers import AccountId
from signalling.ports import Clock

FOLDER = "files"  # in the data directory


@dataclass(frozen=True, slots=True)
class Filing:
    """The parts that are running: the desk, its routes, and counters by name."""

    desk: FileDesk
    routes: tuple[Route, ...]
    counters: Callable[[], Mapping[str, int]]


def open_filing(
    settings: FileSettings,
    kept_in: StorageSettings,
    store: Database,
    clock: Clock,
    folder: Path,
    key: bytes,
    suspended: Container[AccountId],
    nursery: trio.Nursery,
) -> Filing:
    """Begin to take files, on a store that runs. Raises OSError."""
    storage = Bucket(kept_in) if kept_in.bucket else None
    desk = FileDesk(store, clock, folder / FOLDER, settings, Tickets(key, suspended), storage)
    nursery.start_soon(desk.run)
    return Filing(desk, (*upload_routes(desk.uploads), *file_routes(desk)), desk.counters)

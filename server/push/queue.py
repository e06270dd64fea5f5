"""Notices on their way to devices, as rows: written with the place in the log up to which events were looked at."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.push.encryption import Keys
from server.push.notices import USEFUL_S, Notice, Words

MAX_QUEUED = 50  # for one device: who comes back to more looks at none of them one by one

_PLACE = Prepared("SELECT position FROM push_place")
_SET_PLACE = Prepared("UPDATE push_place SET position = :position")
_DEVICES = Prepared("SELECT id FROM push_devices WHERE account = :account")
_ADD = Prepared(
    "INSERT INTO push_queue (device, tag, words, at, until, version) VALUES (:device, :tag, :words, :at, :until, 1)"
    " ON CONFLICT (device, tag) DO UPDATE SET words = excluded.words, at = excluded.at, until = excluded.until,"
    " version = push_queue.version + 1"
)
_BOUND = Prepared(
    "DELETE FROM push_queue WHERE device = :device AND tag NOT IN"
    " (SELECT tag FROM push_queue WHERE device = :device ORDER BY at DESC, tag LIMIT :limit)"
)
_DUE = Prepared(
    "SELECT q.device, q.tag, q.words, q.until, q.version, d.account, d.endpoint, d.public, d.auth, d.failures"
    " FROM push_queue q JOIN push_devices d ON d.id = q.device WHERE d.next_at <= :now ORDER BY q.at LIMIT :limit"
)
_TAKE = Prepared("DELETE FROM push_queue WHERE device = :device AND tag = :tag AND version = :version")
_EXPIRE = Prepared("DELETE FROM push_queue WHERE until <= :now")


class Queued(msgspec.Struct, frozen=True):
    """A notice for a device, and how to reach that; `until` is epoch ms. A newer one of its tag has another version."""

    device: str
    tag: str
    words: Words
    until: int
    version: int
    account: str
    endpoint: str
    keys: Keys
    failures: int


def position(connection: sa.Connection) -> int:
    """Return up to which event all notices are written."""
    return int(_PLACE(connection).fetchone()[0])


def add(connection: sa.Connection, notices: Iterable[Notice], position: int) -> int:
    """Write notices for all devices of their accounts, and up to which event that was; returns how many."""
    rows = {
        (device, notice.words.tag): notice.words
        for notice in notices
        for (device,) in _DEVICES(connection, account=notice.account).fetchall()
    }
    _ADD.many(connection, [_row(device, tag, words) for (device, tag), words in rows.items()])
    for device in {device for device, _ in rows}:
        _BOUND(connection, device=device, limit=MAX_QUEUED)
    _SET_PLACE(connection, position=position)
    return len(rows)


def _row(device: str, tag: str, words: Words) -> dict[str, object]:
    until = words.at + USEFUL_S[words.kind] * 1000
    return {"device": device, "tag": tag, "words": msgspec.json.encode(words).decode(), "at": words.at, "until": until}


def due(connection: sa.Connection, now_ms: int, limit: int) -> list[Queued]:
    """Return notices for devices that may be tried now, the oldest first."""
    return [
        Queued(device, tag, msgspec.json.decode(words, type=Words), until, version, account, endpoint, keys, failures)
        for device, tag, words, until, version, account, endpoint, public, auth, failures in _DUE(
            connection, now=now_ms, limit=limit
        )
        for keys in [Keys(bytes.fromhex(public), bytes.fromhex(auth))]
    ]


def take(connection: sa.Connection, queued: Queued) -> None:
    """Take a notice out, unless there is a newer one in its place."""
    _TAKE(connection, device=queued.device, tag=queued.tag, version=queued.version)


def expire(connection: sa.Connection, now_ms: int) -> int:
    """Drop what is of no use any more; returns how many."""
    return int(_EXPIRE(connection, now=now_ms).rowcount)

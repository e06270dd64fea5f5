"""The devices that notices go to, as rows: each belongs to one account, the one that used it last."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.push.encryption import Keys, keys_untrusted
from server.push.notices import Kinds
from signalling.refusals import Refused

MAX_DEVICES = 20  # of one account: the one that was used longest ago gives way
MAX_ENDPOINT = 1024  # characters; services' have about 200
# After so many failures in a row a device is tried again, and after the last one forgotten.
PAUSES_S = (5, 60, 600, 3_600, 21_600, 86_400, 86_400)

_COLUMNS = "id, account, endpoint, public, auth, failures"
_PLACE = Prepared(
    "INSERT INTO push_devices (id, account, endpoint, hash, public, auth, created_at, used_at, failures, next_at)"
    " VALUES (:id, :account, :endpoint, :hash, :public, :auth, :at, :at, 0, 0) ON CONFLICT (hash) DO UPDATE SET"
    " account = excluded.account, public = excluded.public, auth = excluded.auth, used_at = excluded.used_at,"
    " failures = 0, next_at = 0"
)
_BY_HASH = Prepared("SELECT id, account, created_at, used_at FROM push_devices WHERE hash = :hash")
_OF = Prepared("SELECT id, created_at, used_at FROM push_devices WHERE account = :account ORDER BY used_at DESC, id")
_OWNER = Prepared("SELECT account FROM push_devices WHERE id = :id")
_DROP_QUEUED = Prepared("DELETE FROM push_queue WHERE device = :id")
_DROP = Prepared("DELETE FROM push_devices WHERE id = :id")
_ACCOUNTS = Prepared("SELECT account, count(*) FROM push_devices GROUP BY account")
_WORKS = Prepared("UPDATE push_devices SET failures = 0, next_at = 0 WHERE id = :id")
_FAILS = Prepared("UPDATE push_devices SET failures = failures + 1, next_at = :next_at WHERE id = :id")
_KINDS = Prepared("SELECT kinds FROM push_kinds WHERE account = :account")
_SET_KINDS = Prepared(
    "INSERT INTO push_kinds (account, kinds) VALUES (:account, :kinds)"
    " ON CONFLICT (account) DO UPDATE SET kinds = excluded.kinds"
)


class Subscription(msgspec.Struct, frozen=True):
    """Where a browser is reached, as it says itself (W3C Push API, PushSubscription)."""

    endpoint: str
    keys: Keys


class Device(msgspec.Struct, frozen=True):
    """A device of an account; times are epoch ms. `used_at` is when its page last said that it is still there."""

    id: str
    created_at: int
    used_at: int


def subscription_untrusted(endpoint: str, p256dh: str, auth: str, *, private: bool) -> Subscription:
    """Read a subscription. Raises Refused("invalid_push_subscription")."""
    try:
        where = urlsplit(endpoint)
        known = where.hostname is not None and (where.port is None or where.port > 0)
    except ValueError:
        known = False
    if not known or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint or "#" in endpoint:
        raise Refused("invalid_push_subscription", "its endpoint is no address")
    if where.username is not None or where.scheme not in (("https", "http") if private else ("https",)):
        raise Refused("invalid_push_subscription", "its endpoint must begin with https://, and name nobody")
    return Subscription(endpoint, keys_untrusted(p256dh, auth))


def place(connection: sa.Connection, id: str, account: str, given: Subscription, now_ms: int) -> Device:
    """Have an account's notices go to a device, and no longer those of who used it before."""
    hash = hashlib.sha256(given.endpoint.encode()).hexdigest()
    former = _BY_HASH(connection, hash=hash).fetchone()
    if former is not None and former[1] != account:
        _DROP_QUEUED(connection, id=former[0])
    keys = {"public": given.keys.public.hex(), "auth": given.keys.auth.hex()}
    _PLACE(connection, id=id, account=account, endpoint=given.endpoint, hash=hash, **keys, at=now_ms)
    for old in list_of(connection, account)[MAX_DEVICES:]:
        drop(connection, old.id)
    kept, _, created_at, used_at = _BY_HASH(connection, hash=hash).fetchone()
    return Device(kept, created_at, used_at)


def list_of(connection: sa.Connection, account: str) -> list[Device]:
    """Return the devices of an account, the last used first."""
    return [Device(*row) for row in _OF(connection, account=account)]


def remove(connection: sa.Connection, account: str, id: str) -> None:
    """Send nothing to a device any more. Raises Refused("push_device_unknown")."""
    row = _OWNER(connection, id=id).fetchone()
    if row is None or row[0] != account:
        raise Refused("push_device_unknown")
    drop(connection, id)


def drop(connection: sa.Connection, id: str) -> None:
    """Forget a device, and what it was to be told."""
    _DROP_QUEUED(connection, id=id)
    _DROP(connection, id=id)


def counts(connection: sa.Connection) -> dict[str, int]:
    """Return how many devices each account has that has any."""
    return {row[0]: row[1] for row in _ACCOUNTS(connection)}


def works(connection: sa.Connection, id: str) -> None:
    """Note that a device was reached."""
    _WORKS(connection, id=id)


def fails(connection: sa.Connection, id: str, failures: int, pause_s: float, now_ms: int) -> bool:
    """Note that it was not, after so many failures before; returns whether it is tried again."""
    if failures >= len(PAUSES_S):
        drop(connection, id)
        return False
    wait_s = max(PAUSES_S[failures], min(pause_s, PAUSES_S[-1]))
    _FAILS(connection, id=id, next_at=now_ms + int(wait_s * 1000))
    return True


def kinds_of(connection: sa.Connection, account: str) -> Kinds:
    """Return what an account is told of."""
    row: Any = _KINDS(connection, account=account).fetchone()
    return Kinds() if row is None else msgspec.json.decode(row[0], type=Kinds)


def set_kinds(connection: sa.Connection, account: str, kinds: Kinds) -> None:
    """Write down what an account is told of."""
    _SET_KINDS(connection, account=account, kinds=msgspec.json.encode(kinds).decode())

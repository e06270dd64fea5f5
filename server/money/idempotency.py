"""Idempotency keys: a request that is sent twice is done once, and answered the same.

The answer is written in the transaction of what it tells. So after a crash there is either both or neither, and who
asks again finds out. What was refused is not written down: it has changed nothing, and may succeed later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, TypeVarTuple

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.database.store import Database
from signalling.refusals import Refused

KEY_FOR_MS = 7 * 86_400_000  # clients retry for hours after a network is back; nobody does after a week
MAX_KEY = 255  # characters; a UUID has 36
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Request(msgspec.Struct, frozen=True):
    """What was asked, by whom: the same key is the same request only when its digest is the same, too."""

    account: str
    route: str
    key: str
    digest: str


class Answered(msgspec.Struct, frozen=True):
    """What a request is answered with; `replayed` when it had been done before."""

    status: int
    body: bytes
    replayed: bool = False


Outcome = Answered | Exception  # of one request among several; what failed has written nothing


class Asking(msgspec.Struct, Generic[T], frozen=True):
    """A request, when it came (epoch ms), and what it asks for."""

    request: Request
    now_ms: int
    wish: T


def read_request_untrusted(account: str, route: str, key: str | None, body: bytes) -> Request:
    """Return the request of an Idempotency-Key header; raises Refused (idempotency_key_required, ..._invalid)."""
    if key is None:
        raise Refused("idempotency_key_required")
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Refused("idempotency_key_invalid", f"1 to {MAX_KEY} printable ASCII characters")
    return Request(account, route, key, hashlib.sha256(body).hexdigest())


_FIND = Prepared(
    "SELECT digest, status, body FROM idempotency_keys WHERE account = :account AND route = :route AND key = :key"
)
_FIND_EACH = Prepared(
    "SELECT n.key, k.digest, k.status, k.body FROM json_each(:names) n CROSS JOIN idempotency_keys k"  # in this order
    " WHERE k.account = n.value ->> 0 AND k.route = n.value ->> 1 AND k.key = n.value ->> 2"
)
_ADD = Prepared(
    "INSERT INTO idempotency_keys (account, route, key, digest, status, body, at)"
    " VALUES (:account, :route, :key, :digest, :status, :body, :at)"
)
_DROP = Prepared("DELETE FROM idempotency_keys WHERE account = :account AND route = :route AND key = :key")
_TRY_LOCK = Prepared("SELECT pg_try_advisory_xact_lock(:lock)")
_OLD = Prepared("SELECT 1 FROM idempotency_keys WHERE at < :before LIMIT 1")
_FORGET = Prepared("DELETE FROM idempotency_keys WHERE at < :before")


def once(
    connection: sa.Connection,
    request: Request,
    now_ms: int,
    work: Callable[[sa.Connection, *Ts], Answered],
    *arguments: *Ts,
) -> Answered:
    """Do a request that was not done yet, or return what it was answered.

    Raises what `work` raises, and Refused (idempotency_mismatch, idempotency_in_flight).
    """
    name = _name(request)
    if connection.dialect.name == "postgresql":
        # Another node may be at it. SQLite's writes are one after the other.
        lock = hashlib.sha256("\0".join(name.values()).encode()).digest()[:8]
        if not _TRY_LOCK(connection, lock=int.from_bytes(lock, "big", signed=True)).fetchone()[0]:
            raise Refused("idempotency_in_flight")
    known = _answered(connection, request)
    if known is not None:
        return known
    answer = work(connection, *arguments)
    _ADD.each(connection, [_row(request, answer, now_ms)])
    return answer


def once_each(
    work: Callable[[sa.Connection, Sequence[T]], Sequence[Outcome]],
) -> Callable[[sa.Connection, Sequence[Asking[T]]], Sequence[Outcome]]:
    """Return what does each of several requests like `once`, those that were not done yet by one call of `work`."""

    def do(connection: sa.Connection, asked: Sequence[Asking[T]]) -> Sequence[Outcome]:
        if len(asked) == 1:
            (only,) = asked
            return [once(connection, only.request, only.now_ms, _alone, work, only.wish)]
        outcomes = _known_outcomes(connection, [asking.request for asking in asked])
        new = [index for index, outcome in enumerate(outcomes) if outcome is None]
        rows: list[tuple[str | int, ...]] = []
        for index, outcome in zip(new, work(connection, [asked[index].wish for index in new]), strict=True):
            outcomes[index] = outcome
            if isinstance(outcome, Answered):
                rows.append(_row(asked[index].request, outcome, asked[index].now_ms))
        _ADD.each(connection, rows)
        return [outcome for outcome in outcomes if outcome is not None]

    return do


def _alone(
    connection: sa.Connection, work: Callable[[sa.Connection, Sequence[T]], Sequence[Outcome]], wish: T
) -> Answered:
    (outcome,) = work(connection, [wish])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _known_outcomes(connection: sa.Connection, requests: Sequence[Request]) -> list[Outcome | None]:
    """Return what can be said at once; a request that is there twice is new once."""
    names = [(request.account, request.route, request.key) for request in requests]
    rows = _FIND_EACH(connection, names=msgspec.json.encode(names).decode())
    known = {index: row for index, *row in rows}
    outcomes: list[Outcome | None] = []
    seen: set[tuple[str, str, str]] = set()
    for index, (name, request) in enumerate(zip(names, requests, strict=True)):
        if name in seen:
            outcomes.append(Refused("idempotency_in_flight"))
            continue
        seen.add(name)
        try:
            outcomes.append(_answer(known.get(index), request))
        except Refused as refused:
            outcomes.append(refused)
    return outcomes


def forget(connection: sa.Connection, request: Request) -> None:
    """Forget a request that was taken back: sent again, it is a new one."""
    _DROP(connection, **_name(request))


def _answered(connection: sa.Connection, request: Request) -> Answered | None:
    return _answer(_FIND(connection, **_name(request)).fetchone(), request)


def _answer(row: Sequence[Any] | None, request: Request) -> Answered | None:
    if row is None:
        return None
    digest, status, body = row
    if digest != request.digest:
        raise Refused("idempotency_mismatch")
    return Answered(status, body.encode(), replayed=True)


def _name(request: Request) -> dict[str, str]:
    return {"account": request.account, "route": request.route, "key": request.key}


def _row(request: Request, answer: Answered, now_ms: int) -> tuple[str | int, ...]:
    name = request.account, request.route, request.key
    return *name, request.digest, answer.status, answer.body.decode(), now_ms


def are_old_keys(connection: sa.Connection, now_ms: int) -> bool:
    """Return whether there are keys that nobody asks for any more."""
    return _OLD(connection, before=now_ms - KEY_FOR_MS).fetchone() is not None


def forget_keys(connection: sa.Connection, now_ms: int) -> int:
    """Delete keys that nobody asks for any more; returns how many."""
    return int(_FORGET(connection, before=now_ms - KEY_FOR_MS).rowcount)


class Idempotent:
    """Writes each request once; one that is still being written is refused a second time at once."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._in_flight: set[tuple[str, str, str]] = set()
        self.replays = self.mismatches = self.collisions = 0

    async def find(self, request: Request) -> Answered | None:
        """Return what a request was answered that was done before; raises Refused("idempotency_mismatch")."""
        return await self._store.read(_answered, request)

    async def write(
        self, request: Request, now_ms: int, work: Callable[[sa.Connection, *Ts], Answered], *arguments: *Ts
    ) -> Answered:
        """Run `work` in a transaction unless the request was done before; returns when it is on the disk.

        Raises what `work` raises, Refused (idempotency_mismatch, idempotency_in_flight) and StoreFailed.
        """
        return await self._first(request, lambda: self._store.write(_once, request, now_ms, work, arguments))

    async def write_each(
        self,
        request: Request,
        now_ms: int,
        work: Callable[[sa.Connection, Sequence[Asking[T]]], Sequence[Outcome]],
        wish: T,
    ) -> Answered:
        """Run `work`, which `once_each` made, on a request and on others that come meanwhile; raises like `write`."""
        return await self._first(request, lambda: self._store.write_each(work, Asking(request, now_ms, wish)))

    async def _first(self, request: Request, write: Callable[[], Awaitable[Answered]]) -> Answered:
        name = (request.account, request.route, request.key)
        if name in self._in_flight:
            self.collisions += 1
            raise Refused("idempotency_in_flight")
        self._in_flight.add(name)
        try:
            answer = await write()
        except Refused as refused:
            self.mismatches += refused.code == "idempotency_mismatch"
            self.collisions += refused.code == "idempotency_in_flight"
            raise
        finally:
            self._in_flight.discard(name)
        self.replays += answer.replayed
        return answer

    def counters(self) -> dict[str, int]:
        """How often keys came back, by name."""
        return {
            "idempotency_replays": self.replays,
            "idempotency_mismatches": self.mismatches,
            "idempotency_collisions": self.collisions,
        }


def _once(
    connection: sa.Connection,
    request: Request,
    now_ms: int,
    work: Callable[[sa.Connection, *Ts], Answered],
    arguments: tuple[*Ts],
) -> Answered:
    return once(connection, request, now_ms, work, *arguments)

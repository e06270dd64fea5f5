"""Idempotency keys: what is sent twice is done once, also when both come at once or a process dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
import trio

from server.migrations import upgrade
from server.money import books
from server.money.idempotency import (
    KEY_FOR_MS,
    MAX_KEY,
    Answered,
    Idempotent,
    Request,
    forget_keys,
    once,
    read_request_untrusted,
)
from server.money.payments import wallet
from signalling.refusals import Refused
from tests.money.commands import deposit, do, give
from tests.money.conftest import NAMES
from tests.money.databases import AnyStore, fresh_database, running

REQUEST = Request("ann", "POST /tips", "k1", "digest")


def tip(connection: sa.Connection, identifier: str) -> Answered:
    do(connection, give("ann", "bob", 100, identifier))
    return Answered(201, f'{{"tip":"{identifier}"}}'.encode())


@pytest.fixture
async def funded(store: AnyStore) -> AnyStore:
    await store.write(do, deposit("ann", 1000))
    return store


async def bobs(store: AnyStore) -> int:
    return await store.read(books.balance, wallet("bob", "USD"))


async def test_the_same_request_gets_the_same_answer_and_is_done_once(funded: AnyStore) -> None:
    keys = Idempotent(funded)
    first = await keys.write(REQUEST, 1, tip, "one")
    again = await keys.write(REQUEST, 2, tip, "two")
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.status, again.body) == (first.status, first.body) == (201, b'{"tip":"one"}')
    assert await bobs(funded) == 100
    assert keys.counters()["idempotency_replays"] == 1


async def test_the_same_key_for_something_else_is_refused(funded: AnyStore) -> None:
    keys = Idempotent(funded)
    await keys.write(REQUEST, 1, tip, "one")
    with pytest.raises(Refused, match="idempotency_mismatch"):
        await keys.write(Request("ann", "POST /tips", "k1", "other"), 2, tip, "two")
    assert await bobs(funded) == 100
    assert keys.counters()["idempotency_mismatches"] == 1


@pytest.mark.parametrize("other", [Request("bob", "POST /tips", "k1", "d"), Request("ann", "POST /other", "k1", "d")])
async def test_keys_belong_to_an_account_and_a_route(funded: AnyStore, other: Request) -> None:
    keys = Idempotent(funded)
    await keys.write(REQUEST, 1, tip, "one")
    await keys.write(other, 2, tip, "two")
    assert await bobs(funded) == 200


async def test_of_many_at_once_one_is_done_and_the_others_are_told_to_wait(funded: AnyStore) -> None:
    keys = Idempotent(funded)
    outcomes: list[object] = []

    async def attempt(number: int) -> None:
        try:
            outcomes.append((await keys.write(REQUEST, 1, tip, f"t{number}")).replayed)
        except Refused as refused:
            outcomes.append(refused.code)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(attempt, number)
    assert outcomes.count(False) == 1
    assert outcomes.count("idempotency_in_flight") == keys.collisions == 19
    assert await bobs(funded) == 100


async def test_of_many_on_several_nodes_one_is_done(funded: AnyStore) -> None:
    # Each with a memory of its own, as other processes have it: now the database alone decides.
    outcomes: list[object] = []

    async def attempt(number: int) -> None:
        try:
            outcomes.append((await Idempotent(funded).write(REQUEST, 1, tip, f"t{number}")).replayed)
        except Refused as refused:
            outcomes.append(refused.code)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(attempt, number)
    assert outcomes.count(False) == 1
    assert set(outcomes) <= {False, True, "idempotency_in_flight"}
    assert await bobs(funded) == 100


async def test_what_was_refused_may_be_tried_again_with_the_same_key(store: AnyStore) -> None:
    keys = Idempotent(store)
    with pytest.raises(Refused, match="insufficient_funds"):
        await keys.write(REQUEST, 1, tip, "one")
    await store.write(do, deposit("ann", 1000))
    assert not (await keys.write(REQUEST, 2, tip, "one")).replayed
    assert await bobs(store) == 100


def crash(connection: sa.Connection) -> None:
    once(connection, REQUEST, 1, tip, "one")
    raise ZeroDivisionError


async def test_the_answer_is_kept_only_with_what_it_tells(funded: AnyStore) -> None:
    with pytest.raises(ZeroDivisionError):
        await funded.write(crash)
    assert not (await Idempotent(funded).write(REQUEST, 1, tip, "one")).replayed
    assert await bobs(funded) == 100


async def test_who_stops_waiting_finds_the_answer_later(funded: AnyStore) -> None:
    keys = Idempotent(funded)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.write, REQUEST, 1, tip, "one")
        await trio.testing.wait_all_tasks_blocked(0)
        nursery.cancel_scope.cancel()
    assert (await keys.write(REQUEST, 2, tip, "two")).body == b'{"tip":"one"}'
    assert await bobs(funded) == 100


async def test_old_keys_are_forgotten(funded: AnyStore) -> None:
    keys = Idempotent(funded)
    await keys.write(REQUEST, 1000, tip, "one")
    assert await funded.write(forget_keys, 1000 + KEY_FOR_MS) == 0
    assert await funded.write(forget_keys, 1001 + KEY_FOR_MS) == 1
    assert not (await keys.write(REQUEST, 2, tip, "two")).replayed


@pytest.fixture(params=["sqlite", "postgresql"])
def without_schema(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "db"
    return fresh_database(request.getfixturevalue("cluster"), f"t{next(NAMES)}")


async def test_answers_of_an_earlier_version_are_found_after_an_upgrade(without_schema: Path | str) -> None:
    place = without_schema
    url = sa.make_url(f"sqlite:///{place}" if isinstance(place, Path) else place)
    engine = sa.create_engine(url if isinstance(place, Path) else url.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        upgrade(connection, "0016")
        connection.execute(
            sa.text(
                "INSERT INTO idempotency_keys (account, route, key, digest, status, body, at)"
                " VALUES ('ann', 'POST /tips', 'k1', 'digest', 201, '{}', 1)"
            )
        )
    engine.dispose()
    async with running(place) as store:
        assert await Idempotent(store).write(REQUEST, 2, tip, "one") == Answered(201, b"{}", replayed=True)
        assert await store.write(forget_keys, 2 + KEY_FOR_MS) == 1


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY + 1), "a\nb", "ä", "\x7f"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(Refused, match="idempotency_key_invalid"):
        read_request_untrusted("ann", "POST /tips", key, b"")


def test_a_missing_key_is_refused_and_a_body_makes_the_digest() -> None:
    with pytest.raises(Refused, match="idempotency_key_required"):
        read_request_untrusted("ann", "POST /tips", None, b"")
    one, same, other = (read_request_untrusted("ann", "POST /tips", "k", body) for body in (b"a", b"a", b"b"))
    assert one == same != other

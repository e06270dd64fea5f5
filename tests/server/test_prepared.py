"""Statements given to the driver: many rows go in as one by one, in their order, whatever their number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from server.database.prepared import ROWS, Prepared, Several

ADD = Prepared("INSERT INTO things (name, size) VALUES (:name, :size)")
PUT = Prepared(
    "INSERT INTO things (name, size) VALUES (:name, :size) ON CONFLICT (name) DO UPDATE SET size = excluded.size"
)
RESIZE = Prepared("UPDATE things SET size = :size WHERE name = :name")
SIZES = Several("WITH k (n, name) AS ({keys}) SELECT k.n, t.size FROM k JOIN things t ON t.name = k.name", 2)
READ = Prepared("SELECT number, name, size FROM things ORDER BY number")
NUMBERS = (0, 1, 3, 4, 17, 63, 64, 65, 3 * ROWS[0] + 22)


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    with sa.create_engine("sqlite://").begin() as opened:
        opened.exec_driver_sql("CREATE TABLE things (number INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER)")
        yield opened


def rows_of(number: int) -> list[dict[str, str | int]]:
    return [{"size": 10 * index, "unused": 0, "name": f"thing{index}"} for index in range(number)]


@pytest.mark.parametrize("number", NUMBERS)
def test_rows_are_numbered_in_their_order_and_none_is_left_out(connection: sa.Connection, number: int) -> None:
    ADD.many(connection, rows_of(number))
    assert list(READ(connection)) == [(index + 1, f"thing{index}", 10 * index) for index in range(number)]


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_there_is_changed_by_the_last_row_that_names_it(connection: sa.Connection, number: int) -> None:
    ADD.many(connection, rows_of(3))
    PUT.many(connection, [{"name": "thing1", "size": index} for index in range(number)])
    RESIZE.many(connection, [{"name": "thing2", "size": index} for index in range(number)])
    last = number - 1
    assert [size for _, _, size in READ(connection)] == [0, last if number else 10, last if number else 20]


@pytest.mark.parametrize("number", [2, 5, ROWS[0] + 1])
def test_a_row_that_is_there_already_is_an_error_without_its_values(connection: sa.Connection, number: int) -> None:
    ADD.many(connection, [{"name": "secret", "size": 1}])
    with pytest.raises(sa.exc.IntegrityError) as raised:
        ADD.many(connection, [*rows_of(number - 1), {"name": "secret", "size": 2}])
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("number", NUMBERS)
def test_each_of_several_keys_is_looked_up_once_and_unknown_ones_are_not_there(
    connection: sa.Connection, number: int
) -> None:
    ADD.many(connection, rows_of(number))
    keys = [(place, f"thing{place}") for place in range(number)] + [(number, "unknown")]
    assert sorted(SIZES(connection, keys)) == [(place, 10 * place) for place in range(number)]


def test_a_failed_look_up_is_an_error_without_its_values(connection: sa.Connection) -> None:
    wrong = Several("WITH k (n, name) AS ({keys}) SELECT nothing FROM k JOIN things t ON t.name = k.name", 2)
    with pytest.raises(sa.exc.OperationalError) as raised:
        wrong(connection, [(1, "secret")])
    assert "secret" not in str(raised.value)

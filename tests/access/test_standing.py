"""Several who come in together are judged on one snapshot, each for the stream that it wants to see."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import sqlalchemy as sa

from server.access.judging import Judgement
from server.access.standing import Bench, NoTips, Place, judge_all, judge_each
from server.access.tables import follows, stream_rules
from server.database.tables import accounts
from signalling.identifiers import AccountId, StreamId
from tests.money.databases import give_schema

ANN, BOB, EVE = AccountId("ann"), AccountId("bob"), AccountId("eve")
HERS, BROKEN = StreamId("hers"), StreamId("broken")
NOW = 1_800_000_000_000
BENCH = Bench((), NoTips())


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    with sa.create_engine("sqlite://").begin() as opened:
        give_schema(opened)
        for name in (ANN, BOB, EVE):
            opened.execute(sa.insert(accounts).values(id=name, name=name, folded=name, created_at=0))
        opened.execute(sa.insert(follows).values(follower=BOB, streamer=ANN, since=1))
        yield opened


def place(stream: StreamId) -> Place:
    return Place(stream, ANN, frozenset())


def test_each_is_told_of_the_right_stream_and_account(connection: sa.Connection) -> None:
    asked = [(place(HERS), BOB), (place(BROKEN), EVE), (place(HERS), EVE), (place(HERS), BOB)]
    singly = [judge_all(connection, BENCH, where, [who], NOW)[who] for where, who in asked]
    assert judge_each(connection, BENCH, asked, NOW) == singly
    assert [judged.entitled for judged in singly] == [True, False, False, True]


def test_a_stream_whose_rules_are_broken_is_no_matter_of_another(connection: sa.Connection) -> None:
    rules = '{"watch": {"type": "nonsense"}}'
    connection.execute(sa.insert(stream_rules).values(stream=BROKEN, version=1, rules=rules))
    hers, broken = judge_each(connection, BENCH, [(place(HERS), BOB), (place(BROKEN), BOB)], NOW)
    assert isinstance(hers, Judgement)
    assert hers.entitled
    assert isinstance(broken, msgspec.ValidationError)


def test_a_database_that_fails_fails_all(connection: sa.Connection) -> None:
    connection.exec_driver_sql("DROP TABLE kyf_proofs")
    with pytest.raises(sa.exc.OperationalError):
        judge_each(connection, BENCH, [(place(HERS), BOB)], NOW)

"""What a case is about is kept until it is closed, and for longer where a reviewer holds it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.review import rows
from server.review.cases import RunOut
from server.talk import keeping
from tests.review.worlds import APPEAL_MS, World, copied, outcome, template

DAY_S = 86_400


@pytest.fixture
def world() -> Iterator[World]:
    engine = template()
    with copied(engine) as connection:
        yield World(connection)
    engine.dispose()


def talk(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO conversations (id, kind, pair, opened_by, title, head, members, history, joining, posting, keep_s,"
        " created_at, last_at) VALUES ('c1', 'direct', 'p', 'bob', '', 1, 2, 'all', 'closed', 'members',"
        f" {DAY_S}, 0, 0)"
    )
    for account in ("ann", "bob"):
        connection.exec_driver_sql(
            "INSERT INTO conversation_members (conversation, account, role, standing, since, seated, delivered, read,"
            f" seen, pinned, archived, draft) VALUES ('c1', '{account}', 'member', 'in', 0, 0, 0, 0, 0, 0, 0, '')"
        )
    connection.exec_driver_sql(
        "INSERT INTO messages (conversation, seq, sender, kind, text, mentions, forwarded, at, withheld, reacted)"
        " VALUES ('c1', 1, 'ann', 'text', 'nasty', '[]', 0, 1, 0, 0)"
    )


def left(world: World) -> int:
    keeping.drop_old(world.connection, world.now_ms + 2 * DAY_S * 1000, 100)
    return int(Prepared("SELECT count(*) FROM messages")(world.connection).fetchone()[0])


def test_messages_of_a_case_are_not_dropped_before_it_is_closed_and_let_go(world: World) -> None:
    talk(world.connection)
    filed = world.report()
    assert filed.filing.conversation == "c1"
    assert left(world) == 1
    rows.hold(world.connection, filed.case.id, True)
    world.decide(filed.case.id, outcome(0))
    world.now_ms += APPEAL_MS
    world.move(filed.case.id, RunOut())
    assert left(world) == 1
    rows.hold(world.connection, filed.case.id, False)
    assert left(world) == 0

"""Streams, their history and their chat outlive a restart as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import sqlalchemy as sa

from server.auth import Auth
from server.database.archive import StoredArchive
from server.database.store import Store
from server.database.tables import stream_events
from server.events import eventlog
from server.tokens import Tokens
from signalling.identifiers import AccountId, Mode, StreamId
from signalling.policy import events as e
from signalling.ports import ArchivedEvent, StreamRecord
from signalling.wire.events import ChatMessage
from signalling.wire.views import Person
from tests.server.test_store import open_store


@asynccontextmanager
async def open_archive(path: Path) -> AsyncIterator[tuple[StoredArchive, Store, StreamRecord]]:
    async with open_store(path / "db") as store:
        owner = await Auth(store, Tokens(bytes(32)), 60).add_account("Ann")
        record = StreamRecord(
            id=StreamId("s_1"),
            number=7,
            owner=owner.id,
            owner_name=owner.name,
            title="Tïtle",
            description="",
            kind="video",
            mode=Mode.ONE_TO_ONE,
            former=Mode.PRIVATE,
            epoch=3,
            tickets=(AccountId("b"), AccountId("c")),
            entitled=(),
            ejected=(AccountId("d"),),
            started_at=1,
            ends_at=None,
            ended=None,
            best_picture="entitled",
        )
        yield StoredArchive(store), store, record


async def test_a_stream_comes_back_as_it_was_saved_last(tmp_path: Path) -> None:
    async with open_archive(tmp_path) as (archive, _, record):
        await archive.save_stream(record)
        later = msgspec.structs.replace(record, mode=Mode.PAID, former=None, epoch=4, ends_at=99)
        await archive.save_stream(later)
    async with open_archive(tmp_path) as (archive, _, _record):
        assert await archive.load() == [later]


async def test_an_ended_stream_does_not_come_back(tmp_path: Path) -> None:
    async with open_archive(tmp_path) as (archive, _, record):
        await archive.save_stream(msgspec.structs.replace(record, ended="time_limit"))
        assert await archive.load() == []


async def test_the_last_messages_that_all_could_read_come_back_in_order(tmp_path: Path) -> None:
    async with open_archive(tmp_path) as (archive, _, record):
        await archive.save_stream(record)
        ann = Person(record.owner, "Ann")
        said = [
            ChatMessage(
                server_now=seq,
                stream=record.id,
                seq=seq,
                circle=circle,
                sender=ann,
                text=f"text {seq} \U0001f600",
                at=seq,
            )
            for seq, circle in ((1, "main"), (2, "main"), (1, "one_to_one"), (3, "main"))
        ]
        await archive.append(record.id, 3, list(said))
        assert await archive.recent_chat(record.id, 2) == [said[1], said[3]]


async def test_what_happened_is_written_by_the_names_of_its_type_and_fields(tmp_path: Path) -> None:
    async with open_archive(tmp_path) as (archive, store, record):
        await archive.save_stream(record)
        event = e.AccessRevoked(AccountId("b"), 4, "ticket_required", ("ticket",))
        fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
        await archive.append(record.id, 4, [ArchivedEvent(epoch=4, type="AccessRevoked", at=5, fields=fields)])
        row = (await store.read(lambda connection: connection.execute(sa.select(stream_events)).one()))._mapping
        assert (row["type"], row["epoch"], row["at"]) == ("AccessRevoked", 4, 5)
        assert msgspec.json.decode(row["fields"])["readmit"] == ["ticket"]


async def test_the_log_tells_an_end_once_after_what_came_before_and_to_the_streamer(tmp_path: Path) -> None:
    async with open_archive(tmp_path) as (archive, store, record):
        await archive.save_stream(record)
        switched = ArchivedEvent(
            epoch=4, type="ModeSwitched", at=5, fields={"mode": Mode.PAID, "epoch": 4, "removed": ("b", "c")}
        )
        warned = ArchivedEvent(epoch=4, type="TimeWarning", at=6, fields={"remaining_s": 60})
        await archive.append(record.id, 4, [switched, warned])
        for _ in range(2):
            await archive.save_stream(msgspec.structs.replace(record, ended="time_limit", epoch=5))
        told = [logged.event for logged in await store.read(eventlog.read_from, 0, 10, None, record.owner)]
        assert [(event.type, event.subject) for event in told] == [
            ("stream.mode_changed", record.id),
            ("stream.ended", record.id),
        ]
        assert told[0].fields == {"mode": "paid", "epoch": 4}
        assert told[1].fields == {"reason": "time_limit", "epoch": 5}
        assert await store.read(eventlog.read_from, 0, 10, None, "b") == []


async def test_accounts_are_found_by_name_and_named_by_id(tmp_path: Path) -> None:
    async with open_archive(tmp_path) as (archive, _, record):
        assert await archive.find_account("ANN") == record.owner
        assert await archive.find_account("nobody") is None
        assert await archive.names([record.owner, AccountId("a_gone")]) == {record.owner: "Ann"}

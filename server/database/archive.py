"""Writes streams, their events and their chat into the database, and reads them back.

What others want to know of it goes into the event log, too, in the same transaction: for the streamer, and for whom it
concerns besides. The end of a stream is told where it is written down, whoever ended it.
"""

from __future__ import annotations

import time

import msgspec
import sqlalchemy as sa

from server.database.store import Database
from server.database.tables import accounts, chat_messages, stream_events, streams
from server.database.upsert import insert_into
from server.events import eventlog
from server.events.eventlog import Happened
from server.names import fold
from signalling.identifiers import AccountId, Mode, StreamId
from signalling.ports import ArchivedEvent, StreamRecord
from signalling.wire.events import ChatMessage
from signalling.wire.views import Person

LISTS = ("tickets", "entitled", "ejected")
MODES = ("mode", "former", "next_mode")
# Events of rooms that the log tells: by the name of their type there, and which of their fields. Those of one-to-ones
# are told where their money moves.
TOLD = {
    "StreamStarted": ("stream.started", ()),
    "StreamInterrupted": ("stream.interrupted", ()),
    "StreamResumed": ("stream.resumed", ()),
    "ModeSwitched": ("stream.mode_changed", ("mode",)),
    "BestPictureSet": ("stream.best_picture", ("best_picture",)),
    "Described": ("stream.updated", ("title", "description")),
    "RulesChanged": ("access.rules_changed", ("version",)),
    "AccessGranted": ("access.granted", ("account", "via")),
    "AccessRevoked": ("access.revoked", ("account", "reason", "readmit")),
}
NAMES_AT_ONCE = 500  # SQLite allows some thousand parameters in a statement


class StoredArchive:
    """The archive of all rooms on a node's store; raises StoreFailed, which is an ArchiveFailed."""

    def __init__(self, store: Database) -> None:
        self._store = store

    async def load(self) -> list[StreamRecord]:
        """Return all streams that have not ended, oldest first."""
        return await self._store.read(_load)

    async def save_stream(self, record: StreamRecord) -> None:
        """Write a stream down, replacing what was there."""
        await self._store.write(_save, record)

    async def append(self, stream_id: StreamId, epoch: int, events: list[ArchivedEvent | ChatMessage]) -> None:
        """Write down what happened and what was said."""
        await self._store.write(_append, stream_id, events)

    async def recent_chat(self, stream_id: StreamId, limit: int) -> list[ChatMessage]:
        """Return the last messages that all could read, oldest first."""
        return await self._store.read(_recent, stream_id, limit)

    async def find_account(self, name: str) -> AccountId | None:
        """Return whose name this is."""
        return await self._store.read(_find, name)

    async def names(self, accounts: list[AccountId]) -> dict[AccountId, str]:
        """Return what these accounts are called; unknown ones are left out."""
        return await self._store.read(_names, accounts)


def _load(connection: sa.Connection) -> list[StreamRecord]:
    rows = connection.execute(sa.select(streams).where(streams.c.ended.is_(None)).order_by(streams.c.number))
    return [_record(row._mapping) for row in rows]


def _record(row: sa.RowMapping) -> StreamRecord:
    values = dict(row) | {name: tuple(msgspec.json.decode(row[name])) for name in LISTS}
    values |= {name: None if row[name] is None else Mode(row[name]) for name in MODES}
    return StreamRecord(**values)


def _save(connection: sa.Connection, record: StreamRecord) -> None:
    values = msgspec.structs.asdict(record)
    values |= {name: msgspec.json.encode(values[name]).decode() for name in LISTS}
    values |= {name: None if values[name] is None else values[name].value for name in MODES}
    ends = record.ended is not None and not _has_ended(connection, record.id)
    statement = insert_into(connection, streams).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_=values))
    if ends:
        fields = {"reason": record.ended, "epoch": record.epoch}
        at = time.time_ns() // 1_000_000
        eventlog.append(connection, Happened(record.id, "stream.ended", at, fields, (record.owner,)))


def _has_ended(connection: sa.Connection, stream: StreamId) -> bool:
    return connection.execute(sa.select(streams.c.ended).where(streams.c.id == stream)).scalar() is not None


def _append(connection: sa.Connection, stream: StreamId, lines: list[ArchivedEvent | ChatMessage]) -> None:
    events = [line for line in lines if isinstance(line, ArchivedEvent)]
    messages = [line for line in lines if isinstance(line, ChatMessage)]
    if events:
        rows = [
            {
                "stream": stream,
                "epoch": event.epoch,
                "type": event.type,
                "at": event.at,
                "fields": msgspec.json.encode(event.fields).decode(),
            }
            for event in events
        ]
        connection.execute(sa.insert(stream_events), rows)
    if messages:
        rows = [
            {
                "stream": stream,
                "circle": message.circle,
                "seq": message.seq,
                "sender": message.sender.id,
                "sender_name": message.sender.name,
                "text": message.text,
                "at": message.at,
            }
            for message in messages
        ]
        connection.execute(sa.insert(chat_messages), rows)
    owner = connection.execute(sa.select(streams.c.owner).where(streams.c.id == stream)).scalar_one()
    for event in events:
        if event.type in TOLD:
            eventlog.append(connection, _told(stream, owner, event))


def _told(stream: StreamId, owner: str, event: ArchivedEvent) -> Happened:
    """Show an event as the log tells it: without lists that grow with the audience, and without monotonic times."""
    type, names = TOLD[event.type]
    fields = {name: event.fields[name] for name in names} | {"epoch": event.epoch}
    concerned = [str(event.fields["account"])] if "account" in names else []
    return Happened(stream, type, event.at, fields, (owner, *concerned))


def _recent(connection: sa.Connection, stream: StreamId, limit: int) -> list[ChatMessage]:
    chat = chat_messages.c
    said = sa.select(chat_messages).where(chat.stream == stream, chat.circle == "main").order_by(chat.id.desc())
    rows = connection.execute(said.limit(limit)).all()
    return [
        ChatMessage(
            server_now=row.at,
            stream=stream,
            seq=row.seq,
            circle="main",
            sender=Person(AccountId(row.sender), row.sender_name),
            text=row.text,
            at=row.at,
        )
        for row in reversed(rows)
    ]


def _find(connection: sa.Connection, name: str) -> AccountId | None:
    found = connection.execute(sa.select(accounts.c.id).where(accounts.c.folded == fold(name))).scalar_one_or_none()
    return None if found is None else AccountId(found)


def _names(connection: sa.Connection, wanted: list[AccountId]) -> dict[AccountId, str]:
    names: dict[AccountId, str] = {}
    for start in range(0, len(wanted), NAMES_AT_ONCE):
        some = wanted[start : start + NAMES_AT_ONCE]
        rows = connection.execute(sa.select(accounts.c.id, accounts.c.name).where(accounts.c.id.in_(some)))
        names.update((AccountId(row.id), row.name) for row in rows)
    return names

"""The tables of the database, as SQLAlchemy Core knows them; `server/migrations` makes and changes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Times are wall-clock epoch milliseconds. `folded` is the name without case, by which it is unique.
accounts = Table(
    "accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("folded", String(256), nullable=False, unique=True),
    Column("password", Text),  # an argon2 hash; none for accounts that are used through tokens alone
    Column("created_at", BigInteger, nullable=False),
)

# Lists of accounts are JSON: they are read and written whole, by the one room that owns the row.
streams = Table(
    "streams",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("owner", String(64), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("owner_name", String(64), nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("former", String(16)),
    Column("epoch", Integer, nullable=False),
    Column("tickets", Text, nullable=False),
    Column("entitled", Text, nullable=False),
    Column("ejected", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger),
    Column("ended", String(64), index=True),
    Column("shown_ms", BigInteger, nullable=False),
    Column("takeovers", Integer, nullable=False),
    Column("next_mode", String(16)),
    Column("switches_at", BigInteger),
    Column("best_picture", String(16), nullable=False),
)

stream_events = Table(
    "stream_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("stream", String(64), ForeignKey("streams.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("type", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("fields", Text, nullable=False),
)
Index("ix_stream_events_stream_id", stream_events.c.stream, stream_events.c.id)

chat_messages = Table(
    "chat_messages",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("stream", String(64), ForeignKey("streams.id"), nullable=False),
    Column("circle", String(16), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("sender", String(64), nullable=False),
    Column("sender_name", String(64), nullable=False),
    Column("text", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
Index("ix_chat_messages_stream_id", chat_messages.c.stream, chat_messages.c.circle, chat_messages.c.id)

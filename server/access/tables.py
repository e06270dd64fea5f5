"""The tables of what people are to each other and of who may watch; `server/migrations` makes and changes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from server.tables import metadata

# Times are wall-clock epoch milliseconds.
follows = Table(
    "follows",
    metadata,
    Column("follower", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("streamer", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("since", BigInteger, nullable=False),
)
Index("ix_follows_streamer", follows.c.streamer)

# `expires_at` is null for a subscription that does not lapse.
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("subscriber", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("streamer", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("tier", Integer, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)
Index("ix_subscriptions_streamer", subscriptions.c.streamer)

blocks = Table(
    "blocks",
    metadata,
    Column("blocker", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("blocked", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("since", BigInteger, nullable=False),
)
Index("ix_blocks_blocked", blocks.c.blocked)

# An account without a row is of tier 0 and not suspended.
account_facts = Table(
    "account_facts",
    metadata,
    Column("account", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("suspended", Boolean, nullable=False),
    Column("tier", Integer, nullable=False),
)

# `rules` is JSON: `server.access.judging.StreamRules`. A stream without a row has the usual rules, as version 0.
stream_rules = Table(
    "stream_rules",
    metadata,
    Column("stream", String(64), ForeignKey("streams.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("rules", Text, nullable=False),
)

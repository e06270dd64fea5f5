"""The tables of what people are to each other and of who may watch; `server/migrations` makes and changes them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from server.database.tables import metadata

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

# `code` is the hash of what the invitation says: whoever reads the database can't use it.
invites = Table(
    "invites",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("stream", String(64), ForeignKey("streams.id"), nullable=False, index=True),
    Column("code", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("max_uses", Integer, nullable=False),
    Column("uses", Integer, CheckConstraint("uses >= 0 AND uses <= max_uses", name="few_uses"), nullable=False),
    Column("needs_approval", Boolean, nullable=False),
    Column("revoked_at", BigInteger),
)

# `state` is granted, pending, denied or revoked.
invite_uses = Table(
    "invite_uses",
    metadata,
    Column("invite", String(64), ForeignKey("invites.id"), primary_key=True),
    Column("account", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
)
Index("ix_invite_uses_account", invite_uses.c.account)

# What an account was asked to have signed; a hash, and gone once it is used.
kyf_nonces = Table(
    "kyf_nonces",
    metadata,
    Column("nonce", String(64), primary_key=True),
    Column("account", String(64), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("expires_at", BigInteger, nullable=False),
)

# What an issuer vouches for; the proof itself is not kept. One person (`subject`) stands behind one account.
kyf_proofs = Table(
    "kyf_proofs",
    metadata,
    Column("account", String(64), ForeignKey("accounts.id"), primary_key=True),
    Column("issuer", String(256), primary_key=True),
    Column("subject", String(256), nullable=False),
    Column("age_over", Integer, nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("region", String(8)),
    Column("verified_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    UniqueConstraint("issuer", "subject", name="uq_kyf_proofs_subject"),
)

# The ids of claims that were taken, until they expire and are refused for that.
kyf_seen = Table(
    "kyf_seen",
    metadata,
    Column("issuer", String(256), primary_key=True),
    Column("jti", String(256), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

# A streamer asks a viewer for some facts; `state` is pending, granted, refused, lapsed or revoked. `hold` is the money
# that waits for the answer, as its owner calls it. `keep_until` is when a grant ends by itself.
disclosures = Table(
    "disclosures",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("streamer", String(64), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("viewer", String(64), ForeignKey("accounts.id"), nullable=False, index=True),
    Column("fields", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("hold", String(128)),
    Column("state", String(16), nullable=False, index=True),
    Column("asked_at", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("keep_s", Integer, nullable=False),
    Column("keep_until", BigInteger),
)

# Who did what with a disclosure, also who looked.
disclosure_log = Table(
    "disclosure_log",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("disclosure", String(64), ForeignKey("disclosures.id"), nullable=False, index=True),
    Column("account", String(64)),
    Column("did", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
)

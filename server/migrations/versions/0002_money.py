"""The ledger, idempotency keys and the event log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # what each database counts up by itself


def upgrade() -> None:
    """Make the tables of money."""
    op.create_table(
        "quotes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("numerator", sa.Text, nullable=False),
        sa.Column("denominator", sa.Text, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "transfers",
        sa.Column("id", sa.String(160), primary_key=True),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("of", sa.String(160), sa.ForeignKey("transfers.id"), unique=True),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("quote", sa.String(64), sa.ForeignKey("quotes.id")),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("transfer", sa.String(160), sa.ForeignKey("transfers.id"), nullable=False, index=True),
        sa.Column("leg", sa.Integer, nullable=False),
        sa.Column("owner", sa.String(160), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("units", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_entries_owner_id", "entries", ["owner", "id"])
    op.create_table(
        "balances",
        sa.Column("owner", sa.String(160), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("asset", sa.String(16), primary_key=True),
        sa.Column("units", sa.Text, nullable=False),
        sa.CheckConstraint("substr(units, 1, 1) <> '-' OR kind IN ('liquidity', 'provider', 'debt')", name="floor"),
    )
    op.create_table(
        "open_holds",
        sa.Column("id", sa.String(160), sa.ForeignKey("transfers.id"), primary_key=True),
        sa.Column("owner", sa.String(160), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("units", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, index=True),
    )
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.String(160), sa.ForeignKey("transfers.id"), primary_key=True),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("units", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_withdrawals_state_at", "withdrawals", ["state", "at"])
    op.create_table(
        "idempotency_keys",
        sa.Column("account", sa.String(64), primary_key=True),
        sa.Column("route", sa.String(128), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "event_log",
        sa.Column("id", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("subject", sa.String(160), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sqlite_autoincrement=True,  # readers keep the last id, so one is never given again, even if all are deleted
    )
    op.create_index("ix_event_log_subject_id", "event_log", ["subject", "id"])

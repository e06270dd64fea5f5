"""Requests for paid private chats."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
COUNTED = sa.BigInteger().with_variant(sa.Integer, "sqlite")
OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "bids",
        sa.Column("number", COUNTED, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("conversation", sa.String(64), nullable=False),
        sa.Column("guest", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("host", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("units", sa.Text, nullable=False),
        sa.Column("fee_bps", sa.Integer, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("accepted_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
    )
    # One of two people waits for an answer at a time, whatever is asked at the same moment.
    op.create_index("uq_bids_open", "bids", ["guest", "host"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_bids_until", "bids", ["until"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_bids_host", "bids", ["host", "guest"])

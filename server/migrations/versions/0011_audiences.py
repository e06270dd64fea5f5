"""Who may see an event, how far old ones are dropped, and how far each webhook was told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables; events from before may be seen by their subject, where that is an account."""
    op.create_table(
        "event_audience",
        sa.Column("account", sa.String(160), primary_key=True),
        sa.Column("event", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_event_audience_event", "event_audience", ["event"])
    op.execute("INSERT INTO event_audience (account, event) SELECT subject, id FROM event_log")
    op.create_table("event_floor", sa.Column("dropped_to", sa.BigInteger, nullable=False))
    op.execute("INSERT INTO event_floor (dropped_to) VALUES (0)")
    op.create_table(
        "webhooks",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sa.Column("disabled", sa.String(32)),
        sa.Column("failure", sa.Text),
        sa.Column("failed_at", sa.BigInteger),
        sa.Column("delivered_at", sa.BigInteger),
        sa.Column("leased_by", sa.String(64), nullable=False),
        sa.Column("leased_until", sa.BigInteger, nullable=False),
    )

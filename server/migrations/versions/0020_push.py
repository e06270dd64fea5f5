"""Devices that notices are pushed to, what their accounts are told of, notices on their way; who was here, for whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "push_devices",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False, index=True),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),  # SHA-256 of the endpoint, in hexadecimal
        sa.Column("public", sa.String(130), nullable=False),
        sa.Column("auth", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "push_kinds",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("kinds", sa.Text, nullable=False),
    )
    op.create_table(
        "push_queue",
        sa.Column("device", sa.String(64), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_push_queue_at", "push_queue", ["at"])
    op.create_index("ix_push_queue_until", "push_queue", ["until"])
    op.create_table("push_place", sa.Column("position", sa.BigInteger, nullable=False))
    op.create_table(
        "account_seen",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.add_column("talk_settings", sa.Column("shown_to", sa.String(16), nullable=False, server_default="everyone"))
    op.execute("UPDATE talk_settings SET shown_to = 'nobody' WHERE NOT presence")
    op.drop_column("talk_settings", "presence")
    op.execute("INSERT INTO push_place (position) SELECT coalesce(max(id), 0) FROM event_log")

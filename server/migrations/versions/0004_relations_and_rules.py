"""Follows, subscriptions, blocks, facts about accounts, and the rules of streams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables of who may watch."""
    op.create_table(
        "follows",
        sa.Column("follower", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("streamer", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_follows_streamer", "follows", ["streamer"])
    op.create_table(
        "subscriptions",
        sa.Column("subscriber", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("streamer", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("tier", sa.Integer, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
    )
    op.create_index("ix_subscriptions_streamer", "subscriptions", ["streamer"])
    op.create_table(
        "blocks",
        sa.Column("blocker", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("blocked", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_blocks_blocked", "blocks", ["blocked"])
    op.create_table(
        "account_facts",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("suspended", sa.Boolean, nullable=False),
        sa.Column("tier", sa.Integer, nullable=False),
    )
    op.create_table(
        "stream_rules",
        sa.Column("stream", sa.String(64), sa.ForeignKey("streams.id"), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
    )

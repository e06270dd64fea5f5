"""Calls and streams of conversations: what they keep of them, so that a restart can say of each that it ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "calls",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("conversation", sa.String(64), sa.ForeignKey("conversations.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("caller", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("withheld", sa.Boolean, nullable=False),
        sa.Column("video", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stream", sa.String(64)),
        sa.Column("seconds", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(32)),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
    )
    op.create_index("uq_calls_message", "calls", ["conversation", "seq"], unique=True)
    op.create_index("ix_calls_ended_at", "calls", ["ended_at"])
    op.create_table(
        "conversation_lives",
        sa.Column("stream", sa.String(64), sa.ForeignKey("streams.id"), primary_key=True),
        sa.Column("conversation", sa.String(64), sa.ForeignKey("conversations.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("starter", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("audience", sa.String(16), nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
    )
    op.create_index("ix_conversation_lives_ended_at", "conversation_lives", ["ended_at"])

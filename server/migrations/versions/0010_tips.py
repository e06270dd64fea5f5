"""Tips: who gave what to whom, and what of it may be withdrawn when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables of tips."""
    op.create_table(
        "tips",
        sa.Column("id", sa.String(64), sa.ForeignKey("transfers.id"), primary_key=True),
        sa.Column("sender", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("recipient", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("units", sa.Text, nullable=False),
        sa.Column("fee", sa.Text, nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("worth", sa.Text, nullable=False),
        sa.Column("arrived", sa.Text, nullable=False),
        sa.Column("stream", sa.String(64), sa.ForeignKey("streams.id"), index=True),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("anonymous", sa.Boolean, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("withdrawable_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_tips_sender_recipient_at", "tips", ["sender", "recipient", "at"])
    op.create_index("ix_tips_sender_asset_at", "tips", ["sender", "asset", "at"])
    op.create_index("ix_tips_recipient_withdrawable_at", "tips", ["recipient", "withdrawable_at"])
    op.create_table(
        "offers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("numerator", sa.Text, nullable=False),
        sa.Column("denominator", sa.Text, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("taken_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    )

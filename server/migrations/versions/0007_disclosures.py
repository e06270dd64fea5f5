"""What streamers asked viewers to disclose, and who did what with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables of disclosures."""
    op.create_table(
        "disclosures",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("streamer", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False, index=True),
        sa.Column("viewer", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False, index=True),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("hold", sa.String(128)),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("deadline", sa.BigInteger, nullable=False),
        sa.Column("keep_s", sa.Integer, nullable=False),
        sa.Column("keep_until", sa.BigInteger),
    )
    op.create_table(
        "disclosure_log",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("disclosure", sa.String(64), sa.ForeignKey("disclosures.id"), nullable=False, index=True),
        sa.Column("account", sa.String(64)),
        sa.Column("did", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )

"""From which message another was forwarded, so that copies go with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
FORWARDED = sa.text("origin_seq IS NOT NULL")


def upgrade() -> None:
    """Add the columns, and the way from a message to its copies."""
    op.add_column("messages", sa.Column("origin_conversation", sa.String(64)))
    op.add_column("messages", sa.Column("origin_seq", sa.BigInteger))
    op.create_index(
        "ix_messages_origin",
        "messages",
        ["origin_conversation", "origin_seq"],
        sqlite_where=FORWARDED,
        postgresql_where=FORWARDED,
    )

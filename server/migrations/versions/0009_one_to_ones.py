"""What streamers offer for a one-to-one, and what was asked, held and delivered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # what each database counts up by itself


def upgrade() -> None:
    """Make the tables of one-to-ones."""
    op.create_table(
        "one_to_one_offers",
        sa.Column("stream", sa.String(64), sa.ForeignKey("streams.id"), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("offer", sa.Text, nullable=False),
    )
    op.create_table(
        "one_to_ones",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("stream", sa.String(64), nullable=False),
        sa.Column("streamer", sa.String(64), nullable=False),
        sa.Column("viewer", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("seconds", sa.Integer, nullable=False),
        sa.Column("asset", sa.String(16)),
        sa.Column("held", sa.Text),
        sa.Column("fee_bps", sa.Integer, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("delivered_ms", sa.BigInteger, nullable=False),
        sa.Column("captured", sa.Text, nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
    )
    open_ = sa.text("ended_at IS NULL")
    op.create_index(
        "uq_one_to_ones_open",
        "one_to_ones",
        ["stream", "viewer"],
        unique=True,
        sqlite_where=open_,
        postgresql_where=open_,
    )
    op.create_index("ix_one_to_ones_open", "one_to_ones", ["number"], sqlite_where=open_, postgresql_where=open_)
    op.create_index("ix_one_to_ones_viewer", "one_to_ones", ["viewer", "number"])
    op.create_index("ix_one_to_ones_streamer", "one_to_ones", ["streamer", "number"])

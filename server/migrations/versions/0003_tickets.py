"""Sales, tickets and who waits for one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # what each database counts up by itself


def upgrade() -> None:
    """Make the tables of tickets."""
    op.create_table(
        "sales",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("stream", sa.String(64), nullable=False, index=True),
        sa.Column("seller", sa.String(64), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("late_price", sa.Text),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("opens_at", sa.BigInteger, nullable=False),
        sa.Column("closes_at", sa.BigInteger),
        sa.Column("minimum_s", sa.Integer, nullable=False),
        sa.Column("began", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reserved", sa.Integer, nullable=False),
        sa.Column("sold", sa.Integer, nullable=False),
        sa.CheckConstraint("reserved >= 0 AND sold >= 0 AND reserved + sold <= quantity", name="seats"),
    )
    running = sa.text("state IN ('open', 'closed')")
    op.create_index(
        "uq_sales_running", "sales", ["stream"], unique=True, sqlite_where=running, postgresql_where=running
    )
    op.create_table(
        "tickets",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(160), nullable=False, unique=True),
        sa.Column("sale", sa.String(64), sa.ForeignKey("sales.id"), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    live = sa.text("state IN ('reserved', 'sold')")
    op.create_index(
        "uq_tickets_live", "tickets", ["sale", "account"], unique=True, sqlite_where=live, postgresql_where=live
    )
    op.create_index("ix_tickets_sale_state", "tickets", ["sale", "state", "number"])
    reserved = sa.text("state = 'reserved'")
    op.create_index("ix_tickets_until", "tickets", ["until"], sqlite_where=reserved, postgresql_where=reserved)
    op.create_table(
        "ticket_queue",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=True),
        sa.Column("sale", sa.String(64), sa.ForeignKey("sales.id"), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("sale", "account"),
        sqlite_autoincrement=True,  # numbers name offers, so one that was deleted is never given again
    )
    op.create_index("ix_ticket_queue_sale", "ticket_queue", ["sale", "number"])

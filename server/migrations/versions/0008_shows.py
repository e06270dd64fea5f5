"""What of a show was delivered, whether its sale is earned, and a switch of the mode that is to come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns of shows."""
    op.add_column("sales", sa.Column("earned", sa.Integer, nullable=False, server_default="0"))
    op.add_column("streams", sa.Column("shown_ms", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("streams", sa.Column("takeovers", sa.Integer, nullable=False, server_default="0"))
    op.add_column("streams", sa.Column("next_mode", sa.String(16)))
    op.add_column("streams", sa.Column("switches_at", sa.BigInteger))
    # Whose shows have ended and whose holders are yet to be paid back is looked for again and again.
    op.create_index("ix_sales_state", "sales", ["state"])
    op.create_index("ix_tickets_account", "tickets", ["account", "number"])

"""What more time in a one-to-one costs, and who asked for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add them; of what was asked for before, the price is what is held."""
    op.add_column("one_to_ones", sa.Column("price", sa.Text))
    op.add_column("one_to_ones", sa.Column("extensions", sa.Text, nullable=False, server_default="[]"))

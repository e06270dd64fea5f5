"""For whom the best picture of a stream is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add it; of streams from before it is everybody's, as it was."""
    op.add_column("streams", sa.Column("best_picture", sa.String(16), nullable=False, server_default="everyone"))

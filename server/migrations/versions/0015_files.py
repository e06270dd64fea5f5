"""Files: who sent them, how far they are, and in which messages they are shown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "files",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),  # as declared; once it is ready, as it is kept
        sa.Column("sha256", sa.String(64), nullable=False),  # of what is uploaded, "" where it was not declared
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("problem", sa.String(64)),
        sa.Column("type", sa.String(128)),
        sa.Column("facts", sa.Text, nullable=False),  # JSON: width, height, duration, whether there is a preview
        sa.Column("charged", sa.BigInteger, nullable=False),  # what of its owner's space it takes
        sa.Column("uses", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),  # when it is removed, unless a message shows it by then
    )
    op.create_index("ix_files_owner", "files", ["owner", "state"])
    op.create_index("ix_files_state", "files", ["state", "created_at"])
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_table(
        "message_files",
        sa.Column("conversation", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("file", sa.String(64), sa.ForeignKey("files.id"), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_message_files_file", "message_files", ["file"])
    op.create_table(
        "file_usage",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("messages", sa.Column("attached", sa.Integer, nullable=False, server_default="0"))

"""Idempotency keys in the order of routes: those of a rush for one thing share pages, where each had one of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"

COLUMNS = "account, route, key, digest, status, body, at"


def upgrade() -> None:
    """Make the table anew, as SQLite can't change what a row is found by."""
    op.drop_index("ix_idempotency_keys_at", "idempotency_keys")
    op.rename_table("idempotency_keys", "idempotency_keys_by_account")
    op.create_table(
        "idempotency_keys",
        sa.Column("route", sa.String(128), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.PrimaryKeyConstraint("route", "account", "key", name="pk_idempotency_keys_by_route"),
    )
    op.execute(f"INSERT INTO idempotency_keys ({COLUMNS}) SELECT {COLUMNS} FROM idempotency_keys_by_account")
    op.drop_table("idempotency_keys_by_account")

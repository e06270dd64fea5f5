"""Invitations to private streams, and who used them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables of invitations."""
    op.create_table(
        "invites",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("stream", sa.String(64), sa.ForeignKey("streams.id"), nullable=False, index=True),
        sa.Column("code", sa.String(64), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("max_uses", sa.Integer, nullable=False),
        sa.Column(
            "uses", sa.Integer, sa.CheckConstraint("uses >= 0 AND uses <= max_uses", name="few_uses"), nullable=False
        ),
        sa.Column("needs_approval", sa.Boolean, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "invite_uses",
        sa.Column("invite", sa.String(64), sa.ForeignKey("invites.id"), primary_key=True),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_invite_uses_account", "invite_uses", ["account"])

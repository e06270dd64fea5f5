"""What people have proven about themselves to issuers that this node trusts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables of proofs."""
    op.create_table(
        "kyf_nonces",
        sa.Column("nonce", sa.String(64), primary_key=True),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False, index=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "kyf_proofs",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("issuer", sa.String(256), primary_key=True),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("age_over", sa.Integer, nullable=False),
        sa.Column("verified", sa.Boolean, nullable=False),
        sa.Column("region", sa.String(8)),
        sa.Column("verified_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("issuer", "subject", name="uq_kyf_proofs_subject"),
    )
    op.create_table(
        "kyf_seen",
        sa.Column("issuer", sa.String(256), primary_key=True),
        sa.Column("jti", sa.String(256), primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    )

"""Reports and cases: what is at stake, evidence that nobody can change, sanctions, and who looked at what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
COUNTED = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "moderators",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "cases",
        sa.Column("number", COUNTED, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("about_kind", sa.String(16), nullable=False),
        sa.Column("about", sa.String(160), nullable=False),
        sa.Column("label", sa.String(256), nullable=False),
        sa.Column("reporter", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("respondent", sa.String(64), sa.ForeignKey("accounts.id")),
        sa.Column("conversation", sa.String(64)),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reviewer", sa.String(64)),
        sa.Column("appeal_until", sa.BigInteger),
        sa.Column("shown_to_respondent", sa.Boolean, nullable=False),
        sa.Column("legal_hold", sa.Boolean, nullable=False),
        sa.Column("course", sa.Text, nullable=False),
    )
    op.create_index("ix_cases_state", "cases", ["state", "number"])
    op.create_index("ix_cases_reporter", "cases", ["reporter", "number"])
    op.create_index("ix_cases_respondent", "cases", ["respondent", "number"])
    op.create_index("ix_cases_about", "cases", ["about_kind", "about"])
    op.create_index("ix_cases_conversation", "cases", ["conversation"])
    op.create_table(
        "case_stakes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("case_id", sa.String(64), sa.ForeignKey("cases.id"), nullable=False, index=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("payer", sa.String(64), nullable=False),
        sa.Column("payee", sa.String(64), nullable=False),
        sa.Column("asset", sa.String(16), nullable=False),
        sa.Column("units", sa.Text, nullable=False),
        sa.Column("fee_bps", sa.Integer, nullable=False),
        sa.Column("frozen", sa.Boolean, nullable=False),
        sa.Column("refunded", sa.Text, nullable=False),
        sa.Column("moves", sa.Integer, nullable=False),
        sa.UniqueConstraint("kind", "subject", name="uq_case_stakes_subject"),
    )
    op.create_table(
        "case_evidence",
        sa.Column("case_id", sa.String(64), sa.ForeignKey("cases.id"), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    op.create_table(
        "case_log",
        sa.Column("id", COUNTED, primary_key=True, autoincrement=True),
        sa.Column("case_id", sa.String(64), sa.ForeignKey("cases.id"), nullable=False, index=True),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("did", sa.String(32), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sanctions",
        sa.Column("id", COUNTED, primary_key=True, autoincrement=True),
        sa.Column("case_id", sa.String(64), sa.ForeignKey("cases.id"), nullable=False, index=True),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("lifted_at", sa.BigInteger),
        sa.Column("lifts", sa.Boolean, nullable=False),
    )
    op.create_index("ix_sanctions_account", "sanctions", ["account", "kind"])
    op.create_index("ix_sanctions_until", "sanctions", ["until"])
    _fix("case_evidence", "case_log")


def _fix(*tables: str) -> None:
    """Let rows of these tables be added, and nothing else be done to them by anybody."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION is_fixed() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'what is written there stays'; END $$"
        )
    for table in tables:
        for event in ("UPDATE", "DELETE"):
            name = f"{table}_fixed_{event.lower()}"
            if op.get_bind().dialect.name == "postgresql":
                op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION is_fixed()")
            else:
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {event} ON {table}"
                    " BEGIN SELECT RAISE(ABORT, 'what is written there stays'); END"
                )

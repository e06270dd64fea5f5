"""Conversations and their messages, and events that everybody in a conversation may see."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
COUNTED = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables, and the index of words."""
    op.create_table(
        "event_parties",
        sa.Column("party", sa.String(160), primary_key=True),
        sa.Column("account", sa.String(64), primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("until", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_event_parties_account", "event_parties", ["account", "until"])
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("pair", sa.String(160), unique=True),  # of a direct one: its two accounts, so that they have one
        sa.Column("opened_by", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("head", sa.BigInteger, nullable=False),
        sa.Column("members", sa.Integer, nullable=False),
        sa.Column("history", sa.String(16), nullable=False),
        sa.Column("joining", sa.String(16), nullable=False),
        sa.Column("posting", sa.String(16), nullable=False),
        sa.Column("keep_s", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_conversations_keep_s", "conversations", ["keep_s"])
    op.create_table(
        "conversation_members",
        sa.Column("conversation", sa.String(64), sa.ForeignKey("conversations.id"), primary_key=True),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("standing", sa.String(16), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("seated", sa.BigInteger, nullable=False),
        sa.Column("delivered", sa.BigInteger, nullable=False),
        sa.Column("read", sa.BigInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("muted_until", sa.BigInteger),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("draft", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_conversation_members_account", "conversation_members", ["account", "standing"])
    op.create_index("ix_conversation_members_role", "conversation_members", ["role", "account"])
    op.create_table(
        "messages",
        sa.Column("id", COUNTED, primary_key=True, autoincrement=True),
        sa.Column("conversation", sa.String(64), sa.ForeignKey("conversations.id"), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("sender", sa.String(64), sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("reply_to", sa.BigInteger),
        sa.Column("mentions", sa.Text, nullable=False),
        sa.Column("forwarded", sa.Boolean, nullable=False),
        sa.Column("card", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("edited_at", sa.BigInteger),
        sa.Column("erased_at", sa.BigInteger),
        sa.Column("pinned_at", sa.BigInteger),
        sa.Column("withheld", sa.Boolean, nullable=False),
        sa.Column("reacted", sa.Boolean, nullable=False),
        sa.Column("txn", sa.String(64)),
    )
    op.create_index("uq_messages_seq", "messages", ["conversation", "seq"], unique=True)
    op.create_index("uq_messages_txn", "messages", ["conversation", "sender", "txn"], unique=True)
    op.create_table(
        "message_reactions",
        sa.Column("conversation", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("reaction", sa.String(64), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "messages_hidden",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("conversation", sa.String(64), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_messages_hidden_conversation", "messages_hidden", ["conversation", "seq"])
    op.create_table(
        "message_quotas",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("day", sa.BigInteger, nullable=False),
        sa.Column("used", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "talk_settings",
        sa.Column("account", sa.String(64), sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("receipts", sa.Boolean, nullable=False),
        sa.Column("presence", sa.Boolean, nullable=False),
        sa.Column("reached_by", sa.String(16), nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("tips", sa.Column("conversation", sa.String(64)))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX ix_messages_words ON messages USING gin (to_tsvector('simple', text))")
    else:
        _index_words_of_sqlite()


def _index_words_of_sqlite() -> None:
    take_out = "INSERT INTO message_words (message_words, rowid, conversation, text)"
    take_out += " VALUES ('delete', old.id, old.conversation, old.text)"
    put_in = "INSERT INTO message_words (rowid, conversation, text) VALUES (new.id, new.conversation, new.text)"
    op.execute(
        "CREATE VIRTUAL TABLE message_words USING fts5"
        " (conversation, text, content='messages', content_rowid='id', tokenize='unicode61')"
    )
    op.execute(f"CREATE TRIGGER messages_said AFTER INSERT ON messages BEGIN {put_in}; END")
    op.execute(f"CREATE TRIGGER messages_gone AFTER DELETE ON messages BEGIN {take_out}; END")
    op.execute(f"CREATE TRIGGER messages_reworded AFTER UPDATE OF text ON messages BEGIN {take_out}; {put_in}; END")

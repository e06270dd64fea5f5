"""Which messages show which files: written with the message, and gone with it; and who may see a file for it.

A file takes of its owner's space for as long as a message shows it. One that only a case keeps, or a message that was
taken down, takes nothing: its owner can neither see nor remove it.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from server.database.prepared import Prepared
from server.files import rows
from server.files.rows import File
from signalling.identifiers import AccountId
from signalling.messenger.views import AttachmentView
from signalling.refusals import Refused

MAX_ATTACHED = 10  # to one message: an album on one screen
OCTETS = "application/octet-stream"

_OF_MESSAGE = Prepared(
    "SELECT file FROM message_files WHERE conversation = :conversation AND seq = :seq ORDER BY place"
)
_ADD = Prepared(
    "INSERT INTO message_files (conversation, seq, place, file) VALUES (:conversation, :seq, :place, :file)"
)
_USE = Prepared("UPDATE files SET uses = uses + 1, expires_at = NULL WHERE id = :id")
_DISUSE = Prepared("UPDATE files SET uses = uses - 1 WHERE id = :id")
_SHOWN = Prepared(
    "SELECT 1 FROM message_files u JOIN messages m ON m.conversation = u.conversation AND m.seq = u.seq"
    " WHERE u.file = :file AND m.attached > 0 LIMIT 1"
)
_REMOVE = Prepared("DELETE FROM message_files WHERE conversation = :conversation AND seq = :seq")
_BELOW = Prepared(
    "SELECT DISTINCT seq FROM message_files WHERE conversation = :conversation AND seq < :oldest ORDER BY seq"
)
_SEEN = Prepared(
    "SELECT 1 FROM message_files u JOIN messages x ON x.conversation = u.conversation AND x.seq = u.seq"
    " JOIN conversations c ON c.id = u.conversation"
    " JOIN conversation_members m ON m.conversation = u.conversation AND m.account = :account AND m.standing = 'in'"
    " WHERE u.file = :file AND x.seq > m.since AND x.erased_at IS NULL AND (NOT x.withheld OR x.sender = :account)"
    " AND (c.keep_s IS NULL OR x.at > :now - c.keep_s * 1000) AND NOT EXISTS (SELECT 1 FROM messages_hidden h"
    " WHERE h.account = :account AND h.conversation = x.conversation AND h.seq = x.seq) LIMIT 1"
)


def require_ready(connection: sa.Connection, sender: AccountId, files: Sequence[str]) -> tuple[str, ...]:
    """Return the files that a sender attaches, each once, which stay as they are until the commit.

    Raises Refused (too_many_attachments; file_unknown, also for another's; file_not_ready).
    """
    wanted = tuple(dict.fromkeys(files))
    if len(wanted) > MAX_ATTACHED:
        raise Refused("too_many_attachments", f"at most {MAX_ATTACHED}")
    for id in sorted(wanted):  # always in one order, so that no two writers wait for each other
        found = rows.lock(connection, id)
        if found is None or found.owner != sender or found.state == "dropped":
            raise Refused("file_unknown")
        if found.state != "ready":
            raise Refused(found.problem or "file_not_ready")
        if not rows.is_charged(connection, id):  # as good as dropped; that somebody keeps it is told to nobody
            raise Refused("file_unknown")
    return wanted


def attach(connection: sa.Connection, conversation: str, seq: int, files: Sequence[str]) -> None:
    """Have a message show files that are ready."""
    for place, id in enumerate(files):
        _ADD(connection, conversation=conversation, seq=seq, place=place, file=id)
    for id in sorted(files):
        _USE(connection, id=id)


def of_message(connection: sa.Connection, conversation: str, seq: int) -> tuple[str, ...]:
    """Return the files that a message shows."""
    return tuple(row[0] for row in _OF_MESSAGE(connection, conversation=conversation, seq=seq).fetchall())


def views(connection: sa.Connection, conversation: str, seq: int) -> tuple[AttachmentView, ...]:
    """Return the files that a message shows, as they are shown."""
    found = (rows.find(connection, id) for id in of_message(connection, conversation, seq))
    return tuple(view(file) for file in found if file is not None)


def view(file: File) -> AttachmentView:
    """Return a file as it is shown."""
    facts = file.facts
    shape = {"width": facts.width, "height": facts.height, "duration_ms": facts.duration_ms}
    return AttachmentView(file.id, file.name, file.type or OCTETS, file.size, preview=facts.preview_bytes > 0, **shape)


def hold(connection: sa.Connection, id: str) -> None:
    """Keep a file for something other than a message, until `let_go`."""
    _USE(connection, id=id)


def let_go(connection: sa.Connection, id: str) -> None:
    """Keep a file for that no longer; what no message shows is dropped."""
    rows.lock(connection, id)
    _DISUSE(connection, id=id)
    rows.drop(connection, id)


def release(connection: sa.Connection, conversation: str, seq: int) -> None:
    """Have a message show nothing any more; what no other shows is dropped."""
    files = of_message(connection, conversation, seq)
    _REMOVE(connection, conversation=conversation, seq=seq)
    for id in sorted(files):
        _DISUSE(connection, id=id)
        if not rows.drop(connection, id):
            _weigh(connection, id)


def weigh(connection: sa.Connection, conversation: str, seq: int) -> None:
    """Charge for what a message shows from now on, and no longer for what none does."""
    for id in sorted(of_message(connection, conversation, seq)):
        rows.lock(connection, id)
        _weigh(connection, id)


def _weigh(connection: sa.Connection, id: str) -> None:
    if _SHOWN(connection, file=id).fetchone() is None:
        rows.discharge(connection, id)
    else:
        rows.charge(connection, id)


def release_below(connection: sa.Connection, conversation: str, oldest: int) -> None:
    """Have messages before one show nothing any more."""
    for row in _BELOW(connection, conversation=conversation, oldest=oldest).fetchall():
        release(connection, conversation, row[0])


def require_seen(connection: sa.Connection, account: AccountId, id: str, now_ms: int) -> File:
    """Return a file that an account may see: its own that no message shows yet, or one in a message that it reads.

    Raises Refused("file_unknown"), whatever the reason.
    """
    file = rows.find(connection, id)
    if file is None or file.state != "ready":
        raise Refused("file_unknown")
    own = file.owner == account and not file.uses
    if not own and _SEEN(connection, account=account, file=id, now=now_ms).fetchone() is None:
        raise Refused("file_unknown")
    return file

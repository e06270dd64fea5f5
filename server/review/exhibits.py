"""Files that a case keeps: shown by the messages that it is about, or by those between its sides.

As long as the case goes on, and longer under a legal hold, none of them is removed, whoever takes a message back; what
is kept under an id never changes. Reviewers see them, and each look is written down before anything is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.files import rows as files
from server.files import uses
from server.files.rows import File
from server.review import rows
from server.review.rows import Filed
from signalling.messenger.views import AttachmentView
from signalling.refusals import Refused

MOST = 50  # in one case
ONE_LOOK_MS = 600_000  # a video is fetched in many parts, and looked at once

_ADD = Prepared("INSERT INTO case_files (case_id, place, file, released) VALUES (:case_id, :place, :file, FALSE)")
_FIND = Prepared("SELECT place FROM case_files WHERE case_id = :case_id AND file = :file AND NOT released")
_KEPT = Prepared("SELECT file FROM case_files WHERE case_id = :case_id AND NOT released ORDER BY file")
_RELEASE = Prepared("UPDATE case_files SET released = TRUE WHERE case_id = :case_id")
_LOOKED = Prepared(
    "SELECT 1 FROM case_log WHERE case_id = :case_id AND account = :account AND did = :did AND at > :since LIMIT 1"
)


class Exhibit(msgspec.Struct, frozen=True):
    """A file, in which message it stands, and the SHA-256 of its upload ("" where its sender declared none)."""

    conversation: str
    seq: int
    file: AttachmentView
    sha256: str


def shown_by(connection: sa.Connection, messages: Iterable[tuple[str, int]]) -> list[Exhibit]:
    """Return the files that messages show, each once, the first ones where there are too many."""
    found: dict[str, Exhibit] = {}
    for conversation, seq in messages:
        for id in uses.of_message(connection, conversation, seq):
            file = files.find(connection, id)
            if file is not None and file.state == "ready":
                found.setdefault(id, Exhibit(conversation, seq, uses.view(file), file.sha256))
    return list(found.values())[:MOST]


def keep(connection: sa.Connection, case: str, exhibits: list[Exhibit]) -> None:
    """Keep files for a case, whatever becomes of their messages."""
    for place, exhibit in enumerate(exhibits, 1):
        _ADD(connection, case_id=case, place=place, file=exhibit.file.id)
    for id in sorted(exhibit.file.id for exhibit in exhibits):  # in the order in which all lock files
        uses.hold(connection, id)


def let_go(connection: sa.Connection, filed: Filed) -> None:
    """Keep the files of a case no longer, once it is decided for good and nobody holds it."""
    if filed.legal_hold or not filed.case.is_over:
        return
    kept = [id for (id,) in _KEPT(connection, case_id=filed.case.id).fetchall()]
    _RELEASE(connection, case_id=filed.case.id)
    for id in kept:
        uses.let_go(connection, id)


def look(connection: sa.Connection, account: str, case: str, id: str, now_ms: int) -> File:
    """Return a file that a case keeps; that somebody looks is written down. Raises Refused (file_unknown)."""
    row = _FIND(connection, case_id=case, file=id).fetchone()
    file = None if row is None else files.find(connection, id)
    if file is None:
        raise Refused("file_unknown")
    seen: dict[str, Any] = {"case_id": case, "account": account, "did": f"saw file {row[0]}"}
    if _LOOKED(connection, **seen, since=now_ms - ONE_LOOK_MS).fetchone() is None:
        rows.note(connection, case, account, seen["did"], now_ms)
    return file

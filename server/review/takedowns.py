"""Takes down what was reported, and brings it back when an appeal is right, in the transaction of the decision.

A message is shown as one that was removed, and so are its copies that were forwarded and say what was reported; what
they said and showed is kept for their return. Of a profile go its goals and its menu of tips, all that stands there in
its owner's words. A stream ends, also when the node was down meanwhile; one that comes back waits for its picture.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.files import uses
from server.money import goals
from server.review import evidence
from server.review.cases import Case
from server.review.rows import About, Filed
from server.talk.showing import OWN
from signalling.identifiers import StreamId

KINDS = ("message", "stream", "account")
MOST_COPIES = 1000  # of one message: a second of the writer
NOTHING = "null"  # what is kept of what can't come back
Returned = Literal["content", "stream", "stream_over"]

_ADD = Prepared(
    "INSERT INTO takedowns (case_id, kind, subject, kept, at) VALUES (:case_id, :kind, :subject, :kept, :at)"
)
_STANDING = Prepared("SELECT kept FROM takedowns WHERE kind = :kind AND subject = :subject AND lifted_at IS NULL")
_OF_CASE = Prepared("SELECT id, kind, subject, kept FROM takedowns WHERE case_id = :case_id AND lifted_at IS NULL")
_LIFT = Prepared("UPDATE takedowns SET lifted_at = :now WHERE id = :id")
_STILL_ON = Prepared(
    "SELECT s.id FROM takedowns t JOIN streams s ON s.id = t.subject"
    " WHERE t.kind = 'stream' AND t.lifted_at IS NULL AND s.ended IS NULL"
)
_MESSAGE = Prepared(
    "SELECT sender, text, mentions, attached, withheld FROM messages"
    " WHERE conversation = :conversation AND seq = :seq AND erased_at IS NULL"
)
_LOCK = Prepared("SELECT id FROM conversations WHERE id = :conversation", locks=True)
_BLANK = Prepared(
    "UPDATE messages SET text = '', mentions = '[]', attached = 0, pinned_at = NULL, erased_at = :now,"
    " taken_down = TRUE WHERE conversation = :conversation AND seq = :seq"
)
_BRING_BACK = Prepared(
    "UPDATE messages SET text = :text, mentions = :mentions, attached = :attached, erased_at = NULL,"
    " taken_down = FALSE WHERE conversation = :conversation AND seq = :seq AND taken_down"
)
_COPIES = Prepared(
    "WITH RECURSIVE copies (conversation, seq) AS (SELECT conversation, seq FROM messages"
    " WHERE origin_conversation = :conversation AND origin_seq = :seq UNION SELECT x.conversation, x.seq"
    " FROM messages x JOIN copies y ON x.origin_conversation = y.conversation AND x.origin_seq = y.seq)"
    " SELECT m.conversation, m.seq FROM copies y JOIN messages m ON m.conversation = y.conversation AND m.seq = y.seq"
    " WHERE m.taken_down OR (m.erased_at IS NULL AND m.text = :text) ORDER BY m.conversation, m.seq LIMIT :limit"
)
_REOPEN = Prepared(
    "UPDATE streams SET ended = NULL WHERE id = :stream AND ended = 'taken_down'"
    " AND NOT EXISTS (SELECT 1 FROM streams o WHERE o.owner = streams.owner AND o.ended IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM conversation_lives l WHERE l.stream = streams.id) RETURNING owner"
)
_FORGET = Prepared("UPDATE takedowns SET kept = :nothing WHERE kind = :kind AND subject = :subject")
_RETURNED = Prepared(
    "SELECT t.kind, s.ended IS NOT NULL FROM takedowns t LEFT JOIN streams s ON t.kind = 'stream' AND s.id = t.subject"
    " WHERE t.case_id = :case_id AND NOT EXISTS"
    " (SELECT 1 FROM takedowns o WHERE o.case_id = t.case_id AND o.lifted_at IS NULL) ORDER BY t.id LIMIT 1"
)


class _Message(msgspec.Struct, frozen=True):
    """What a message held; files stay with it."""

    sender: str
    text: str
    mentions: str
    attached: int
    withheld: bool


class _Profile(msgspec.Struct, frozen=True):
    """Goals that ran, by id, and the rows of a menu."""

    goals: tuple[str, ...]
    menu: tuple[tuple[str, str, str, str], ...]


def take_down(connection: sa.Connection, case: Case, about: About, now_ms: int) -> StreamId | None:
    """Take down what a case is about; returns the stream that is to end with it."""
    assert case.respondent is not None, "only what is there is taken down"
    if about.kind == "message":
        _take_down_message(connection, case.id, about.id, now_ms)
        return None
    subject = case.respondent if about.kind == "account" else about.id
    _take(connection, case.id, about.kind, subject, now_ms)
    return StreamId(subject) if about.kind == "stream" else None


def _take_down_message(connection: sa.Connection, case: str, subject: str, now_ms: int) -> None:
    # A writer of messages locks their conversation first, too: nobody edits what goes now.
    key = _key(subject)
    _LOCK(connection, conversation=key["conversation"])
    copies = []
    if (text := evidence.reported_text(connection, case, key["seq"])) is not None:
        copies = [f"{where}/{seq}" for where, seq in _COPIES(connection, **key, text=text, limit=MOST_COPIES)]
    _take(connection, case, "message", subject, now_ms)
    for copy in copies:
        _LOCK(connection, conversation=copy.rpartition("/")[0])
        _take(connection, case, "message", copy, now_ms)


def _take(connection: sa.Connection, case: str, kind: str, subject: str, now_ms: int) -> None:
    standing = _STANDING(connection, kind=kind, subject=subject).fetchone()
    kept = standing[0] if standing is not None else _remove(connection, kind, subject, now_ms)
    _ADD(connection, case_id=case, kind=kind, subject=subject, kept=kept, at=now_ms)


def lift_of_case(connection: sa.Connection, case: str, now_ms: int) -> list[StreamId]:
    """Bring back what a case took down, unless another one has taken it down as well; returns streams among it."""
    streams = []
    for id, kind, subject, kept in _OF_CASE(connection, case_id=case).fetchall():
        _LIFT(connection, id=id, now=now_ms)
        if _STANDING(connection, kind=kind, subject=subject).fetchone() is None:
            _return(connection, kind, subject, kept, now_ms)
            streams += [StreamId(subject)] if kind == "stream" else []
    return streams


def reopen(connection: sa.Connection, stream: StreamId, now_ms: int) -> bool:
    """Let a stream be on again that ended as it was taken down; returns whether it may.

    Not while its owner has another one on; and none of a group, which shows that it is over and opens the next.
    """
    row = _REOPEN(connection, stream=stream).fetchone()
    if row is not None:
        eventlog.append(connection, Happened(stream, "stream.reopened", now_ms, {}, (row[0],)))
    return row is not None


def settle(connection: sa.Connection, filed: Filed) -> None:
    """Keep nothing any more of messages that can't come back: the case is over, and nobody holds it."""
    if filed.legal_hold or not filed.case.is_over:
        return
    for _, kind, subject, kept in _OF_CASE(connection, case_id=filed.case.id).fetchall():
        if kind == "message" and kept != NOTHING:
            key = _key(subject)
            uses.release(connection, key["conversation"], key["seq"])
            _FORGET(connection, kind=kind, subject=subject, nothing=NOTHING)


def returned(connection: sa.Connection, case: str) -> Returned | None:
    """Return what has become of what a case had taken down and an appeal has brought back, None where nothing was."""
    row = _RETURNED(connection, case_id=case).fetchone()
    if row is None:
        return None
    kind, is_over = row
    return "content" if kind != "stream" else "stream_over" if is_over else "stream"


def still_on(connection: sa.Connection) -> list[StreamId]:
    """Return streams that were taken down and have not ended yet."""
    return [StreamId(id) for (id,) in _STILL_ON(connection)]


def _remove(connection: sa.Connection, kind: str, subject: str, now_ms: int) -> str:
    match kind:
        case "message":
            return _remove_message(connection, subject, now_ms)
        case "account":
            ended, menu = goals.withdraw(connection, subject, now_ms)
            return msgspec.json.encode(_Profile(ended, menu)).decode()
        case _:
            return NOTHING


def _return(connection: sa.Connection, kind: str, subject: str, kept: str, now_ms: int) -> None:
    if kind == "message":
        _return_message(connection, subject, kept, now_ms)
    elif kind == "account":
        profile = msgspec.json.decode(kept, type=_Profile)
        goals.bring_back(connection, subject, profile.goals, profile.menu)


def _remove_message(connection: sa.Connection, subject: str, now_ms: int) -> str:
    key = _key(subject)
    row = _MESSAGE(connection, **key).fetchone()
    if row is None:
        return NOTHING  # its sender has taken it back before
    sender, text, mentions, attached, withheld = row
    _BLANK(connection, **key, now=now_ms)
    uses.weigh(connection, **key)
    _tell(connection, key, sender, bool(withheld), now_ms)
    return msgspec.json.encode(_Message(sender, text, mentions, attached, bool(withheld))).decode()


def _return_message(connection: sa.Connection, subject: str, kept: str, now_ms: int) -> None:
    key, said = _key(subject), msgspec.json.decode(kept, type=_Message | None)
    if said is None:
        return
    _LOCK(connection, conversation=key["conversation"])
    content = {"text": said.text, "mentions": said.mentions, "attached": said.attached}
    if _BRING_BACK(connection, **key, **content).rowcount:
        uses.weigh(connection, **key)
        _tell(connection, key, said.sender, said.withheld, now_ms)


def _key(subject: str) -> dict[str, Any]:
    conversation, _, seq = subject.rpartition("/")
    return {"conversation": conversation, "seq": int(seq)}


def _tell(connection: sa.Connection, key: dict[str, Any], sender: str, withheld: bool, now_ms: int) -> None:
    conversation, seq = key["conversation"], key["seq"]
    if withheld:
        told = Happened(conversation, "message.changed", now_ms, {"seq": seq, OWN: True}, (sender,))
    else:
        told = Happened(conversation, "message.changed", now_ms, {"seq": seq}, party=conversation)
    eventlog.append(connection, told)

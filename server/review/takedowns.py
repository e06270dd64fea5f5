"""Takes down what was reported, and brings it back when an appeal is right, in the transaction of the decision.

A message is shown as one that was removed; what it said and showed is kept for its return. Of a profile go its goals
and its menu of tips, all that stands there in its owner's words. A stream ends, also when the node was down meanwhile;
what has ended does not begin again.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from server import eventlog
from server.eventlog import Happened
from server.money import goals
from server.prepared import Prepared
from server.review.cases import Case
from server.review.rows import About
from server.talk.showing import OWN
from signalling.identifiers import StreamId

KINDS = ("message", "stream", "account")

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
    subject = case.respondent if about.kind == "account" else about.id
    if about.kind == "message":
        # A writer of messages locks their conversation first, too: nobody edits what goes now.
        _LOCK(connection, conversation=about.id.rpartition("/")[0])
    standing = _STANDING(connection, kind=about.kind, subject=subject).fetchone()
    kept = standing[0] if standing is not None else _remove(connection, about.kind, subject, now_ms)
    _ADD(connection, case_id=case.id, kind=about.kind, subject=subject, kept=kept, at=now_ms)
    return StreamId(subject) if about.kind == "stream" else None


def lift_of_case(connection: sa.Connection, case: str, now_ms: int) -> None:
    """Bring back what a case took down, unless another one has taken it down as well."""
    for id, kind, subject, kept in _OF_CASE(connection, case_id=case).fetchall():
        _LIFT(connection, id=id, now=now_ms)
        if _STANDING(connection, kind=kind, subject=subject).fetchone() is None:
            _return(connection, kind, subject, kept, now_ms)


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
            return "null"


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
        return "null"  # its sender has taken it back before
    sender, text, mentions, attached, withheld = row
    _BLANK(connection, **key, now=now_ms)
    _tell(connection, key, sender, bool(withheld), now_ms)
    return msgspec.json.encode(_Message(sender, text, mentions, attached, bool(withheld))).decode()


def _return_message(connection: sa.Connection, subject: str, kept: str, now_ms: int) -> None:
    key, said = _key(subject), msgspec.json.decode(kept, type=_Message | None)
    if said is None:
        return
    _LOCK(connection, conversation=key["conversation"])
    content = {"text": said.text, "mentions": said.mentions, "attached": said.attached}
    if _BRING_BACK(connection, **key, **content).rowcount:
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

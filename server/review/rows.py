"""Cases as rows: written down, locked, written back, and listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.review.cases import Appeal, Case, Decision, Proposal, State, concerns_respondent
from signalling.refusals import Refused

NEWEST = 2**62  # above every number of a case
Kind = Literal["report", "cut_short"]
AboutKind = Literal["account", "stream", "message", "one_to_one", "ticket", "chat"]
_COLUMNS = (
    "c.number, c.id, c.kind, c.reason, c.words, c.about_kind, c.about, c.label, c.reporter, c.respondent,"
    " c.conversation, c.opened_at, c.state, c.reviewer, c.appeal_until, c.legal_hold, c.course, r.name, o.name"
)
_CASE = (
    f"SELECT {_COLUMNS} FROM cases c LEFT JOIN accounts r ON r.id = c.reporter"
    " LEFT JOIN accounts o ON o.id = c.respondent WHERE "
)
_LOCK = Prepared("SELECT id FROM cases WHERE id = :id", locks=True)
_FIND = Prepared(f"{_CASE}c.id = :id")
_ADD = Prepared(
    "INSERT INTO cases (id, kind, reason, words, about_kind, about, label, reporter, respondent, conversation,"
    " opened_at, state, reviewer, appeal_until, shown_to_respondent, legal_hold, course) VALUES (:id, :kind, :reason,"
    " :words, :about_kind, :about, :label, :reporter, :respondent, :conversation, :opened_at, :state, :reviewer,"
    " :appeal_until, :shown_to_respondent, FALSE, :course)"
)
_SET = Prepared(
    "UPDATE cases SET state = :state, reviewer = :reviewer, appeal_until = :appeal_until,"
    " shown_to_respondent = :shown_to_respondent, course = :course WHERE id = :id"
)
_SET_HOLD = Prepared("UPDATE cases SET legal_hold = :held WHERE id = :id")
_MINE = Prepared(
    f"{_CASE}(c.reporter = :account OR (c.respondent = :account AND c.shown_to_respondent))"
    " AND c.number < :before ORDER BY c.number DESC LIMIT :limit"
)
_QUEUE = Prepared(f"{_CASE}c.state = :state AND c.number > :after ORDER BY c.number LIMIT :limit")
_ALL = Prepared(f"{_CASE}c.number > :after ORDER BY c.number LIMIT :limit")
_ALIKE = Prepared(
    "SELECT count(*) FROM cases WHERE about_kind = :kind AND about = :about AND state IN ('open', 'taken')"
)
_SAME = Prepared(
    f"{_CASE}c.reporter = :reporter AND c.kind = 'report' AND c.about_kind = :kind AND c.about = :about"
    " AND (c.reason = 'unfair_block') = (:reason = 'unfair_block') AND c.state IN ('open', 'taken')"
)
_COUNT_OPEN = Prepared(
    "SELECT count(*) FROM cases WHERE reporter = :reporter AND kind = 'report' AND state IN ('open', 'taken')"
)
_COUNT_FILED = Prepared("SELECT count(*) FROM cases WHERE reporter = :reporter AND kind = 'report'")
_DUE = Prepared("SELECT id FROM cases WHERE state = 'decided' AND appeal_until <= :now LIMIT :limit")
_IN_HAND_OF = Prepared("SELECT id FROM cases WHERE reviewer = :reviewer")
_LOG = Prepared("INSERT INTO case_log (case_id, account, did, at) VALUES (:case_id, :account, :did, :at)")
_READ_LOG = Prepared(
    "SELECT l.id, coalesce(a.name, l.account), l.did, l.at FROM case_log l LEFT JOIN accounts a ON a.id = l.account"
    " WHERE l.case_id = :case_id AND l.id > :after ORDER BY l.id LIMIT :limit"
)


class About(msgspec.Struct, frozen=True):
    """What a case is about: an account, a stream, a message ("conversation/number") or something that was paid for.

    `label` is what it was called by who reported it, or its title.
    """

    kind: AboutKind
    id: str
    label: str


class Filing(msgspec.Struct, frozen=True):
    """What was filed: by somebody (`report`), or by the server itself as something paid was `cut_short`."""

    kind: Kind
    reason: str
    words: str
    about: About
    conversation: str | None = None


class Filed(msgspec.Struct, frozen=True):
    """A case as it is kept: its place among all, what was filed, how it stands, and what its sides are called."""

    number: int
    filing: Filing
    case: Case
    legal_hold: bool = False
    reporter_name: str = ""
    respondent_name: str = ""

    @property
    def is_shown_to_respondent(self) -> bool:
        """Whether the respondent may know of it: of what came to nothing, nobody is accused."""
        return self.filing.kind == "cut_short" or concerns_respondent(self.case)


class LogLine(msgspec.Struct, frozen=True):
    """Who did what with a case, looking included."""

    id: int
    name: str
    did: str
    at: int


class _Course(msgspec.Struct, frozen=True):
    proposal: Proposal | None
    decisions: tuple[Decision, ...]
    appeals: tuple[Appeal, ...]


def add(connection: sa.Connection, filing: Filing, case: Case) -> None:
    """Write a new case down."""
    about = filing.about
    _ADD(
        connection,
        kind=filing.kind,
        reason=filing.reason,
        words=filing.words,
        about_kind=about.kind,
        about=about.id,
        label=about.label,
        reporter=case.reporter,
        respondent=case.respondent,
        conversation=filing.conversation,
        opened_at=case.opened_at,
        **_changing(filing, case),
    )


def save(connection: sa.Connection, filing: Filing, case: Case) -> None:
    """Write down what became of a case."""
    _SET(connection, **_changing(filing, case))


def lock(connection: sa.Connection, id: str) -> Filed:
    """Return a case that nobody else changes until the commit. Raises Refused("case_unknown")."""
    if _LOCK(connection, id=id).fetchone() is None:
        raise Refused("case_unknown")
    return find(connection, id)


def find(connection: sa.Connection, id: str) -> Filed:
    """Return a case. Raises Refused("case_unknown")."""
    row = _FIND(connection, id=id).fetchone()
    if row is None:
        raise Refused("case_unknown")
    return _filed(row)


def of_account(connection: sa.Connection, account: str, before: int, limit: int) -> list[Filed]:
    """Return the cases in which somebody is a side and may know of it, the newest first."""
    return [_filed(row) for row in _MINE(connection, account=account, before=before, limit=limit)]


def queue(connection: sa.Connection, state: State | None, after: int, limit: int) -> list[Filed]:
    """Return cases in a state, or all, the oldest first."""
    if state is None:
        return [_filed(row) for row in _ALL(connection, after=after, limit=limit)]
    return [_filed(row) for row in _QUEUE(connection, state=state.value, after=after, limit=limit)]


def find_same(connection: sa.Connection, reporter: str, filing: Filing) -> Filed | None:
    """Return what somebody reported before of the same and is not decided yet."""
    about = filing.about
    named = {"reporter": reporter, "kind": about.kind, "about": about.id, "reason": filing.reason}
    row = _SAME(connection, **named).fetchone()
    return None if row is None else _filed(row)


def count_alike(connection: sa.Connection, about: About) -> int:
    """Return how many cases about the same are not decided yet."""
    return int(_ALIKE(connection, kind=about.kind, about=about.id).fetchone()[0])


def count_open(connection: sa.Connection, reporter: str) -> int:
    """Return how many reports of somebody's are not decided yet."""
    return int(_COUNT_OPEN(connection, reporter=reporter).fetchone()[0])


def count_filed(connection: sa.Connection, reporter: str) -> int:
    """Return how many reports somebody has filed, decided ones too."""
    return int(_COUNT_FILED(connection, reporter=reporter).fetchone()[0])


def due(connection: sa.Connection, now_ms: int, limit: int) -> list[str]:
    """Return decided cases against which nobody may appeal any more."""
    return [row[0] for row in _DUE(connection, now=now_ms, limit=limit)]


def in_hand_of(connection: sa.Connection, reviewer: str) -> list[str]:
    """Return the cases that a reviewer has."""
    return [row[0] for row in _IN_HAND_OF(connection, reviewer=reviewer)]


def hold(connection: sa.Connection, id: str, held: bool) -> None:
    """Keep what belongs to a case from being dropped, or no longer."""
    _SET_HOLD(connection, id=id, held=held)


def note(connection: sa.Connection, id: str, account: str, did: str, now_ms: int) -> None:
    """Write down who did what with a case; nobody can take it out again."""
    _LOG(connection, case_id=id, account=account, did=did, at=now_ms)


def read_log(connection: sa.Connection, id: str, after: int, limit: int) -> list[LogLine]:
    """Return who did what with a case, the oldest first."""
    return [LogLine(*row) for row in _READ_LOG(connection, case_id=id, after=after, limit=limit)]


def _changing(filing: Filing, case: Case) -> dict[str, Any]:
    course = _Course(case.proposal, case.decisions, case.appeals)
    return {
        "id": case.id,
        "state": case.state.value,
        "reviewer": case.reviewer,
        "appeal_until": case.appeal_until,
        "shown_to_respondent": Filed(0, filing, case).is_shown_to_respondent,
        "course": msgspec.json.encode(course).decode(),
    }


def _filed(row: Sequence[Any]) -> Filed:
    number, id, kind, reason, words, about_kind, about, label, reporter, respondent = row[:10]
    conversation, opened_at, state, reviewer, appeal_until, held, course, reporter_name, respondent_name = row[10:]
    went = msgspec.json.decode(course, type=_Course)
    case = Case(
        id,
        reporter,
        respondent,
        opened_at,
        State(state),
        reviewer,
        went.proposal,
        went.decisions,
        went.appeals,
        appeal_until,
    )
    filing = Filing(kind, reason, words, About(about_kind, about, label), conversation)
    return Filed(number, filing, case, bool(held), reporter_name or "", respondent_name or "")

"""Cases as they are shown: to a side, which hears nothing of the other's, and to reviewers, who see all of it."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.money.amounts import WireAmount
from server.review import rows, sanctions, stakes, takedowns
from server.review.cases import Case, Decision, Outcome, Proposal, State
from server.review.evidence import Bundle
from server.review.rows import About, Filed
from server.review.stakes import Stake
from server.review.takedowns import Returned

_NAME = Prepared("SELECT name FROM accounts WHERE id = :id")


class StakeView(msgspec.Struct, frozen=True):
    """A payment that a case is about: of what kind, how much, how much has gone back, and whether it is frozen yet."""

    kind: str
    subject: str
    amount: WireAmount
    refunded: str
    frozen: bool


class DecisionView(msgspec.Struct, frozen=True):
    """A decision as a side sees it: what was found, the words to that side, and what follows for the respondent."""

    finding: str
    words: str
    sanction: str
    suspend_s: int
    strike: bool
    takedown: bool
    at: int


class CaseView(msgspec.Struct, frozen=True):
    """A case as one of its sides sees it.

    `kind` is report, or cut_short for what the server opened itself. `role` is reporter or respondent; only of one's
    own report one sees the `words`. Until `appeal_until` one may appeal, once, where `can_appeal` says so. `returned`
    says that what was taken down is back: a stream that is open again, or one that is over all the same.
    """

    id: str
    number: int
    kind: str
    reason: str
    about: About
    role: str
    words: str
    state: str
    opened_at: int
    decisions: tuple[DecisionView, ...]
    stakes: tuple[StakeView, ...]
    appeal_until: int | None
    can_appeal: bool
    appealed: bool
    returned: Returned | None


class CasePage(msgspec.Struct, frozen=True):
    """Some cases, the newest first; `before` leads to the next page, null where there is none."""

    cases: tuple[CaseView, ...]
    before: int | None


class DecidedView(msgspec.Struct, frozen=True):
    """A decision as reviewers see it: who took it, who agreed, and when (epoch ms)."""

    outcome: Outcome
    by: str
    seconded_by: str | None
    at: int


class AppealView(msgspec.Struct, frozen=True):
    """Who appealed (reporter or respondent), and why."""

    role: str
    words: str
    at: int


class ProposalView(msgspec.Struct, frozen=True):
    """What waits for a second reviewer, and who proposed it."""

    outcome: Outcome
    by: str


class EvidenceView(msgspec.Struct, frozen=True):
    """What the server gathered at filing: JSON as text, its SHA-256, and whether it is still what was hashed."""

    at: int
    body: str
    sha256: str
    intact: bool


class Docket(msgspec.Struct, frozen=True):
    """A case as reviewers see it; with the evidence only where it was asked for alone, which is logged.

    `alike` is how many cases about the same wait, `reports` how many the reporter has filed, and `strikes` how many of
    those were false lately.
    """

    id: str
    number: int
    kind: str
    reason: str
    about: About
    words: str
    reporter: str
    respondent: str | None
    state: str
    opened_at: int
    reviewer: str | None
    proposal: ProposalView | None
    decisions: tuple[DecidedView, ...]
    appeals: tuple[AppealView, ...]
    appeal_until: int | None
    legal_hold: bool
    stakes: tuple[StakeView, ...]
    alike: int
    reports: int
    strikes: int
    evidence: EvidenceView | None


class DocketPage(msgspec.Struct, frozen=True):
    """Some cases, the oldest first; `after` leads to the next page, null where there is none."""

    cases: tuple[Docket, ...]
    after: int | None

    @classmethod
    def of(cls, connection: sa.Connection, found: list[Filed], limit: int) -> DocketPage:
        """Return a page of what was found."""
        shown = tuple(_docket(connection, filed, None) for filed in found)
        return cls(shown, found[-1].number if len(found) == limit else None)


def show_case(connection: sa.Connection, filed: Filed, account: str, now_ms: int) -> CaseView:
    """Return a case as one of its sides sees it."""
    case, mine = filed.case, filed.case.reporter == account
    # Who reported is told to nobody; that somebody appealed the other side hears when it is decided.
    return CaseView(
        id=case.id,
        number=filed.number,
        kind=filed.filing.kind,
        reason=filed.filing.reason,
        about=filed.filing.about,
        role="reporter" if mine else "respondent",
        words=filed.filing.words if mine else "",
        state=_plain(case.state),
        opened_at=case.opened_at,
        decisions=tuple(_decision(each, mine) for each in case.decisions),
        stakes=tuple(_stake(each) for each in stakes.of_case(connection, case.id)),
        appeal_until=case.appeal_until,
        can_appeal=case.may_appeal(account, now_ms),
        appealed=any(appeal.by == account for appeal in case.appeals),
        returned=takedowns.returned(connection, case.id),
    )


def show_docket(connection: sa.Connection, id: str, bundle: Bundle | None = None) -> Docket:
    """Return a case as reviewers see it. Raises Refused("case_unknown")."""
    return _docket(connection, rows.find(connection, id), bundle)


def _docket(connection: sa.Connection, filed: Filed, bundle: Bundle | None) -> Docket:
    case, filing = filed.case, filed.filing
    proposal = case.proposal
    return Docket(
        id=case.id,
        number=filed.number,
        kind=filing.kind,
        reason=filing.reason,
        about=filing.about,
        words=filing.words,
        reporter=filed.reporter_name,
        respondent=None if case.respondent is None else filed.respondent_name,
        state=case.state.value,
        opened_at=case.opened_at,
        reviewer=_name(connection, case.reviewer),
        proposal=None if proposal is None else _proposed(connection, proposal),
        decisions=tuple(_decided(connection, each) for each in case.decisions),
        appeals=tuple(AppealView(_role(case, each.by), each.words, each.at) for each in case.appeals),
        appeal_until=case.appeal_until,
        legal_hold=filed.legal_hold,
        stakes=tuple(_stake(each) for each in stakes.of_case(connection, case.id)),
        alike=rows.count_alike(connection, filing.about),
        reports=rows.count_filed(connection, case.reporter),
        strikes=sanctions.strikes(connection, case.reporter, case.opened_at)[0],
        evidence=None if bundle is None else EvidenceView(*msgspec.structs.astuple(bundle)),
    )


def _plain(state: State) -> str:
    """Return how a case stands for its sides: that a reviewer has it is none of their business."""
    return State.OPEN.value if state is State.TAKEN else state.value


def _decision(decision: Decision, mine: bool) -> DecisionView:
    outcome = decision.outcome
    words = outcome.to_reporter if mine else outcome.to_respondent
    follows = outcome.sanction, outcome.suspend_s, outcome.strike and mine, outcome.takedown
    return DecisionView(outcome.finding, words, *follows, decision.at)


def _proposed(connection: sa.Connection, proposal: Proposal) -> ProposalView:
    return ProposalView(proposal.outcome, _name(connection, proposal.by) or "")


def _decided(connection: sa.Connection, decision: Decision) -> DecidedView:
    by, second = _name(connection, decision.by), _name(connection, decision.seconded_by)
    return DecidedView(decision.outcome, by or "", second, decision.at)


def _stake(stake: Stake) -> StakeView:
    amount = WireAmount(stake.asset, str(stake.units))
    return StakeView(stake.kind, stake.subject, amount, str(stake.refunded), stake.frozen)


def _role(case: Case, account: str) -> str:
    return "reporter" if account == case.reporter else "respondent"


def _name(connection: sa.Connection, account: str | None) -> str | None:
    if account is None:
        return None
    row = _NAME(connection, id=account).fetchone()
    return account if row is None else str(row[0])

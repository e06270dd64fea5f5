"""Decides how a case goes on: `step(case, command, now_ms) -> case`, and what follows from it.

    open       somebody reported, or a paid one-to-one was cut short: it waits for a reviewer
    taken      a reviewer has it; what moves much money waits there for a second one
    decided    both sides were told why; each may appeal once, until a moment
    appealed   it waits for, or is with, a reviewer who had no part in the decision
    closed     decided for good

Pure: no clock, no randomness, no SQL. What a decision moves is written in its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from signalling.refusals import Refused

WHOLE_BPS = 10_000  # basis points: hundredths of a percent
MAX_WORDS = 2000
MAX_SUSPENSION_S = 366 * 86_400
Words = Annotated[str, Meta(max_length=MAX_WORDS)]


class State(StrEnum):
    """What a case has come to."""

    OPEN = "open"
    TAKEN = "taken"
    DECIDED = "decided"
    APPEALED = "appealed"
    CLOSED = "closed"


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is decided, and why: a code, and words to each side.

    `refund_bps` is the part of what was paid that goes back to who paid it, in basis points. A sanction is on the
    respondent; `suspend_s` is how long a suspension lasts. `strike`: the report was false, and that counts.
    `takedown`: what was reported is shown to nobody any more.
    """

    finding: Literal["upheld", "partly_upheld", "not_upheld", "false_report"]
    to_reporter: Words
    to_respondent: Words
    refund_bps: Annotated[int, Meta(ge=0, le=WHOLE_BPS)] = 0
    sanction: Literal["none", "suspension", "ban"] = "none"
    suspend_s: Annotated[int, Meta(ge=0, le=MAX_SUSPENSION_S)] = 0
    strike: bool = False
    takedown: bool = False


class Proposal(msgspec.Struct, frozen=True):
    """An outcome that waits for a second reviewer."""

    outcome: Outcome
    by: str


class Decision(msgspec.Struct, frozen=True):
    """An outcome, who decided it, who agreed where two were needed, and when (epoch ms)."""

    outcome: Outcome
    by: str
    at: int
    seconded_by: str | None = None


class Appeal(msgspec.Struct, frozen=True):
    """Which side does not accept the decision, and why."""

    by: str
    words: str
    at: int


class Case(msgspec.Struct, frozen=True):
    """One case; `respondent` is None where what was reported does not exist. Times in epoch ms."""

    id: str
    reporter: str
    respondent: str | None
    opened_at: int
    state: State = State.OPEN
    reviewer: str | None = None
    proposal: Proposal | None = None
    decisions: tuple[Decision, ...] = ()
    appeals: tuple[Appeal, ...] = ()
    appeal_until: int | None = None

    @property
    def is_in_hand(self) -> bool:
        """Whether a reviewer has it now."""
        return self.reviewer is not None

    @property
    def is_over(self) -> bool:
        """Whether it is decided for good."""
        return self.state is State.CLOSED

    @property
    def had_part(self) -> frozenset[str]:
        """Those who have decided in it, alone or as the second."""
        names = {decision.by for decision in self.decisions}
        return frozenset(names | {each.seconded_by for each in self.decisions if each.seconded_by is not None})

    def may_appeal(self, account: str, now_ms: int) -> bool:
        """Whether a side may appeal now."""
        in_time = self.appeal_until is not None and now_ms < self.appeal_until
        return self.state is State.DECIDED and in_time and self._is_side(account) and account not in self._appellants

    @property
    def _appellants(self) -> frozenset[str]:
        return frozenset(appeal.by for appeal in self.appeals)

    def _is_side(self, account: str) -> bool:
        return account in (self.reporter, self.respondent)


# -- commands ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Take:
    """A reviewer takes it, of the queue or of the appeals."""

    reviewer: str


@dataclass(frozen=True, slots=True)
class Release:
    """Its reviewer puts it back."""

    reviewer: str


@dataclass(frozen=True, slots=True)
class Decide:
    """Its reviewer decides; where much money moves, `needs_second`, another one has to agree."""

    reviewer: str
    outcome: Outcome
    needs_second: bool
    appeal_ms: int


@dataclass(frozen=True, slots=True)
class Second:
    """Another reviewer agrees with what was proposed, or does not."""

    reviewer: str
    agrees: bool
    appeal_ms: int


@dataclass(frozen=True, slots=True)
class Object:
    """A side appeals."""

    account: str
    words: str


@dataclass(frozen=True, slots=True)
class RunOut:
    """The time for appeals is over."""


Command = Take | Release | Decide | Second | Object | RunOut


def step(case: Case, command: Command, now_ms: int) -> Case:
    """Return what a case has become. Raises Refused: case_conflict, own_case, other_reviewer, appeal_too_late, ..."""
    match command:
        case Take(reviewer):
            return _take(case, reviewer)
        case Release(reviewer):
            _require_in_hand(case, reviewer)
            state = State.OPEN if case.state is State.TAKEN else case.state
            return replace(case, state=state, reviewer=None, proposal=None)
        case Decide(reviewer, outcome, needs_second, appeal_ms):
            _require_in_hand(case, reviewer)
            _check(outcome, case)
            if case.proposal is not None:
                raise Refused("case_conflict", "it waits for a second reviewer")
            if needs_second:
                return replace(case, proposal=Proposal(outcome, reviewer))
            return _decided(case, Decision(outcome, reviewer, now_ms), appeal_ms)
        case Second(reviewer, agrees, appeal_ms):
            return _second(case, reviewer, agrees, appeal_ms, now_ms)
        case Object(account, words):
            return _appeal(case, account, words, now_ms)
        case RunOut():
            if case.state is not State.DECIDED or case.appeal_until is None or now_ms < case.appeal_until:
                raise Refused("case_conflict")
            return replace(case, state=State.CLOSED)


def _take(case: Case, reviewer: str) -> Case:
    _require_outsider(case, reviewer)
    if case.is_in_hand or case.state not in (State.OPEN, State.APPEALED):
        raise Refused("case_conflict", "somebody has it already, or it is decided")
    if reviewer in case.had_part:
        raise Refused("other_reviewer")
    state = State.TAKEN if case.state is State.OPEN else case.state
    return replace(case, state=state, reviewer=reviewer)


def _second(case: Case, reviewer: str, agrees: bool, appeal_ms: int, now_ms: int) -> Case:
    _require_outsider(case, reviewer)
    proposal = case.proposal
    if proposal is None:
        raise Refused("case_conflict", "nothing waits for a second reviewer")
    if reviewer == proposal.by or reviewer in case.had_part:
        raise Refused("other_reviewer")
    if not agrees:
        return replace(case, proposal=None)
    return _decided(case, Decision(proposal.outcome, proposal.by, now_ms, reviewer), appeal_ms)


def _decided(case: Case, decision: Decision, appeal_ms: int) -> Case:
    is_final = case.state is State.APPEALED
    return replace(
        case,
        state=State.CLOSED if is_final else State.DECIDED,
        reviewer=None,
        proposal=None,
        decisions=(*case.decisions, decision),
        appeal_until=case.appeal_until if is_final else decision.at + appeal_ms,
    )


def _appeal(case: Case, account: str, words: str, now_ms: int) -> Case:
    if case.state is not State.DECIDED:
        raise Refused("case_conflict", "what is not decided yet, or for good, can't be appealed against")
    if not case.may_appeal(account, now_ms):
        raise Refused("appeal_too_late")
    return replace(case, state=State.APPEALED, appeals=(*case.appeals, Appeal(account, words, now_ms)))


def _require_outsider(case: Case, reviewer: str) -> None:
    if reviewer in (case.reporter, case.respondent):
        raise Refused("own_case")


def _require_in_hand(case: Case, reviewer: str) -> None:
    if case.reviewer != reviewer:
        raise Refused("case_conflict", "take it first")


def _check(outcome: Outcome, case: Case) -> None:
    if (outcome.sanction == "suspension") != (outcome.suspend_s > 0):
        raise Refused("invalid_outcome", "a suspension has an end, and nothing else has")
    if outcome.sanction != "none" and case.respondent is None:
        raise Refused("invalid_outcome", "there is nobody to sanction")
    if outcome.takedown and case.respondent is None:
        raise Refused("invalid_outcome", "there is nothing to take down")
    if outcome.strike != (outcome.finding == "false_report"):
        raise Refused("invalid_outcome", "a strike is for a false report, and for that alone")


# -- what follows ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repay:
    """Let this part of what was paid be with who paid it, in basis points, and the rest with who was paid."""

    refund_bps: int


@dataclass(frozen=True, slots=True)
class Lift:
    """Take back what the former decision imposed."""


@dataclass(frozen=True, slots=True)
class Sanction:
    """Suspend an account until a moment (epoch ms), or for good."""

    account: str
    until: int | None


@dataclass(frozen=True, slots=True)
class TakeDown:
    """Show what the case is about to nobody any more."""


@dataclass(frozen=True, slots=True)
class Strike:
    """Count a false report."""

    account: str


Consequence = Repay | Lift | TakeDown | Sanction | Strike


def consequences(before: Case, after: Case) -> list[Consequence]:
    """Return what is to be done since a case was decided; nothing for any other step."""
    if len(after.decisions) == len(before.decisions):
        return []
    decision = after.decisions[-1]
    outcome, done = decision.outcome, list[Consequence]([Repay(decision.outcome.refund_bps)])
    if before.decisions:
        done.append(Lift())
    if outcome.takedown:
        done.append(TakeDown())
    if outcome.sanction != "none":
        assert after.respondent is not None, "only somebody who is there is sanctioned"
        until = decision.at + outcome.suspend_s * 1000 if outcome.sanction == "suspension" else None
        done.append(Sanction(after.respondent, until))
    if outcome.strike:
        done.append(Strike(after.reporter))
    return done


def concerns_respondent(case: Case) -> bool:
    """Whether anything was decided that the respondent must hear of; of what came to nothing, nobody accuses him."""
    outcomes = [decision.outcome for decision in case.decisions]
    return any(outcome.refund_bps or outcome.sanction != "none" or outcome.takedown for outcome in outcomes)

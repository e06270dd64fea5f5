"""Judges one account for one stream: what keeps it out first, then whether the rule lets it in. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from server.access.rules import (
    NEVER,
    AllOf,
    AnyOf,
    Facts,
    Finding,
    Follows,
    Invite,
    KyfAccountAge,
    KyfClause,
    KyfRegion,
    KyfTier,
    Missing,
    Rule,
    SubTier,
    evaluate,
    fault_of,
    fault_of_clause,
)

MAX_KYF = 8  # there are five kinds, and a region may be said in two


class StreamRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may watch a stream while it is private, and what everyone must have proven in every mode (`kyf`).

    Without rules it is for subscribers, followers and those with an invitation.
    """

    watch: Rule = AnyOf((SubTier(1), Follows(), Invite()))
    kyf: tuple[KyfClause, ...] = ()

    def fault(self) -> str | None:
        """Say why these rules can't be used, None when they can."""
        if len(self.kyf) > MAX_KYF:
            return f"kyf has at most {MAX_KYF} clauses"
        faults = [fault_of(self.watch), *map(fault_of_clause, self.kyf)]
        return next((fault for fault in faults if fault is not None), None)


@dataclass(frozen=True, slots=True)
class Denials:
    """What keeps an account out whatever it holds: one of the two blocked the other, or the account is suspended."""

    blocked: bool = False
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether an account may come in. Times are epoch ms.

    `denied` is the code of what keeps it out of every mode, else None, and then it is welcome until `welcome_until`.
    `rule` is what the rule says besides; it counts only while nothing denies. Look again at `review`.
    """

    denied: str | None
    welcome_until: int
    rule: Finding
    review: int
    unproven: tuple[Missing, ...] = field(default=())

    @property
    def entitled(self) -> bool:
        """Whether the account may watch while the stream is private."""
        return self.denied is None and self.rule.met


def excludes(demands: Iterable[object], facts: Facts, now: int) -> bool:
    """Say whether what a stream demands is known to keep an account out: its region, its tier or its age.

    What it has not proven yet it may still prove, and that excludes nobody.
    """
    return any(_rules_out(clause, facts, now) for clause in demands)


def _rules_out(clause: object, facts: Facts, now: int) -> bool:
    match clause:
        case KyfRegion():
            lives_somewhere = any(proof.region is not None and now < proof.until for proof in facts.proofs)
            return lives_somewhere and not evaluate(clause, facts, now).met
        case KyfTier() | KyfAccountAge():
            return not evaluate(clause, facts, now).met
        case _:
            return False


def judge(facts: Facts, denials: Denials, rules: StreamRules, everywhere: tuple[KyfClause, ...], now: int) -> Judgement:
    """Judge an account at `now` (epoch ms); `everywhere` is what the node demands of everybody."""
    needed = (*everywhere, *rules.kyf)
    proven = evaluate(AllOf(needed), facts, now) if needed else Finding(True)
    denied = None
    if not proven.met:
        denied = "kyf_required"
    if denials.suspended:
        denied = "suspended"
    if denials.blocked:
        denied = "stream_unknown"
    rule = evaluate(rules.watch, facts, now)
    unproven = getattr(proven.missing, "of", ())
    return Judgement(denied, proven.until, rule, min(proven.review, rule.review, NEVER), unproven)

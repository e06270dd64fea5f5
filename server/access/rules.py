"""The language of a private stream's rules: what it can say, and what it says of one account. Pure and total.

A rule is a tree of clauses under `any_of` and `all_of`. It never denies: what keeps people out whatever they hold
stands beside it (`judging`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

from server.config import Region

MAX_DEPTH = 5  # a person who writes rules does not follow a deeper one
MAX_CLAUSES = 64  # likewise, and it bounds what one joining viewer costs
MAX_AGE_S = 10 * 366 * 86_400
NEVER = 2**62  # a time in ms that does not come
REVIEWED_MS = 60_000  # how late a tip may slide out of its window: nothing reports that moment

Asset = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9]{1,15}$")]
# 39 digits hold any supply with 18 decimals; one digit more and Python and SQLite would still agree.
Units = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,38}$")]
Age = Annotated[int, Meta(ge=0, le=MAX_AGE_S)]
Window = Annotated[int, Meta(ge=60, le=MAX_AGE_S)]
Regions = Annotated[tuple[Region, ...], Meta(min_length=1, max_length=300)]


class _Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Money: an asset and a whole number of its smallest units, as text."""

    asset: Asset
    units: Units


class SubTier(_Node, frozen=True, tag="sub_tier"):
    """A subscription to the streamer, of this tier or a higher one."""

    at_least: Annotated[int, Meta(ge=1, le=100)]


class Follows(_Node, frozen=True, tag="follows"):
    """Follows the streamer, for so long at least."""

    min_age_s: Age = 0


class TipsTotal(_Node, frozen=True, tag="tips_total"):
    """So much in tips to the streamer, all added up: within the last `within_s` seconds, or ever."""

    at_least: Amount
    within_s: Window | None = None


class SingleTip(_Node, frozen=True, tag="single_tip"):
    """One tip to the streamer of so much: within the last `within_s` seconds, or ever. Smaller ones don't add up."""

    at_least: Amount
    within_s: Window | None = None


class Invite(_Node, frozen=True, tag="invite"):
    """An invitation to this stream."""


class Ticket(_Node, frozen=True, tag="ticket"):
    """A ticket for this stream."""


class KyfAgeOver(_Node, frozen=True, tag="kyf:age_over"):
    """Proven to be of this age, in years, or older."""

    years: Annotated[int, Meta(ge=1, le=120)]


class KyfVerified(_Node, frozen=True, tag="kyf:verified"):
    """A verified identity."""


class KyfRegion(_Node, frozen=True, tag="kyf:region"):
    """Proven to live in one of these regions (`inside`), or in none of those (`outside`)."""

    inside: Regions | None = None
    outside: Regions | None = None


class KyfTier(_Node, frozen=True, tag="kyf:tier"):
    """An account of this tier or a higher one."""

    at_least: Annotated[int, Meta(ge=1, le=100)]


class KyfAccountAge(_Node, frozen=True, tag="kyf:account_age"):
    """An account that is so many seconds old."""

    at_least_s: Annotated[int, Meta(ge=1, le=MAX_AGE_S)]


TipClause = TipsTotal | SingleTip
KyfClause = KyfAgeOver | KyfVerified | KyfRegion | KyfTier | KyfAccountAge
Clause = SubTier | Follows | TipsTotal | SingleTip | Invite | Ticket | KyfClause


class AnyOf(_Node, frozen=True, tag="any_of"):
    """One of these is enough."""

    of: Annotated[tuple[Rule, ...], Meta(min_length=1, max_length=MAX_CLAUSES)]


class AllOf(_Node, frozen=True, tag="all_of"):
    """All of these are needed."""

    of: Annotated[tuple[Rule, ...], Meta(min_length=1, max_length=MAX_CLAUSES)]


Rule = AnyOf | AllOf | Clause


class Lacking(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="lacking"):
    """A clause that is not met, and by how much: `have` what there is, `wait_s` until time alone helps."""

    clause: Clause
    have: int | None = None
    short: Amount | None = None
    wait_s: int | None = None


class LackingAny(msgspec.Struct, frozen=True, tag_field="type", tag="any_of"):
    """One of these would help."""

    of: tuple[Missing, ...]


class LackingAll(msgspec.Struct, frozen=True, tag_field="type", tag="all_of"):
    """All of these are missing."""

    of: tuple[Missing, ...]


Missing = Lacking | LackingAny | LackingAll


@dataclass(frozen=True, slots=True)
class Proof:
    """What one issuer vouches for, until `until` (epoch ms)."""

    until: int
    age_over: int = 0
    verified: bool = False
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one account towards one stream; times are epoch ms.

    `tips` holds the units that count for each clause about tips.
    """

    sub_tier: int = 0
    sub_until: int = NEVER
    follows_since: int | None = None
    invited: bool = False
    ticket: bool = False
    tips: Mapping[TipClause, int] = field(default_factory=dict)
    proofs: tuple[Proof, ...] = ()
    account_tier: int = 0
    account_since: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of some facts. Times are epoch ms.

    While it is met: `via` names by what, `until` is when it no longer will be although nothing happens. While it is
    not: `missing` says what would help. `review` is when to look again in either case.
    """

    met: bool
    via: str = ""
    until: int = NEVER
    missing: Missing | None = None
    review: int = NEVER


def evaluate(rule: Rule, facts: Facts, now: int) -> Finding:
    """Judge some facts by a rule, at `now` (epoch ms)."""
    match rule:
        case AnyOf(of=of):
            return _any([evaluate(part, facts, now) for part in of])
        case AllOf(of=of):
            return _all([evaluate(part, facts, now) for part in of])
        case _:
            return _clause(rule, facts, now)


def clauses(rule: Rule) -> Iterator[Clause]:
    """Go through all clauses of a rule."""
    if isinstance(rule, AnyOf | AllOf):
        for part in rule.of:
            yield from clauses(part)
    else:
        yield rule


def fault_of(rule: Rule) -> str | None:
    """Say what makes a rule that parses unfit for use, None for nothing."""
    if _depth(rule) > MAX_DEPTH:
        return f"a rule has at most {MAX_DEPTH} levels"
    listed = list(clauses(rule))
    if len(listed) > MAX_CLAUSES:
        return f"a rule has at most {MAX_CLAUSES} clauses"
    return next((fault for clause in listed if (fault := fault_of_clause(clause)) is not None), None)


def fault_of_clause(clause: Clause) -> str | None:
    """Say why nobody can meet a clause, or everybody does, None when that is not so."""
    if isinstance(clause, KyfRegion):
        if clause.inside is None and clause.outside is None:
            return "kyf:region needs inside or outside"
        if clause.inside is not None and all(_within(region, clause.outside) for region in clause.inside):
            return "kyf:region: nobody can be inside and outside of the same regions"
    return None


def _depth(rule: Rule) -> int:
    return 1 + max(map(_depth, rule.of)) if isinstance(rule, AnyOf | AllOf) else 1


def _any(found: list[Finding]) -> Finding:
    met = [finding for finding in found if finding.met]
    if met:
        best = max(met, key=lambda finding: finding.until)
        # What else comes to be met before this lapses is seen in time, so that nothing is lost in between.
        return Finding(True, best.via, best.until, None, min(best.until, *(finding.review for finding in found)))
    missing = tuple(finding.missing for finding in found if finding.missing is not None)
    return Finding(False, missing=LackingAny(missing), review=min(finding.review for finding in found))


def _all(found: list[Finding]) -> Finding:
    missing = tuple(finding.missing for finding in found if finding.missing is not None)
    review = min(finding.review for finding in found)
    if missing:
        return Finding(False, missing=LackingAll(missing), review=review)
    vias = dict.fromkeys(finding.via for finding in found)
    return Finding(True, "+".join(vias), min(finding.until for finding in found), None, review)


def _clause(clause: Clause, facts: Facts, now: int) -> Finding:
    match clause:
        case SubTier(at_least=tier):
            have = facts.sub_tier if now < facts.sub_until else 0
            return _met("sub_tier", facts.sub_until) if have >= tier else _lacks(clause, have=have)
        case Follows(min_age_s=age_s):
            return _old_enough(clause, "follows", facts.follows_since, age_s, now)
        case TipsTotal(at_least=amount) | SingleTip(at_least=amount):
            return _tipped(clause, amount, facts.tips.get(clause, 0), now)
        case Invite():
            return _met("invite") if facts.invited else _lacks(clause)
        case Ticket():
            return _met("ticket") if facts.ticket else _lacks(clause)
        case KyfAccountAge(at_least_s=age_s):
            return _old_enough(clause, "kyf:account_age", facts.account_since, age_s, now)
        case KyfTier(at_least=tier):
            have = facts.account_tier
            return _met("kyf:tier") if have >= tier else _lacks(clause, have=have)
        case KyfAgeOver() | KyfVerified() | KyfRegion():
            return _proven(clause, [proof for proof in facts.proofs if now < proof.until])


def _proven(clause: KyfAgeOver | KyfVerified | KyfRegion, proofs: list[Proof]) -> Finding:
    match clause:
        case KyfAgeOver(years=years):
            via, fitting = "kyf:age_over", [proof for proof in proofs if proof.age_over >= years]
        case KyfVerified():
            via, fitting = "kyf:verified", [proof for proof in proofs if proof.verified]
        case KyfRegion(inside=inside, outside=outside):
            # Two issuers that disagree leave it uncertain, and that is a no.
            via, fitting = "kyf:region", [proof for proof in proofs if proof.region is not None]
            regions = [proof.region for proof in fitting if proof.region is not None]
            if not all((inside is None or _within(at, inside)) and not _within(at, outside) for at in regions):
                fitting = []
    if not fitting:
        return _lacks(clause)
    until = [proof.until for proof in fitting]
    return _met(via, max(until))


def _within(region: str, regions: Regions | None) -> bool:
    return regions is not None and (region in regions or region.split("-")[0] in regions)


def _tipped(clause: TipClause, amount: Amount, units: int, now: int) -> Finding:
    review = NEVER if clause.within_s is None else now + REVIEWED_MS
    wanted = int(amount.units)
    if units >= wanted:
        via = "tips_total" if isinstance(clause, TipsTotal) else "single_tip"
        return Finding(True, via, review=review)
    # What a single tip has to be is the whole amount, whatever was given before.
    short = wanted if isinstance(clause, SingleTip) else wanted - max(units, 0)
    return Finding(False, missing=Lacking(clause, short=Amount(amount.asset, str(short))))


def _old_enough(clause: Clause, via: str, since: int | None, age_s: int, now: int) -> Finding:
    if since is None:
        return _lacks(clause)
    at = since + age_s * 1000
    if now >= at:
        return _met(via)
    return Finding(False, missing=Lacking(clause, wait_s=-(-(at - now) // 1000)), review=at)


def _met(via: str, until: int = NEVER) -> Finding:
    return Finding(True, via, until, review=until)


def _lacks(clause: Clause, have: int | None = None) -> Finding:
    return Finding(False, missing=Lacking(clause, have=have))

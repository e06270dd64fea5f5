"""The language of rules: total, monotone in what people have, exact in time; and what keeps out always wins."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access import rules as r
from server.access.judging import Denials, StreamRules, excludes, judge

NOW = 1_700_000_000_000
AMOUNTS = st.builds(r.Amount, st.sampled_from(["USD", "MESI"]), st.integers(1, 10**38).map(str))
REGIONS = st.lists(st.sampled_from(["FR", "DE", "US", "US-CA"]), min_size=1, max_size=3).map(tuple)
GROWING = st.one_of(
    st.builds(r.SubTier, st.integers(1, 5)),
    st.builds(r.Follows, st.sampled_from([0, 60, 86_400])),
    st.builds(r.TipsTotal, AMOUNTS, st.sampled_from([None, 3600])),
    st.builds(r.SingleTip, AMOUNTS, st.sampled_from([None, 3600])),
    st.just(r.Invite()),
    st.just(r.Ticket()),
    st.builds(r.KyfAgeOver, st.integers(13, 30)),
    st.just(r.KyfVerified()),
    st.builds(r.KyfTier, st.integers(1, 5)),
    st.builds(r.KyfAccountAge, st.sampled_from([1, 3600])),
)
ANY_CLAUSE = GROWING | st.builds(r.KyfRegion, inside=REGIONS | st.none(), outside=REGIONS | st.none())


def rules_of(clauses: st.SearchStrategy[r.Clause]) -> st.SearchStrategy[r.Rule]:
    def grow(rules: st.SearchStrategy[r.Rule]) -> st.SearchStrategy[r.Rule]:
        parts = st.lists(rules, min_size=1, max_size=4).map(tuple)
        return st.builds(r.AnyOf, parts) | st.builds(r.AllOf, parts)

    return st.recursive(clauses, grow, max_leaves=12)


TIMES = st.integers(NOW - 10**8, NOW + 10**8)
PROOFS = st.builds(r.Proof, TIMES, st.integers(0, 30), st.booleans(), st.sampled_from([None, "FR", "US", "US-CA"]))


@st.composite
def facts_for(draw: st.DrawFn, rule: r.Rule) -> r.Facts:
    about_tips = [clause for clause in r.clauses(rule) if isinstance(clause, r.TipsTotal | r.SingleTip)]
    return r.Facts(
        sub_tier=draw(st.integers(0, 5)),
        sub_until=draw(TIMES | st.just(r.NEVER)),
        follows_since=draw(st.none() | TIMES),
        invited=draw(st.booleans()),
        ticket=draw(st.booleans()),
        tips={clause: draw(st.integers(0, 10**38)) for clause in about_tips},
        proofs=tuple(draw(st.lists(PROOFS, max_size=3))),
        account_tier=draw(st.integers(0, 5)),
        account_since=draw(st.none() | TIMES),
    )


@st.composite
def cases(draw: st.DrawFn, clauses: st.SearchStrategy[r.Clause] = ANY_CLAUSE) -> tuple[r.Rule, r.Facts]:
    rule = draw(rules_of(clauses))
    return rule, draw(facts_for(rule))


@given(cases())
def test_every_rule_says_something_of_every_fact(case: tuple[r.Rule, r.Facts]) -> None:
    rule, facts = case
    finding = r.evaluate(rule, facts, NOW)
    assert finding.met == (finding.missing is None) == bool(finding.via)
    assert finding.review > NOW
    assert finding.until > NOW
    # What is said to be missing survives the way to the client.
    msgspec.json.decode(msgspec.json.encode(finding.missing), type=r.Missing | None)


@given(cases())
def test_what_is_met_is_met_until_the_moment_named_and_no_longer(case: tuple[r.Rule, r.Facts]) -> None:
    rule, facts = case
    finding = r.evaluate(rule, facts, NOW)
    if finding.met and finding.until < r.NEVER:
        assert r.evaluate(rule, facts, finding.until - 1).met
        after = r.evaluate(rule, facts, finding.until)
        assert not after.met or after.via != finding.via  # something else may be met from that very moment on
    if not finding.met and finding.review < r.NEVER:
        assert not r.evaluate(rule, facts, finding.review - 1).met


def test_what_comes_to_be_met_before_something_else_lapses_is_looked_at_in_time() -> None:
    rule = r.AnyOf((r.SubTier(1), r.Follows(60)))
    facts = r.Facts(sub_tier=1, sub_until=NOW + 9_000, follows_since=NOW - 55_000)
    finding = r.evaluate(rule, facts, NOW)
    assert (finding.via, finding.until, finding.review) == ("sub_tier", NOW + 9_000, NOW + 5_000)
    later = r.evaluate(rule, facts, finding.review)
    assert (later.via, later.until) == ("follows", r.NEVER)


@given(cases(GROWING), st.data())
def test_who_has_more_is_never_let_in_less(case: tuple[r.Rule, r.Facts], data: st.DataObject) -> None:
    rule, facts = case
    more = replace(
        facts,
        sub_tier=facts.sub_tier + data.draw(st.integers(0, 3)),
        sub_until=max(facts.sub_until, data.draw(TIMES)),
        follows_since=min(facts.follows_since, data.draw(TIMES)) if facts.follows_since is not None else None,
        invited=facts.invited or data.draw(st.booleans()),
        ticket=facts.ticket or data.draw(st.booleans()),
        tips={clause: units + data.draw(st.integers(0, 10**38)) for clause, units in facts.tips.items()},
        proofs=(*facts.proofs, data.draw(PROOFS)),
        account_tier=facts.account_tier + data.draw(st.integers(0, 3)),
    )
    if r.evaluate(rule, facts, NOW).met:
        assert r.evaluate(rule, more, NOW).met


@given(cases(), st.booleans(), st.booleans(), st.lists(ANY_CLAUSE.filter(lambda c: isinstance(c, r.KyfClause))))
def test_what_keeps_out_wins_over_whatever_lets_in(
    case: tuple[r.Rule, r.Facts], blocked: bool, suspended: bool, kyf: list[r.KyfClause]
) -> None:
    rule, facts = case
    judgement = judge(facts, Denials(blocked, suspended), StreamRules(rule, tuple(kyf)), (), NOW)
    proven = all(r.evaluate(clause, facts, NOW).met for clause in kyf)
    assert (judgement.denied is None) == (not blocked and not suspended and proven)
    assert not (judgement.denied and judgement.entitled)
    assert bool(judgement.unproven) == (not proven)


@given(rules_of(ANY_CLAUSE))
def test_rules_are_read_back_as_they_were_written(rule: r.Rule) -> None:
    assert msgspec.json.decode(msgspec.json.encode(rule), type=r.Rule) == rule


def test_three_small_tips_make_a_total_but_no_single_tip() -> None:
    hundred = r.Amount("USD", "100")
    total, single = r.TipsTotal(hundred), r.SingleTip(hundred)
    facts = r.Facts(tips={total: 25 + 25 + 50, single: 50})
    assert r.evaluate(total, facts, NOW).via == "tips_total"
    finding = r.evaluate(single, facts, NOW)
    assert finding.missing == r.Lacking(single, short=hundred)
    part = r.evaluate(total, r.Facts(tips={total: 75}), NOW)
    assert part.missing == r.Lacking(total, short=r.Amount("USD", "25"))
    refunded_twice = r.evaluate(total, r.Facts(tips={total: -5}), NOW)
    assert refunded_twice.missing == r.Lacking(total, short=hundred)


def test_a_follower_who_is_too_new_is_told_how_long_to_wait() -> None:
    clause = r.Follows(60)
    finding = r.evaluate(clause, r.Facts(follows_since=NOW - 58_500), NOW)
    assert finding.missing == r.Lacking(clause, wait_s=2)
    assert finding.review == NOW + 1500
    assert r.evaluate(clause, r.Facts(follows_since=NOW - 60_000), NOW).met


def test_two_issuers_that_disagree_on_the_region_prove_nothing() -> None:
    clause = r.KyfRegion(inside=("FR",))
    french, german = r.Proof(NOW + 10, region="FR"), r.Proof(NOW + 5, region="DE")
    assert r.evaluate(clause, r.Facts(proofs=(french,)), NOW).met
    assert not r.evaluate(clause, r.Facts(proofs=(french, german)), NOW).met
    assert r.evaluate(clause, r.Facts(proofs=(french, german)), NOW + 5).met
    assert not r.evaluate(r.KyfRegion(outside=("US",)), r.Facts(proofs=(r.Proof(NOW + 1, region="US-CA"),)), NOW).met
    assert not r.evaluate(r.KyfRegion(outside=("US",)), r.Facts(), NOW).met


def nested(depth: int) -> dict[str, object]:
    return {"type": "any_of", "of": [nested(depth - 1)]} if depth > 1 else {"type": "invite"}


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "magic"},
        {"type": "any_of", "of": []},
        {"type": "sub_tier", "at_least": 0},
        {"type": "sub_tier", "at_least": True},
        {"type": "sub_tier", "at_least": 1.5},
        {"type": "sub_tier"},
        {"type": "follows", "min_age_s": -1},
        {"type": "follows", "minimum": 1},
        *(
            {"type": "tips_total", "at_least": {"asset": "USD", "units": units}}
            for units in ("-1", "0", "01", "1.5", "1e3", "", " 1", "٣", "9" * 40, 5)
        ),
        {"type": "single_tip", "at_least": {"asset": "usd", "units": "5"}},
        {"type": "single_tip", "at_least": {"asset": "USD", "units": "5"}, "within_s": 1},
        {"type": "kyf:region", "inside": ["Narnia"]},
        "invite",
        None,
    ],
)
def test_what_is_no_rule_is_refused(rule: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(rule, r.Rule)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (nested(6), "levels"),
        ({"type": "any_of", "of": [{"type": "any_of", "of": [{"type": "invite"}] * 40}] * 2}, "clauses"),
        ({"type": "kyf:region"}, "inside or outside"),
        ({"type": "kyf:region", "inside": ["FR", "US-CA"], "outside": ["FR", "US"]}, "nobody"),
    ],
)
def test_a_rule_that_is_too_large_or_that_nobody_can_meet_is_refused(rule: object, words: str) -> None:
    fault = StreamRules(msgspec.convert(rule, r.Rule)).fault()
    assert fault is not None
    assert words in fault
    assert StreamRules(msgspec.convert(nested(5), r.Rule)).fault() is None


@pytest.mark.parametrize(
    ("clause", "facts", "excluded"),
    [
        (r.KyfRegion(outside=("US",)), r.Facts(proofs=(r.Proof(NOW + 1, region="US-CA"),)), True),
        (r.KyfRegion(outside=("US",)), r.Facts(proofs=(r.Proof(NOW + 1, region="FR"),)), False),
        (r.KyfRegion(inside=("FR",)), r.Facts(proofs=(r.Proof(NOW + 1, region="DE"),)), True),
        (r.KyfRegion(inside=("FR",)), r.Facts(proofs=(r.Proof(NOW, region="DE"),)), False),
        (r.KyfRegion(inside=("FR",)), r.Facts(), False),
        (r.KyfAgeOver(21), r.Facts(proofs=(r.Proof(NOW + 1, age_over=18),)), False),
        (r.KyfVerified(), r.Facts(), False),
        (r.KyfTier(2), r.Facts(account_tier=1), True),
        (r.KyfTier(2), r.Facts(account_tier=2), False),
        (r.KyfAccountAge(10), r.Facts(account_since=NOW - 9_999), True),
        (r.KyfAccountAge(10), r.Facts(account_since=NOW - 10_000), False),
    ],
)
def test_only_what_is_known_and_no_proof_would_change_excludes(
    clause: r.KyfClause, facts: r.Facts, excluded: bool
) -> None:
    assert excludes((clause,), facts, NOW) is excluded
    if excluded:
        assert judge(facts, Denials(), StreamRules(kyf=(clause,)), (), NOW).denied == "kyf_required"

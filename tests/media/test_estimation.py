"""The estimate of a viewer's way: the compiled one is the reference, and both are right about modelled networks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.impairment import Impairment
from media.forwarding.estimates import START_BPS
from media.forwarding.reference.estimation import Estimate
from tests.media.ways import SECOND_NS, Compiled, Estimating, Way

MS_NS = 1_000_000
Make = Callable[[float], Estimating]
MAKERS = pytest.mark.parametrize("make", [Estimate, Compiled], ids=["reference", "compiled"])

packets = st.tuples(
    st.integers(0, 60),  # ms until it leaves
    st.one_of(st.integers(0, 40), st.integers(0, 900)),  # ms that it takes
    st.integers(60, 1400),  # octets
)
reports = st.tuples(st.lists(packets, max_size=12), st.integers(0, 4), st.sampled_from([0.0, 700e3, 3e6, 20e6]))


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.lists(reports, min_size=10, max_size=80))
def test_the_compiled_estimate_is_the_reference(history: list[tuple[list[tuple[int, int, int]], int, float]]) -> None:
    ends: list[Estimating] = [Estimate(), Compiled()]
    now, number = SECOND_NS, 0
    for told, lost, wanted_bps in history:
        goals = []
        for end in ends:
            end.probe_bps = wanted_bps
            goals.append(end.probe_goal(now))
            if goals[-1]:
                end.probes(number + 1, number + 3, goals[-1], now)
            sent = now
            for place, (pause_ms, takes_ms, size) in enumerate(told):
                sent += pause_ms * MS_NS
                end.arrived(number + place + 1, sent, sent + takes_ms * MS_NS + 77 * SECOND_NS, size)
            end.reported(lost, number + len(told) + lost, sent + 50 * MS_NS)
        now += sum(pause for pause, _, _ in told) * MS_NS + 60 * MS_NS
        number += len(told) + lost
        reference, compiled = ends
        assert goals[1] == pytest.approx(goals[0], rel=1e-6)
        assert compiled.bps == pytest.approx(reference.bps, rel=1e-6)
        assert (compiled.cuts, compiled.probe_due_ns) == (reference.cuts, reference.probe_due_ns)


@MAKERS
@pytest.mark.parametrize("rate_bps", [600e3, 1e6])
def test_who_sends_what_is_estimated_fills_the_link_and_hardly_waits(make: Make, rate_bps: float) -> None:
    way = Way(make(0), Impairment(rate_bps=rate_bps, delay_ms=20))
    way.run(12)
    before = way.octets
    way.queue_ms.clear()
    way.run(5)
    assert 0.8 * rate_bps < (way.octets - before) * 8 / 5 <= rate_bps
    assert sorted(way.queue_ms)[len(way.queue_ms) * 95 // 100] < 100


@MAKERS
def test_probes_find_within_a_second_what_a_small_picture_would_never_show(make: Make) -> None:
    way = Way(make(2.5e6), Impairment(rate_bps=5e6, delay_ms=20), sends_bps=150e3)
    way.run(1)
    assert 2.5e6 <= way.estimate.bps < 5e6
    way.queue_ms.clear()
    before = way.octets
    way.run(2)
    assert (way.octets - before) * 8 / 2 < 250e3  # it is known, so nothing more is sent than picture and sound


@MAKERS
def test_probes_of_a_thin_link_find_nothing_and_disturb_little(make: Make) -> None:
    way = Way(make(2.5e6), Impairment(rate_bps=300e3, delay_ms=20), sends_bps=150e3)
    for _ in range(20):
        way.run(0.5)
        assert way.estimate.bps <= START_BPS
    assert max(way.queue_ms) < 150


@MAKERS
def test_probes_that_find_nothing_become_rare_and_what_comes_later_is_found_all_the_same(make: Make) -> None:
    way = Way(make(2.5e6), Impairment(rate_bps=300e3, delay_ms=20), sends_bps=150e3)
    way.run(10)
    before = way.probes
    way.run(50)
    assert way.probes - before < 12
    way.change(Impairment(rate_bps=5e6, delay_ms=20))
    way.run(9)
    assert way.estimate.bps >= 2.5e6


@MAKERS
def test_a_probe_is_trusted_for_twice_what_it_was_made_for_and_the_next_is_of_twice_as_much(make: Make) -> None:
    way = Way(make(20e6), Impairment(delay_ms=20), sends_bps=150e3)
    seen = {way.estimate.bps}
    while way.estimate.bps < 20e6:
        assert way.now_ns < 3 * SECOND_NS
        way.run(0.02)
        seen.add(way.estimate.bps)
    assert {START_BPS * step for step in (12, 24)} < seen


@MAKERS
def test_one_large_picture_among_small_ones_is_not_taken_for_a_thinner_link(make: Make) -> None:
    way = Way(make(SECOND_NS), Impairment(rate_bps=300e3, delay_ms=20), sends_bps=60e3)
    way.run(6)
    before = way.estimate.bps
    for _ in range(4):
        way.burst(9000)
        way.run(4)
        assert way.estimate.bps > 0.95 * min(before, 0.85 * 300e3)


@MAKERS
def test_a_link_that_shrinks_to_a_third_is_noticed_within_half_a_second_and_found_again(make: Make) -> None:
    wide, narrow = Impairment(rate_bps=5e6, delay_ms=20), Impairment(rate_bps=1.67e6, delay_ms=20)
    way = Way(make(3e6), wide, sends_bps=2.5e6)
    way.run(4)
    assert way.estimate.bps > 3e6
    way.change(narrow)
    way.run(0.5)
    assert way.estimate.bps < 1.67e6 * 1.1
    way.sends_bps = 600e3
    way.run(3)
    assert 600e3 < way.estimate.bps < 1.67e6
    way.change(wide)
    way.run(5)
    assert way.estimate.bps >= 3e6


@MAKERS
@pytest.mark.parametrize(
    "impairment",
    [
        Impairment(rate_bps=5e6, delay_ms=20, loss=0.05),
        Impairment(rate_bps=5e6, delay_ms=20, jitter_ms=30),
        Impairment(rate_bps=5e6, delay_ms=150, jitter_ms=5, reordered=0.01),
    ],
    ids=["loss", "jitter", "far"],
)
def test_neither_chance_losses_nor_jitter_nor_distance_are_taken_for_a_full_link(
    make: Make, impairment: Impairment
) -> None:
    way = Way(make(2.2e6), impairment, sends_bps=2e6)
    way.run(4)
    seen = []
    for _ in range(16):
        way.run(0.5)
        seen.append(way.estimate.bps)
    assert min(seen) > 2.2e6


@MAKERS
def test_losses_alone_lower_it_where_nothing_ever_waits(make: Make) -> None:
    way = Way(make(0), Impairment(delay_ms=20, loss=0.3), sends_bps=2e6)
    seen = [way.estimate.bps]
    for _ in range(4):
        way.run(1)
        seen.append(way.estimate.bps)
    assert all(later < earlier for earlier, later in pairwise(seen))

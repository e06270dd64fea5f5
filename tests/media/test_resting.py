"""Layers that nobody gets: a publisher is told to leave them out, and has them back before they are needed."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from media.forwarding.layers.resting import IDLE_NS, WAKING_NS, Resting

SECOND_NS = 1_000_000_000
NOW = 100 * SECOND_NS
LAYERS = [(7, 150e3), (3, 500e3), (5, 2.5e6)]


def test_what_nobody_gets_rests_after_a_while_from_the_best_down_and_the_least_never() -> None:
    track = Resting()
    track.look(LAYERS, [3], NOW)
    assert track.limit_bps == math.inf
    track.look(LAYERS, [3], NOW + IDLE_NS)
    assert 650e3 < track.limit_bps < 1e6
    track.look(LAYERS, [], NOW + 3 * IDLE_NS)
    assert 150e3 < track.limit_bps < 300e3


def test_a_layer_that_rests_may_be_had_and_one_that_is_woken_in_vain_is_gone() -> None:
    track = Resting()
    track.look(LAYERS, [7], NOW)
    assert not track.is_there(5, NOW)
    later = NOW + IDLE_NS
    track.look(LAYERS, [7], later)
    assert track.is_there(5, later)
    track.look(LAYERS, [5], later)
    assert track.limit_bps == math.inf
    assert track.is_there(5, later + WAKING_NS - 1)
    assert not track.is_there(5, later + WAKING_NS)


@given(st.lists(st.tuples(st.sets(st.sampled_from([3, 5, 7])), st.integers(0, 6)), max_size=30))
def test_whatever_somebody_gets_is_within_the_limit(history: list[tuple[set[int], int]]) -> None:
    track, now = Resting(), NOW
    for used, seconds in history:
        now += seconds * SECOND_NS
        track.look(LAYERS, used, now)
        kept = next((place + 1 for place in (2, 1, 0) if LAYERS[place][0] in used), 1)
        assert track.limit_bps > sum(bps for _, bps in LAYERS[:kept])

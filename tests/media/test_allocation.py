"""What a viewer's way may be used for: the ramp, silence, and how long nothing better is tried after it failed."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from media.forwarding.admission import NOTHING
from media.forwarding.estimates import SECOND_NS, START_BPS
from media.forwarding.layers.allocation import (
    FIRST_REST_NS,
    LASTED_NS,
    LONGEST_REST_NS,
    REMB_EVERY_NS,
    SILENT_NS,
    SOUND_BPS,
    Allowed,
    Downlink,
    Told,
)
from media.forwarding.layers.wishes import Layer, Wish, choose, wished

NOW = 100 * SECOND_NS
rates = st.sampled_from([0, 20_000, 60_000, 250_000])
alive = st.sampled_from([True, True, True, False])
heights = st.sampled_from([0, 180, 360])
layers = st.lists(st.builds(Layer, row=st.integers(0, 9), rate=rates, is_live=alive, height=heights), max_size=4)
wishes = st.builds(Wish, height=st.sampled_from([0, 180, 720]))
allowances = st.tuples(st.floats(0, 3e6), st.floats(0, 1)).map(lambda pair: Allowed(pair[0], pair[0] * pair[1]))


def numbered(**options: int) -> Downlink:
    return Downlink(is_numbered=True, joined_ns=NOW, **options)


@given(layers, wishes, allowances, st.integers(0, 9))
def test_what_does_not_fit_is_never_chosen_where_something_fits(
    given_layers: list[Layer], wish: Wish, allowed: Allowed, current: int
) -> None:
    rows = {layer.row: layer for layer in given_layers}
    distinct = list(rows.values())
    able = wished(distinct, wish, NOTHING)
    row = choose(distinct, wish, NOTHING, allowed, current)
    if not able:
        assert row is None
        return
    assert row in {layer.row for layer in able}
    fits = [layer for layer in able if layer.bps <= allowed.rise_bps]
    if fits and row is not None:
        assert rows[row].bps <= allowed.keep_bps
        assert rows[row].bps >= max(layer.bps for layer in fits)


def test_before_anything_is_told_a_small_picture_is_allowed_and_then_what_is_known() -> None:
    way = numbered()
    assert way.allowed(Told(), 0, NOW, NOW).keep_bps == START_BPS - SOUND_BPS
    allowed = way.allowed(Told(2e6, NOW), 0, NOW, NOW)
    assert allowed.keep_bps == 2e6 - SOUND_BPS > allowed.rise_bps > 1.7e6


def test_who_never_tells_a_thing_gets_all_and_who_falls_silent_the_least() -> None:
    later = NOW + SILENT_NS
    never, way = numbered(), numbered()
    for at_ns in range(NOW, later, SECOND_NS // 4):
        assert never.allowed(Told(), 0, at_ns, at_ns).keep_bps < START_BPS
        assert way.allowed(Told(2e6, NOW), 0, at_ns, at_ns).keep_bps > 1e6
    assert never.allowed(Told(), 0, later, later).keep_bps == math.inf
    assert way.allowed(Told(2e6, NOW), 0, later, later).keep_bps < 0
    assert Downlink(is_numbered=False, joined_ns=NOW).allowed(Told(), 0, later, later) == Allowed()


def test_after_a_pause_nobody_is_blamed_for_having_said_nothing() -> None:
    way = numbered()
    way.allowed(Told(2e6, NOW), 0, NOW, NOW)
    resumed = NOW + 60 * SECOND_NS
    assert way.allowed(Told(2e6, NOW), 0, NOW, resumed).keep_bps > 1e6
    assert way.allowed(Told(2e6, NOW), 0, resumed, resumed).keep_bps > 1e6


def test_a_layer_that_did_not_last_is_tried_again_ever_later_until_one_lasts() -> None:
    way, now, rests = numbered(), NOW, []
    for _ in range(6):
        way.moved(True, now)
        now += SECOND_NS
        way.moved(False, now)
        rests.append(way.rested_ns - now)
        assert way.allowed(Told(9e6, now), 5e5, now, now) == Allowed(9e6 - SOUND_BPS, 5e5)
        assert way.probe_bps(2e6, Told(1e6, now), now) == 0
        now = way.rested_ns
        assert way.allowed(Told(9e6, now), 5e5, now, now).rise_bps > 5e6
    assert rests == [4 * SECOND_NS, 8 * SECOND_NS, 16 * SECOND_NS, *[LONGEST_REST_NS] * 3]
    way.moved(True, now)
    way.moved(False, now + LASTED_NS)
    assert way.rest_ns == FIRST_REST_NS


def test_probes_show_more_than_a_better_layer_takes_and_come_only_where_there_is_one() -> None:
    way = numbered()
    assert way.probe_bps(2e6, Told(), NOW) == 0
    assert way.probe_bps(0, Told(1e6, NOW), NOW) == 0
    bps = way.probe_bps(2e6, Told(1e6, NOW), NOW)
    assert way.allowed(Told(bps, NOW), 0, NOW, NOW).rise_bps > 1.1 * 2e6


def test_remb_bounds_and_a_layer_more_is_tried_where_it_shows_no_limit() -> None:
    way = Downlink(is_numbered=False, joined_ns=NOW)
    told = Told(0, NOW, 1e6)
    assert way.allowed(told, 900e3, NOW, NOW).keep_bps == 1e6 - SOUND_BPS
    assert way.allowed(told, 900e3, NOW, NOW).rise_bps < 1e6
    assert way.allowed(told, 500e3, NOW, NOW).rise_bps == 2.5e6
    way.moved(True, NOW)
    assert way.allowed(told, 500e3, NOW, NOW + SECOND_NS).rise_bps == 500e3
    assert way.allowed(told, 500e3, NOW, NOW + REMB_EVERY_NS).rise_bps == 2.5e6


def test_who_only_reports_losses_gets_a_layer_less_while_they_are_many_and_then_all_again() -> None:
    way = Downlink(is_numbered=False, joined_ns=NOW)
    assert way.allowed(Told(lost=0.05), 2e6, NOW, NOW) == Allowed()
    assert 1e6 < way.allowed(Told(lost=0.2), 2e6, NOW, NOW).keep_bps < 2e6
    way.moved(False, NOW)
    assert way.allowed(Told(lost=0.2), 5e5, NOW, NOW) == Allowed(math.inf, 5e5)  # of what was before
    assert way.allowed(Told(lost=0.2), 5e5, NOW, NOW + 3 * SECOND_NS).keep_bps < 5e5
    assert way.allowed(Told(), 5e5, NOW, way.rested_ns) == Allowed()

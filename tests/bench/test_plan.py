"""The plan's simulation: whoever lost the right gets nothing after a confirmation, or a lease, whatever is lost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import plan
from bench.plan_crowd import Ways, leaf_fails, relay_fails, storm, wait_for_turn
from bench.plan_cut import CUT_AT_MS, Cut, Network, Outcome, Rules
from bench.plan_tree import Costs, Machine, Tree, grow, loads
from bench.report import Report

COSTS = Costs(2.5, 160.0, 1e6, 2e6, 100.0, 4.0)
MACHINE = Machine(8, 10e9, 0.5)


def most_ms(rules: Rules) -> float:
    return rules.lease_ms * (1 + 2 * rules.drift) + rules.fence_ms


@settings(max_examples=60, deadline=None)
@given(
    leaves=st.integers(1, 12),
    fanout=st.integers(2, 4),
    network=st.builds(Network, st.floats(0, 200), st.floats(0, 400), st.floats(0, 0.95)),
    lease_ms=st.floats(50, 2_000),
    drift=st.floats(0, 0.05),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_nobody_without_the_right_gets_anything_after_the_confirmation_or_the_lease(
    leaves: int, fanout: int, network: Network, lease_ms: float, drift: float, seed: int, data: st.DataObject
) -> None:
    tree, rules = grow(leaves, 1, fanout), Rules(lease_ms=lease_ms, drift=drift)
    moments = st.floats(0, CUT_AT_MS + lease_ms)
    nodes = st.integers(1, max(len(tree.parents) - 1, 1))
    broken = data.draw(st.dictionaries(nodes, moments, max_size=len(tree.parents)))
    outcome = Cut(tree, network, rules, seed, broken).run()
    assert outcome.leaks == 0
    assert outcome.confirmed_ms <= most_ms(rules)
    assert max(outcome.last_ms) <= most_ms(rules), "a node that hears nothing goes on no longer than its lease"


def cut_off(rules: Rules, seed: int = 1) -> Outcome:
    tree = grow(9, 1, 3)
    leaf = tree.leaves[0]
    return Cut(tree, Network(), rules, seed, {leaf: CUT_AT_MS - 1}).run()


def test_a_node_that_is_cut_off_stops_when_its_lease_ends_and_is_waited_for() -> None:
    outcome = cut_off(Rules(lease_ms=1_000))
    assert 500 < max(outcome.last_ms) <= outcome.confirmed_ms <= 1_003
    assert sorted(outcome.last_ms)[-2] < 100, "all others have heard of the cut"


def test_clocks_that_differ_as_much_as_is_allowed_for_let_nothing_through() -> None:
    tree, rules = grow(9, 1, 3), Rules(drift=0.05)
    for seed in range(20):
        broken = dict.fromkeys(tree.leaves, CUT_AT_MS - 1)
        assert Cut(tree, Network(delay_ms=0, jitter_ms=0), rules, seed, broken).run().leaks == 0


def test_a_network_that_loses_nothing_lets_no_lease_run_out_and_a_cut_takes_its_way_there_and_back() -> None:
    tree = grow(30, 1, 4)
    outcome = Cut(tree, Network(delay_ms=10, jitter_ms=0), Rules(), 1).run()
    assert outcome.lapses == 0
    assert max(outcome.last_ms) <= tree.depth * 10 + 2
    assert outcome.confirmed_ms == pytest.approx(tree.depth * 20 + 2, abs=3)


def test_leases_that_are_shorter_than_the_way_run_out() -> None:
    assert Cut(grow(9, 1, 3), Network(delay_ms=60), Rules(lease_ms=100), 1).run().lapses > 0


def test_the_same_seed_is_the_same_run() -> None:
    runs = [Cut(grow(9, 1, 3), Network(loss=0.3), Rules(), seed).run() for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("viewers", [1, 8, 9, 64, 65, 1_000])
def test_a_tree_serves_everybody_and_no_node_has_too_much(viewers: int) -> None:
    tree = grow(viewers, 8, 4)
    assert sum(tree.viewers) == viewers
    assert max(tree.viewers) <= 8
    assert max(tree.children().values(), default=0) <= 4
    assert tree.parents[0] is None
    assert all(parent is not None and parent < child for child, parent in enumerate(tree.parents) if child)
    assert {tree.distance(leaf) for leaf in tree.leaves} == {tree.depth}


def test_a_node_that_carries_nobody_is_no_plan() -> None:
    with pytest.raises(ValueError, match="carry one viewer"):
        grow(10, 0, 4)
    result = CliRunner().invoke(plan.main, ["--packet-us", "1e9"])
    assert (result.exit_code, "Traceback" in result.output) == (2, False)


def test_what_a_node_carries_is_bounded_by_its_cores_and_by_its_network() -> None:
    assert MACHINE.by_cores(COSTS) == 10_000
    assert MACHINE.viewers(COSTS) == 5_000 == MACHINE.by_network(COSTS)
    assert replace(MACHINE, network_bps=1e12).viewers(COSTS) == 10_000
    found = loads(grow(50_000, 5_000, 5), COSTS)
    assert {kind: load.nodes for kind, load in found.items()} == {"origin": 1, "relay": 2, "leaf": 10}
    assert found["origin"].sends_bps == 4e6
    assert found["relay"].sends_bps == 10e6
    assert found["leaf"].sends_bps == 5e9
    assert found["leaf"].cores == pytest.approx(2.0)


def test_who_comes_to_a_leaf_waits_for_those_before() -> None:
    assert list(wait_for_turn(np.array([0.0, 1.0, 2.0, 100.0]), 10.0)) == [10.0, 20.0, 30.0, 110.0]


def test_a_storm_that_the_leaves_can_admit_is_soon_over_and_one_that_they_can_not_is_not() -> None:
    tree = grow(20_000, 1_000, 5)
    calm, rough = (storm(tree, within_s, 4.0, Ways(), 1) for within_s in (60.0, 1.0))
    assert len(calm) == len(rough) == 20_000
    assert calm[0] > 43.9
    assert np.quantile(calm, 0.99) < 200
    assert 2_500 < rough[-1] < 3_800


def test_the_first_on_a_leaf_waits_for_the_stream_to_come_down_the_tree() -> None:
    tree, ways = grow(4, 1, 2), Ways(viewer_ms=40, node_ms=60)
    assert storm(tree, 60.0, 4.0, ways, 1)[-1] == pytest.approx(4 + tree.depth * 60 + 40)


def test_those_of_a_failed_leaf_come_back_on_the_others_and_those_of_a_relay_with_their_nodes() -> None:
    tree = grow(20_000, 1_000, 5)
    leaf = leaf_fails(tree, 2_000, 4.0, 1_000, Ways(), 1)
    assert leaf.viewers == len(leaf.back_ms) == 1_000
    assert 2_000 < leaf.back_ms[0] < leaf.back_ms[-1] < 4_600
    assert 1.03 < leaf.others_use < 1.1
    relay = relay_fails(tree, 1_000, Ways(), 1)
    assert relay.viewers == len(relay.back_ms) == 5_000
    assert 600 < relay.back_ms[0] < relay.back_ms[-1] < 1_121
    alone = grow(10, 10, 2)
    assert math.isinf(leaf_fails(alone, 2_000, 4.0, 10, Ways(), 1).others_use)
    assert relay_fails(alone, 1_000, Ways(), 1).viewers == 0


def test_the_report_says_that_it_is_simulated_and_from_which_numbers(tmp_path: Path) -> None:
    measured = Report("fanout")
    measured.add("server CPU per delivered packet", 5.0, "us")
    (tmp_path / "fanout.json").write_text(measured.json())
    out = tmp_path / "plan.json"
    options = ["--viewers", "50000", "--cuts", "2", "--results", str(tmp_path), "--json", str(out)]
    result = CliRunner().invoke(plan.main, options)
    assert result.exit_code == 0, result.output
    told = json.loads(out.read_text())
    assert told["title"].startswith("SIMULATED, not built")
    assert told["results"]["assumed: a packet to a viewer"]["value"] == 5.0
    assert told["results"]["one node by its cores"]["value"] < 6_000
    assert len(told["plots"]) == 3
    assert all(target["holds"] for target in told["targets"])


def test_a_cut_that_leaks_fails_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def leak(tree: Tree, *_: object) -> Cut:
        class Leaking:
            def run(self) -> Outcome:
                return Outcome(10.0, (5.0, 11.0), 0, 1, 1_000.0)

        return Leaking()  # type: ignore[return-value]

    monkeypatch.setattr(plan, "Cut", leak)
    report = Report("test")
    plan.describe_cuts(report, plan.Plan(1_000, COSTS, MACHINE, 4, Rules(), 2, 1))
    assert not report.holds

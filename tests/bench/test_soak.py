"""Coming and going leaves nothing behind, and a server on which something stays is found out."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import soak
from bench.growth import FILES, HELD, MEMORY, Sample, growth, left_behind
from bench.mesi import open_mesi
from bench.soak import Outcome


async def test_a_short_time_of_coming_and_going_leaves_nothing_behind() -> None:
    async with open_mesi() as mesi:
        outcome = await soak.run_soak(mesi, seconds=6.0, viewers=6, per_s=8, seed=3)
    assert outcome.left == {}
    assert outcome.failed.total() <= 1
    assert {"join", "leave", "ICE restart", "layer", "socket"} <= set(outcome.done)
    assert len(outcome.samples) >= 3
    assert max(sample.held["transports"] for sample in outcome.samples) >= 6
    assert max(sample.held["rows of tracks"] for sample in outcome.samples) >= 3  # two layers and sound


def sample(at_s: float, memory: float = 100e6, files: float = 20, rows: float = 5) -> Sample:
    held = dict.fromkeys(HELD.values(), rows)
    return Sample(at_s, held | {MEMORY: memory, FILES: files})


def outcome_of(memory: list[float], **more: object) -> Outcome:
    samples = [sample(float(place), mb * 1e6) for place, mb in enumerate(memory)]
    return Outcome(float(len(memory)), samples, done=Counter(join=100), **more)  # type: ignore[arg-type]


def test_what_is_left_behind_is_named_beyond_the_noise() -> None:
    assert left_behind(sample(0), sample(1)) == {}
    assert left_behind(sample(0), sample(1, memory=900e6, files=23)) == {}
    assert left_behind(sample(0), sample(1, files=24)) == {FILES: 4}
    assert left_behind(sample(0, rows=5), sample(1, rows=6))["rows of transports"] == 1
    assert left_behind(sample(0, rows=6), sample(1, rows=5)) == {}


@pytest.mark.parametrize(
    ("memory", "holds"),
    [([50.0] * 40 + [100.0] * 60, True), ([50.0] * 40 + [100.0] * 30 + [104.0] * 30, False)],
    ids=["only while warming up", "afterwards"],
)
def test_memory_may_grow_while_it_warms_up_and_not_afterwards(memory: list[float], holds: bool) -> None:
    assert soak.describe(outcome_of(memory), "test").holds is holds


def test_a_report_fails_of_what_is_left_and_of_what_failed() -> None:
    flat = [100.0] * 10
    assert soak.describe(outcome_of(flat), "test").holds
    assert not soak.describe(outcome_of(flat, left={"tasks": 9.0}), "test").holds
    assert soak.describe(outcome_of(flat, failed=Counter(join=2)), "test").holds
    assert not soak.describe(outcome_of(flat, failed=Counter(join=3)), "test").holds


def test_growth_is_from_the_first_to_the_last_third() -> None:
    assert growth([sample(place, 100e6 + place * 1e6) for place in range(9)]) == pytest.approx(6 / 101)

"""What the kernel wakes Python for: a gap in what a publisher sends, once until somebody has looked."""

from __future__ import annotations

from media.forwarding.tables import Shared
from tests.media.test_kernel_robustness import DELTA, KEY, Stage, set_stage
from tests.media.turns import open_turns


def wakes(stage: Stage, *seqs: int) -> tuple[bool, bool]:
    """Send these packets; returns whether Python is woken, and whether the track is marked."""
    tables = stage.turns.tables
    tables.shared[Shared.ATTENTION] = 0
    for seq in seqs:
        stage.publish(seq, DELTA if seq else KEY, ts=seq)
    stage.turns.turn()
    return bool(tables.shared[Shared.ATTENTION]), bool(tables.tracks["gap"][stage.video])


def test_a_gap_wakes_python_at_once_and_once_until_it_has_looked() -> None:
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        assert wakes(stage, 0, 1, 2) == (False, False)
        assert wakes(stage, 4) == (True, True)
        assert wakes(stage, 6) == (False, True)
        turns.tables.tracks["gap"][stage.video] = 0
        assert wakes(stage, 5, 7) == (False, False)
        assert wakes(stage, 9) == (True, True)

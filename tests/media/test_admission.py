"""The admission columns as the kernel may read them: between any two stores."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from media.forwarding.admission import FOREVER, Admission, Grant, Holding
from media.forwarding.kernel.verdicts import ADMITTED, verdict

GRANTS = Grant.WELCOME | Grant.TICKET | Grant.CHOSEN | Grant.ENTITLED
UNTIL = (1, 5, 9, FOREVER)
NOWS = (0, 1, 4, 5, 8, 9, 10)


class Column(list[int]):
    """One column; tells after each store."""

    stored: Callable[[], None] = staticmethod(lambda: None)

    def __setitem__(self, row: Any, value: Any) -> None:
        super().__setitem__(row, value)
        self.stored()


@st.composite
def holdings(draw: st.DrawFn) -> Holding:
    holds = Grant(draw(st.integers(0, int(GRANTS))))
    keeps = holds & Grant(draw(st.integers(0, int(GRANTS))))
    return Holding(holds, draw(st.sampled_from(UNTIL)), keeps)


@given(holdings(), holdings())
def test_between_two_stores_nobody_is_let_in_for_a_moment_and_nobody_is_cut_for_a_moment(
    old: Holding, new: Holding
) -> None:
    columns = {name: Column([0]) for name in ("holds", "keeps", "until", "publish_until")}
    admission = Admission(SimpleNamespace(rooms={}, transports=columns, tracks={}))  # type: ignore[arg-type]

    def admits() -> frozenset[tuple[int, int]]:
        holds, until, keeps = columns["holds"][0], columns["until"][0], columns["keeps"][0]
        return frozenset(
            (requires, now)
            for requires in range(int(GRANTS) + 1)
            for now in NOWS
            if verdict.py_func(requires, FOREVER, holds, until, keeps, now) == ADMITTED
        )

    admission.hold(0, old)
    before = admits()
    seen: list[frozenset[tuple[int, int]]] = []
    for column in columns.values():
        column.stored = lambda: seen.append(admits())  # type: ignore[method-assign]
    admission.hold(0, new)
    after = admits()
    assert seen
    for moment in seen:
        assert before & after <= moment <= before | after
    assert seen[-1] == after

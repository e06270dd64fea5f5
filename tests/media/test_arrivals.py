"""The compiled reports of arrivals against media/wire/twcc.py, octet for octet."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from media.forwarding.arrivals import write_report
from media.wire import twcc
from media.wire.rtcp import build_rtcp
from media.wire.twcc import MAX_REPORT, MAX_STATUSES, TICK_NS, Twcc

LOG = 1_024
gaps = st.sampled_from([0, 1, 7, 255, 256, 257, -1, -300, 0x7FFF, 0x8000, -0x8000, -0x8001, 40_000])  # in ticks
statuses = st.lists(st.one_of(st.none(), gaps, st.integers(0, 300)), max_size=MAX_STATUSES)


def arrivals(steps: list[int | None], begin_ns: int) -> list[int | None]:
    """When packets arrived that came so many ticks after one another, None for those that did not."""
    now_ns, found = begin_ns, list[int | None]()
    for step in steps:
        now_ns = max(0, now_ns + (step or 0) * TICK_NS)
        found.append(None if step is None else now_ns)
    return found


@given(st.integers(65_536, 2**40), statuses, st.integers(0, 2**50), st.integers(0, 255), st.integers(0, 2**32 - 1))
@example(65_535 + 65_536, [0] * MAX_STATUSES, 0, 255, 7)
@example(70_000, [300] * MAX_STATUSES, 0, 255, 7)
@example(70_000, [None, 5] * (MAX_STATUSES // 2), 0, 0, 7)
@example(70_000, [None] * 9, 0, 0, 7)
@example(70_000, [0x7FFF, None, -0x8000, 1, 1, 1, 300], 0, 0, 7)
def test_reports_are_those_of_the_plain_ones(
    first: int, steps: list[int | None], begin_ns: int, count: int, media_ssrc: int
) -> None:
    times_ns = arrivals(steps, begin_ns)
    log, times = np.full(LOG, -1), np.zeros(LOG, np.int64)
    for number, time_ns in enumerate(times_ns, first):
        if time_ns is not None:
            log[number % LOG], times[number % LOG] = number, time_ns
    expected = [build_rtcp(report) for report in twcc.reports(first, times_ns, Twcc(1, media_ssrc, 0, count, 0, ()))]
    found, out = [], np.full(MAX_REPORT, 0xAA, np.uint8)
    number, highest = first, first + len(steps) - 1
    while number <= highest:
        size, number = write_report(log, times, number, highest, (1, media_ssrc, count + len(found)), out)
        if size:
            found.append(out[:size].tobytes())
    assert found == expected
    assert number == highest + 1

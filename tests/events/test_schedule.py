"""When an endpoint is tried again, and when no more."""

from __future__ import annotations

from itertools import accumulate

import pytest

from server.webhooks.schedule import JITTER, LONGEST_PAUSE_S, RETRIES_S, Failed, Progress, Taken, after, enabled, wants

NOW = 1_000_000_000_000


def test_what_was_taken_moves_on_and_forgets_the_failures() -> None:
    progress = Progress(4, attempts=3, next_at=9, failure="answered 500", failed_at=8)
    assert after(progress, 7, Taken(), NOW, 0.5) == Progress(7, 0, 0, None, "answered 500", 8, NOW)


def test_what_was_not_taken_stays_and_is_tried_later_and_later_until_it_is_given_up() -> None:
    progress, now, pauses = Progress(4), NOW, []
    while progress.disabled is None:
        progress = after(progress, 5, Failed("answered 500"), now, 0.0)
        assert progress.position == 4
        if progress.disabled is None:
            pauses.append((progress.next_at - now) // 1000)
            now = progress.next_at
    assert pauses == list(RETRIES_S)
    assert list(accumulate(pauses))[-1] < 4 * 86_400
    assert progress.disabled == "exhausted"
    assert enabled(progress) == Progress(4, failure="answered 500", failed_at=now)


def test_jitter_only_lengthens_a_pause_and_never_beyond_its_share() -> None:
    at = [after(Progress(0), 1, Failed("x"), NOW, chance).next_at - NOW for chance in (0.0, 0.5, 0.999)]
    assert at == sorted(at)
    assert len(set(at)) == 3
    assert at[-1] <= RETRIES_S[0] * (1 + JITTER) * 1000


@pytest.mark.parametrize(("asked", "granted"), [(1, RETRIES_S[0]), (60, 60), (10**9, LONGEST_PAUSE_S)])
def test_an_endpoint_may_ask_for_a_longer_pause_within_a_day(asked: int, granted: int) -> None:
    assert after(Progress(0), 1, Failed("busy", pause_s=asked), NOW, 0.0).next_at == NOW + granted * 1000


def test_who_is_gone_is_not_tried_again() -> None:
    told = after(Progress(4), 5, Failed("answered 410", gone=True), NOW, 0.0)
    assert (told.disabled, told.position) == ("gone", 4)


@pytest.mark.parametrize(
    ("patterns", "type", "wanted"),
    [
        (("*",), "ticket.sold", True),
        (("ticket.sold",), "ticket.sold", True),
        (("ticket.sold",), "ticket.sold_out", False),
        (("ticket.*",), "ticket.sold", True),
        (("ticket.*",), "tickets.sold", False),
        (("ticket.*",), "ticket", False),
        (("tip.*", "stream.ended"), "stream.ended", True),
        (("tip.*", "stream.ended"), "stream.started", False),
    ],
)
def test_patterns_choose_types(patterns: tuple[str, ...], type: str, wanted: bool) -> None:
    assert wants(patterns, type) is wanted

from __future__ import annotations

import random

import pytest

from media.speakers import SILENT, Heard, Speakers

SPEECH, NOISE, COUGH = 25, 85, 5  # -dBov


class Table:
    """Two who sit at it, and their levels: 15 of each 300 ms."""

    def __init__(self) -> None:
        self.speakers = Speakers()
        self.chance = random.Random(1)

    def step(self, ann: int | None, ben: int | None, *more: int) -> Heard:
        heard = {"ann": self._levels(ann), "ben": self._levels(ben)}
        return self.speakers.decide(heard | {f"p{place}": self._levels(level) for place, level in enumerate(more)})

    def _levels(self, level: int | None) -> list[int]:
        if level is None:
            return []
        return [min(max(level + self.chance.randrange(-4, 5), 0), SILENT) for _ in range(15)]

    def until(self, name: str, ann: int | None, ben: int | None) -> int:
        """Return how many steps it takes until somebody is the speaker."""
        for step in range(1, 20):
            if self.step(ann, ben).speaker == name:
                return step
        raise AssertionError(f"{name} never became the speaker")


def test_who_speaks_is_the_speaker_and_the_next_one_within_a_second_and_a_half() -> None:
    table = Table()
    for _ in range(10):  # what noise is must be known first
        assert table.step(NOISE, NOISE).speaker is None
    assert table.until("ann", SPEECH, NOISE) <= 3
    assert table.until("ben", NOISE, SPEECH) <= 5
    assert table.until("ann", SPEECH, NOISE) <= 5


def test_a_pause_and_a_cough_of_somebody_else_change_nothing() -> None:
    table = Table()
    table.until("ann", SPEECH, NOISE)
    for _ in range(4):
        assert table.step(NOISE, NOISE).speaker == "ann"
    for _ in range(3):
        table.step(SPEECH, NOISE)
    heard = table.speakers.decide({"ann": [SPEECH] * 15, "ben": [NOISE] * 13 + [COUGH] * 2})
    assert (heard.speaker, heard.levels) == ("ann", {"ann": SPEECH, "ben": COUGH})
    assert table.step(SPEECH, NOISE).speaker == "ann"


def test_two_who_speak_at_once_do_not_take_turns() -> None:
    table = Table()
    table.until("ann", SPEECH, NOISE)
    assert {table.step(SPEECH, SPEECH).speaker for _ in range(30)} == {"ann"}


@pytest.mark.parametrize("silence", [None, SILENT])
def test_no_packets_are_silence_as_muted_ones_are(silence: int | None) -> None:
    table = Table()
    table.until("ann", SPEECH, silence)
    assert table.until("ben", silence, SPEECH) <= 5
    assert table.step(silence, SPEECH).levels["ann"] > SILENT - 5


def test_whoever_has_gone_is_the_speaker_no_longer() -> None:
    table = Table()
    table.until("ann", SPEECH, NOISE)
    assert table.speakers.decide({"ben": [NOISE] * 15}) == Heard(None, {"ben": NOISE})
    assert table.speakers.decide({}) == Heard(None, {})


def test_the_mark_of_a_voice_is_no_level() -> None:
    speakers = Speakers()
    assert speakers.decide({"ann": [0x80 | 30] * 15}).levels == {"ann": 30}


def test_in_a_full_room_it_is_the_one_who_speaks() -> None:
    table = Table()
    for _ in range(4):
        heard = table.step(NOISE, NOISE, *[NOISE] * 30, SPEECH, *[NOISE] * 30)
    assert heard.speaker == "p30"

"""Decides who of several is speaking, from how loud each of them is.

Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing" (IEEEI 2012), with the numbers that
Jitsi Videobridge has for it, but for what counts as active: there speech has to be louder than browsers make it. What
each of them says is scored over 20 ms, 100 ms and a second: how likely that many active parts are in speech, against in
noise. Somebody else becomes the speaker who scores far higher than the speaker over 20 ms and 100 ms and higher over a
second, so that a cough does not do, and no pause ends a speech. Sans-IO: levels come in, every STEP_NS.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

SILENT = 127  # -dBov, as RFC 6464 has it
LEVEL_BITS = 0x7F  # the eighth says whether the sender takes it for a voice: few do, so nobody is judged by it
FRAME_NS = 20_000_000  # what a level stands for
STEP_NS = 300_000_000  # between two decisions
PARTS_OF_MEDIUM, MEDIUMS = 5, 10  # frames of a medium interval, and how many of those are a long one
WINDOW = PARTS_OF_MEDIUM * MEDIUMS
BAND = 13  # decibels of one step of activity
ACTIVE_FRAME, ACTIVE_MEDIUM = 6, 2  # activity above which a part counts in the next longer interval: -36 dBov, and half
FLOOR_STEPS, FLOOR_LEAST_STEPS = 50, 10  # the least level of so many steps, 15 s, is noise; 3 s are too few to say
FLOOR_MOST = 60  # no noise is louder: -67 dBov
LEAST_SCORE = 1e-10
NEW_OVER_20_MS, NEW_OVER_100_MS = 3.0, 2.0  # how much likelier (as a logarithm) somebody must speak than the speaker


class Interval(NamedTuple):
    """How activity of one length is scored: `parts` of which as many are active, and what silence is expected to do."""

    parts: int
    rate: float


IMMEDIATE, MEDIUM, LONG = Interval(BAND, 0.78), Interval(PARTS_OF_MEDIUM, 24), Interval(MEDIUMS, 47)


def score(active: int, interval: Interval) -> float:
    """Return how much likelier that many active parts are in speech than in noise (their equation 9)."""
    likely = math.log(math.comb(interval.parts, active)) + interval.parts * math.log(0.5)
    return max(likely - math.log(interval.rate) + interval.rate * active, LEAST_SCORE)


class Scores(NamedTuple):
    """Of the newest part of each length."""

    immediate: float
    medium: float
    long: float


SILENCE = Scores(LEAST_SCORE, LEAST_SCORE, LEAST_SCORE)


@dataclass(slots=True)
class _Voice:
    frames: deque[int] = field(default_factory=lambda: deque([0] * WINDOW, WINDOW))  # activity, the newest first
    loudest: int = SILENT  # since the last decision
    quietest: deque[int] = field(default_factory=lambda: deque(maxlen=FLOOR_STEPS))
    scores: Scores = SILENCE

    def hear(self, levels: Iterable[int]) -> None:
        heard = [SILENT - (level & LEVEL_BITS) for level in levels] or [0] * (STEP_NS // FRAME_NS)
        self.loudest = SILENT - max(heard)
        self.quietest.append(min(heard))
        floor = min(*self.quietest, FLOOR_MOST) if len(self.quietest) >= FLOOR_LEAST_STEPS else 0
        self.frames.extendleft(level // BAND if level >= floor + BAND else 0 for level in heard)

    def judge(self) -> None:
        frames = list(self.frames)
        mediums = [
            sum(frame > ACTIVE_FRAME for frame in frames[first : first + PARTS_OF_MEDIUM])
            for first in range(0, WINDOW, PARTS_OF_MEDIUM)
        ]
        longs = sum(medium > ACTIVE_MEDIUM for medium in mediums)
        self.scores = Scores(score(frames[0], IMMEDIATE), score(mediums[0], MEDIUM), score(longs, LONG))


@dataclass(frozen=True, slots=True)
class Heard:
    """Who speaks, and how loud each was (-dBov, 0 the loudest, at the loudest moment)."""

    speaker: str | None
    levels: dict[str, int]


class Speakers:
    """Those who can be heard in one place."""

    def __init__(self) -> None:
        self._voices: dict[str, _Voice] = {}
        self._speaker: str | None = None

    def decide(self, heard: dict[str, list[int]]) -> Heard:
        """Take the levels of all that came since the last decision, STEP_NS ago; who is not among them has gone."""
        self._voices = {name: self._voices.get(name) or _Voice() for name in heard}
        if self._speaker not in self._voices:
            self._speaker = None
        for name, levels in heard.items():
            self._voices[name].hear(levels)
            self._voices[name].judge()
        self._speaker = self._next()
        return Heard(self._speaker, {name: voice.loudest for name, voice in self._voices.items()})

    def _next(self) -> str | None:
        best, best_lead = self._speaker, NEW_OVER_100_MS
        reigning = self._voices[self._speaker].scores if self._speaker is not None else SILENCE
        for name, voice in self._voices.items():
            if name == self._speaker:
                continue
            leads = [math.log(ours / theirs) for ours, theirs in zip(voice.scores, reigning, strict=True)]
            if leads[0] > NEW_OVER_20_MS and leads[1] > best_lead and leads[2] > 0:
                best, best_lead = name, leads[1]
        return best

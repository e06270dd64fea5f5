"""A clapper board: once a second the picture flashes white and a tone sounds, for the same fifth of a second.

Between flashes the picture is blue, and a green bar moves across it. `web/clapper.js` shows the same in a browser.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, RATE = 320, 240, 25
SOUND_RATE, SAMPLES = 48_000, 960  # of a frame of sound: 20 ms, as WebRTC sends it
PERIOD, CLAP = 25, 5  # frames from clap to clap, and of the clap
TONE_HZ, AMPLITUDE = 1_000, 0.5
BLUE, GREEN, WHITE = (20, 30, 170), (30, 200, 60), (255, 255, 255)
BARS, BAR_WIDTH = 8, 40  # the bar stands at one of eight places, and at the next after each frame


def picture(number: int) -> npt.NDArray[np.uint8]:
    """Return frame `number`: (HEIGHT, WIDTH, 3), RGB."""
    is_clap = number % PERIOD < CLAP
    pixels = np.full((HEIGHT, WIDTH, 3), WHITE if is_clap else BLUE, np.uint8)
    if not is_clap:
        at = number % BARS * BAR_WIDTH
        pixels[HEIGHT // 2 :, at : at + BAR_WIDTH] = GREEN
    return pixels


def sound(first: int) -> npt.NDArray[np.int16]:
    """Return SAMPLES samples from sample `first` on."""
    samples = np.arange(first, first + SAMPLES)
    is_clap = samples * RATE // SOUND_RATE % PERIOD < CLAP
    wave = AMPLITUDE * 32_767 * np.sin(samples * (2 * np.pi * TONE_HZ / SOUND_RATE))
    return np.where(is_clap, wave, 0).astype(np.int16)


@dataclass(frozen=True)
class Clip:
    """One frame, not yet encoded, and when it is due (seconds from the start)."""

    kind: str
    at_s: float
    frame: av.VideoFrame | av.AudioFrame


def clips(seconds: float) -> Iterator[Clip]:
    """Yield pictures, and the sound that belongs to each, in the order in which they are due."""
    samples = 0
    for number in range(int(seconds * RATE)):
        shown = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
        shown.pts, shown.time_base = number, Fraction(1, RATE)
        yield Clip("video", number / RATE, shown)
        for first in itertools.takewhile(
            lambda first, number=number: first < (number + 1) * SOUND_RATE // RATE,  # type: ignore[misc]
            itertools.count(samples, SAMPLES),
        ):
            heard = av.AudioFrame.from_ndarray(sound(first).repeat(2)[None, :], format="s16", layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = SOUND_RATE, first, Fraction(1, SOUND_RATE)
            samples = first + SAMPLES
            yield Clip("audio", first / SOUND_RATE, heard)

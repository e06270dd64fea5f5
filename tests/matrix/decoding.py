"""Decodes frames of a clapper board, and notes by their timestamps when it flashed and sounded: judge.js for frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import av
import numpy as np

from tests.matrix.clapper import BAR_WIDTH, BARS, HEIGHT, SOUND_RATE, TONE_HZ

BLOCK = 240  # samples in which the tone is looked for: 5 ms
LOUD, QUIET_S, LASTS_S = 0.1, 0.3, 0.05  # of full scale; of silence before a beep; of sound until it is judged


@dataclass
class Seen:
    """What was seen and heard so far, times in ms."""

    flashes: list[float] = field(default_factory=list)
    beeps: list[tuple[float, float]] = field(default_factory=list)  # and how much of the sound was the tone
    places: list[int] = field(default_factory=list)  # of the bar
    frames: int = 0
    blue: list[int] | None = None
    white: list[int] | None = None


class Eyes:
    """Decodes the picture; `codec` as FFmpeg calls it."""

    def __init__(self, codec: str, seen: Seen) -> None:
        self._decoder, self._seen, self._was_white = av.CodecContext.create(codec, "r"), seen, True
        self._decoder.thread_count = 1  # a frame comes out when it goes in

    def look(self, unit: bytes, at_ms: float) -> None:
        for frame in self._decoder.decode(av.Packet(unit)):  # type: ignore[attr-defined]
            pixels = frame.reformat(format="rgb24").to_ndarray()
            scale = pixels.shape[0] / HEIGHT
            top = [int(value) for value in pixels[pixels.shape[0] // 4, pixels.shape[1] // 2]]
            is_white = min(top) > 160
            if is_white and not self._was_white:
                self._seen.flashes.append(at_ms)
            self._was_white = is_white
            if is_white:
                self._seen.white = top
                continue
            self._seen.blue = top
            centres = [int((number + 0.5) * BAR_WIDTH * scale) for number in range(BARS)]
            green = [pixels[pixels.shape[0] * 3 // 4, centre, 1] > 130 for centre in centres]
            if any(green) and self._seen.places[-1:] != [green.index(True)]:
                self._seen.places.append(green.index(True))
            self._seen.frames += 1


class Ears:
    """Decodes Opus."""

    def __init__(self, seen: Seen) -> None:
        self._decoder, self._seen = av.CodecContext.create("opus", "r"), seen
        self._last_loud_ms = -1e9
        self._began_ms: float | None = None

    def listen(self, unit: bytes, at_ms: float) -> None:
        for frame in self._decoder.decode(av.Packet(unit)):  # type: ignore[attr-defined]
            samples = frame.to_ndarray()[0].astype(float)
            for first in range(0, len(samples) - BLOCK + 1, BLOCK):
                self._judge(samples[first : first + BLOCK], at_ms + first * 1_000 / SOUND_RATE)

    def _judge(self, block: np.ndarray, at_ms: float) -> None:
        wave = np.exp(2j * np.pi * TONE_HZ / SOUND_RATE * np.arange(BLOCK))  # whole turns
        amplitude = 2 * abs(block @ wave) / BLOCK
        if amplitude <= LOUD:
            return
        if at_ms - self._last_loud_ms > QUIET_S * 1_000:
            self._began_ms = at_ms
        self._last_loud_ms = at_ms
        if self._began_ms is not None and at_ms - self._began_ms > LASTS_S * 1_000:
            self._seen.beeps.append((self._began_ms, float(amplitude**2 / 2 / np.mean(block**2))))
            self._began_ms = None

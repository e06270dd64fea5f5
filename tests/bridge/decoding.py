"""Judges frames by decoding them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import av

from media.moq.protocol.containers import unwrap_legacy_untrusted

SIZE = (640, 360)  # of the test picture


def decoded(video: Iterable[tuple[int, int | None, bytes]], audio: Iterable[tuple[int, int | None, bytes]]) -> None:
    """Decode frames (group, timestamp, legacy container); their times have to rise evenly, on one clock."""
    pictures = av.CodecContext.create("vp8", "r")
    sound = av.CodecContext.create("opus", "r")
    times = []
    for frames, context in ((video, pictures), (audio, sound)):
        units = [unwrap_legacy_untrusted(payload) for _, _, payload in sorted(frames, key=lambda frame: frame[:2])]
        count = sum(len(context.decode(av.Packet(unit))) for _, unit in units)  # type: ignore[attr-defined]
        assert count >= len(units) - 2
        times.append([at for at, _ in units])
        assert times[-1] == sorted(set(times[-1]))
    assert (pictures.width, pictures.height) == SIZE  # type: ignore[attr-defined]
    steps = sorted(later - earlier for earlier, later in itertools.pairwise(times[1]))
    assert steps[len(steps) // 2] == 20_000
    # Both end with what was sent last: on one clock these times are close.
    assert abs(times[0][-1] - times[1][-1]) < 200_000

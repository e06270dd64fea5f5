"""How records are laid out: fields one after the other, in parts, and in whole cache lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LINE = 8  # cells of a cache line: what two threads write must not share one


def laid_out(parts: Sequence[tuple[np.dtype[np.void], int]], size: int) -> np.dtype[np.void]:
    """Return a record of `size` octets with the fields of each part, which begins at an offset."""
    names, formats, offsets = [], [], []
    for part, start in parts:
        assert part.fields is not None
        for name, field in part.fields.items():
            names.append(name)
            formats.append(field[0])
            offsets.append(start + field[1])
    layout: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size, "aligned": True}
    made: np.dtype[np.void] = np.dtype(layout)
    return made


def in_whole_lines(row: np.dtype[np.void]) -> np.dtype[np.void]:
    """Have rows end with a cache line, so that two workers that write neighbours do not wait for each other."""
    size = LINE * 8
    return laid_out([(row, 0)], -(-row.itemsize // size) * size)

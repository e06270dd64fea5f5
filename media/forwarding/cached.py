"""What is known of each cached packet; written by the kernel, see tables.py."""

from __future__ import annotations

import numpy as np

CACHED = np.dtype(
    [
        ("size", "i4"),
        ("marker", "u1"),
        ("is_key", "u1"),
        ("pad", "u1"),  # octets of padding with which it leaves, always; UNPLANNED before it is fanned out
        ("picture_at", "u1"),  # where in the payload VP8's picture id is, 0 nowhere
        ("base_at", "u1"),  # and its TL0PICIDX
        ("extensions", "u1"),  # octets of `cache_extensions` that it has
        ("red_at", "u2"),  # where in the payload the newest block of redundant sound begins, 0 for plain sound
        ("spatial", "u1"),
        ("temporal", "u1"),
        ("marks", "u1"),  # of layering.py
        ("descriptor", "u1"),  # octets of its dependency descriptor, which ends where the payload's place does
        ("ts", "i8"),
        ("frame_no", "i8"),
    ],
    align=True,
)

"""The columns that tell what a viewer gets of an encoding with layers within itself; see choosing.py."""

from __future__ import annotations

import numpy as np

ALL_LAYERS = 7  # the highest number that a layer within an encoding can have, in VP9
UNKNOWN = 3  # the layer of a packet whose own is told by one that is missing: the highest of AV1, as it may be that

CHOICE = np.dtype(
    [
        ("most_spatial", "u1"),  # P: up to which layers it is to get
        ("most_temporal", "u1"),  # P
        ("spatial", "u1"),  # K: up to which it gets now
        ("temporal", "u1"),  # K
        ("former_spatial", "u1"),  # K: up to which it got of pictures before `changed_at`
        ("former_temporal", "u1"),  # K
        ("picture_shift", "i4"),  # K: of picture ids, since so many pictures were left out
        ("frame", "i8"),  # K: of the newest picture, in `frame_no` of its track
        ("changed_at", "i8"),  # K: the first picture of those that it gets now
        ("begun_at", "i8"),  # K: from this source number on outgoing ones are given one by one, -1: not yet
        ("newest", "i8"),  # K: of the source, since then
    ],
    align=True,
)

NUMBERS = 256  # of which is known to whom they were given: 2 s at 1 Mbit/s; a power of two
# To which packet an outgoing number was given (the low bits of its own), and what became of it.
GIVEN = np.dtype([("low", "u4"), ("picture_shift", "u2"), ("fate", "u1")], align=True)  # K
AWAITED, SENT, MARKED, EMPTY = range(4)  # see Fate in reference_choice.py

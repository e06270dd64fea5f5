"""The record of what a keyframe's dependency descriptor says of the frames until the next; see dependency.py."""

from __future__ import annotations

import numpy as np

from media.wire.dependency import MAX_SPATIAL, TEMPLATES

STRUCTURE = np.dtype(
    [
        ("offset", "u1"),
        ("count", "u1"),  # of templates; 0 before a structure came
        ("targets", "u1"),
        ("spatial", "u1", (TEMPLATES,)),
        ("temporal", "u1", (TEMPLATES,)),
        ("syncs", "u1", (TEMPLATES,)),
        ("tops", "u1", (MAX_SPATIAL + 1,)),  # of each spatial layer the target with the most pictures a second
        ("most", "u1", (MAX_SPATIAL + 1,)),  # and the temporal layer that it goes up to
    ],
    align=True,
)  # K

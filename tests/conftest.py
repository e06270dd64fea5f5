"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes depends on what else the machine does, and on what Numba still has to compile.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

"""What can be set about files: how large one is, how much an account keeps, how many are looked at side by side."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MIB = 1_048_576


class FileSpace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much (MiB) accounts may keep from a tier on."""

    tier: Annotated[int, Meta(ge=0, le=100)]
    mib: Annotated[int, Meta(ge=0, le=1_073_741_824)]


class FileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest file, the space of accounts, and what stays free on the disk (MiB); no spaces are no limit."""

    largest_mib: Annotated[int, Meta(ge=1, le=1_048_576)] = 2048
    space: Annotated[tuple[FileSpace, ...], Meta(max_length=101)] = (FileSpace(0, 10_240),)
    keep_free_mib: Annotated[int, Meta(ge=0, le=1_073_741_824)] = 1024
    workers: Annotated[int, Meta(ge=1, le=64)] = 2

    @property
    def largest(self) -> int:
        """The largest file, in bytes."""
        return self.largest_mib * MIB

    def space_of(self, tier: int) -> int | None:
        """Return how many bytes an account of a tier may keep, None for any number."""
        fitting = [each for each in self.space if each.tier <= tier]
        return max(fitting, key=lambda each: each.tier).mib * MIB if fitting else None

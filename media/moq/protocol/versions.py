"""The versions of moq-lite (draft-lcurley-moq-lite) spoken here, and in what they differ, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Traits:
    """What a version has besides the layouts of its messages."""

    has_setup: bool  # both sides say who they are on a unidirectional stream
    has_track_stream: bool  # a track's properties are asked for on their own stream
    has_announce_ok: bool  # the first answer to an announcement request names the origin and counts what follows
    numbers_announcements: bool  # an announcement ends by its number rather than its name
    stamps_frames: bool  # each frame carries its timestamp, as the difference to the one before
    has_datagrams: bool
    has_goaway: bool
    stamps_itself: bool  # the announcer's own hop stands in the list of hops


class Version(Enum):
    """A version, by its name in ALPN, `WT-Protocol` and `Sec-WebSocket-Protocol`."""

    LITE_03 = "moq-lite-03"
    LITE_04 = "moq-lite-04"
    LITE_05 = "moq-lite-05"
    LITE_06 = "moq-lite-06"

    @property
    def traits(self) -> Traits:
        """What this version has."""
        return TRAITS[self]


TRAITS = {
    #                         setup  track  ok     number stamp  dgram  goaway itself
    Version.LITE_03: Traits(False, False, False, False, False, False, False, True),
    Version.LITE_04: Traits(False, False, False, False, False, False, True, True),
    Version.LITE_05: Traits(True, True, True, False, True, True, True, False),
    Version.LITE_06: Traits(True, True, True, True, True, True, True, False),
}

# 06 comes last: its draft still moves, and what is spoken here are the bytes that moq-ffi 0.4.18 ships under its name.
PREFERRED = (Version.LITE_05, Version.LITE_04, Version.LITE_03, Version.LITE_06)


def choose_version(offered: Sequence[str], preferred: Sequence[Version] = PREFERRED) -> Version | None:
    """Return the version that we like best of those offered by name, or None."""
    return next((version for version in preferred if version.value in offered), None)

"""The hang catalog: which renditions a broadcast has, and how to decode them (draft-lcurley-moq-hang).

It is the JSON in each frame of the track `catalog.json`; a later frame replaces an earlier one whole.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from media.wire.malformed import MalformedPacket

CATALOG_TRACK = "catalog.json"
MAX_CATALOG_BYTES = 65_536  # ten renditions with descriptions have 4,000
# What players of the ecosystem ask for, and so what our own tracks are given: what is small and needed first.
CATALOG_PRIORITY, AUDIO_PRIORITY, VIDEO_PRIORITY = 100, 80, 60


class Container(msgspec.Struct, frozen=True):
    """How the frames of a rendition are wrapped."""

    kind: Literal["legacy", "loc", "cmaf"] = "legacy"


class Video(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A rendition of the picture. H264 without `description` is Annex B with parameter sets before each IDR."""

    codec: str
    container: Container | None = None
    coded_width: int | None = None
    coded_height: int | None = None
    framerate: float | None = None
    bitrate: int | None = None
    jitter: float | None = None  # ms between frames at most
    description: str | None = None  # hex


class Audio(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A rendition of the sound."""

    codec: str
    sample_rate: int
    number_of_channels: int
    container: Container | None = None
    bitrate: int | None = None
    jitter: float | None = None
    description: str | None = None


class Display(msgspec.Struct, frozen=True):
    """The size a picture is meant to be seen at."""

    width: int
    height: int


class VideoSection(msgspec.Struct, frozen=True, omit_defaults=True):
    """All renditions of the picture, by track; players turn it clockwise by `rotation` degrees, and then mirror it."""

    renditions: dict[str, Video] = {}
    display: Display | None = None
    rotation: float | None = None
    flip: bool | None = None


class AudioSection(msgspec.Struct, frozen=True):
    """All renditions of the sound, by track."""

    renditions: dict[str, Audio] = {}


class Catalog(msgspec.Struct, frozen=True, omit_defaults=True):
    """A broadcast's catalog; sections that are not known here are passed over."""

    video: VideoSection | None = None
    audio: AudioSection | None = None


def write_catalog(catalog: Catalog) -> bytes:
    """Return the catalog as JSON."""
    return msgspec.json.encode(catalog)


def read_catalog_untrusted(payload: bytes) -> Catalog:
    """Read a catalog; raises MalformedPacket."""
    if len(payload) > MAX_CATALOG_BYTES:
        raise MalformedPacket("a catalog too long")
    try:
        return msgspec.json.decode(payload, type=Catalog)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedPacket("no catalog") from error

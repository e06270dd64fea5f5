"""Which renditions of a hang catalog WebRTC viewers can be given, as the codecs that their m-lines will name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from media.moq.protocol.hang import Audio, Catalog, Video, VideoSection
from media.webrtc.formats import CodecDescription, Kind, describe
from media.webrtc.sdp import PayloadFormat
from media.wire.malformed import MalformedPacket

CONTAINERS = ("legacy", "loc")
FLIPPED = 4  # bit F of the orientation


@dataclass(frozen=True, slots=True)
class Rendition:
    """One track of a catalog; `description` is H264's avcC record, empty where the frames are Annex B.

    `orientation` is how the picture is to be turned, as 3GPP TS 26.114 has it in one octet; None where nobody says.
    """

    name: str
    codec: CodecDescription
    container: str
    description: bytes = b""
    orientation: int | None = None


def choose_untrusted(catalog: Catalog, kinds: tuple[str, ...]) -> dict[Kind, Rendition]:
    """Return the largest picture and the first sound that can be forwarded; raises MalformedPacket."""
    chosen: dict[Kind, Rendition] = {}
    if "video" in kinds and catalog.video is not None:
        pictures = sorted(catalog.video.renditions.items(), key=lambda named: -_area(named[1]))
        usable = [one for name, video in pictures if (one := _rendition(name, video)) is not None]
        if usable:
            chosen["video"] = replace(usable[0], orientation=_orientation(catalog.video))
    if "audio" in kinds and catalog.audio is not None:
        sounds = catalog.audio.renditions.items()
        usable = [one for name, audio in sounds if (one := _rendition(name, audio)) is not None]
        if usable:
            chosen["audio"] = usable[0]
    return chosen


def _orientation(section: VideoSection) -> int | None:
    if section.rotation is None and section.flip is None:
        return None
    turned = section.rotation or 0.0
    quarters = round(turned / 90) % 4 if math.isfinite(turned) else 0
    return (FLIPPED if section.flip else 0) | quarters


def _area(video: Video) -> int:
    return (video.coded_width or 0) * (video.coded_height or 0)


def _rendition(name: str, described: Video | Audio) -> Rendition | None:
    container = "legacy" if described.container is None else described.container.kind
    codec = _codec(described)
    if codec is None or container not in CONTAINERS:
        return None
    is_h264 = described.codec.startswith("avc")
    try:
        description = bytes.fromhex(described.description or "") if is_h264 else b""
    except ValueError as error:
        raise MalformedPacket("a description that is not hexadecimal") from error
    return Rendition(name, codec, container, description)


def _codec(described: Video | Audio) -> CodecDescription | None:
    """Read a WebCodecs codec string; None for what is not forwarded over WebRTC."""
    if isinstance(described, Audio):
        is_ours = described.codec == "opus" and described.number_of_channels in (1, 2)
        stereo = {"stereo": "1"} if described.number_of_channels == 2 else {}
        return _described("opus", 48_000, 2, stereo) if is_ours else None
    name, _, profile = described.codec.partition(".")
    match name:
        case "vp8":
            return _described("VP8", 90_000, 1, {})
        case "vp09":
            return _described("VP9", 90_000, 1, {"profile-id": profile.partition(".")[0].lstrip("0") or "0"})
        case "av01":
            return _described("AV1", 90_000, 1, {"profile": profile.partition(".")[0]})
        case "avc1" | "avc3":
            return _described("H264", 90_000, 1, {"packetization-mode": "1", "profile-level-id": profile})
    return None


def _described(name: str, clock_rate: int, channels: int, parameters: dict[str, str]) -> CodecDescription | None:
    return describe(PayloadFormat(0, name, clock_rate, channels, parameters, frozenset()))

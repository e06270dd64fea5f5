"""Recognises which formats of an m-line we can carry, pairs them with a publisher's codec, writes their parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from media.webrtc.sdp import MediaDescription, PayloadFormat
from media.wire import h264
from media.wire.codecs import Codec
from media.wire.red import MAX_BLOCKS

Kind = Literal["audio", "video"]

RTCP_PAYLOAD_TYPES = range(64, 96)  # with rtcp-mux these look like RTCP (RFC 5761 section 4)
OPUS_RECEIVER_WISHES = ("maxaveragebitrate", "maxplaybackrate", "usedtx", "cbr")  # RFC 7587 section 6.1
AV1_LEVEL = ("level-idx", "tier")  # AV1 RTP specification section 7.2.1
MAX_PARAMETER_DIGITS = 10  # what we echo are numbers of at most 32 bits
OPUS_FMTP = "minptime=10;useinbandfec=1"
STEREO_FMTP = ";stereo=1;sprop-stereo=1"


@dataclass(frozen=True, slots=True)
class CodecDescription:
    """What a track consists of; `clock_rate` in Hz, `fmtp` describes the stream as an m-line would."""

    codec: Codec
    clock_rate: int
    channels: int
    fmtp: str

    @property
    def kind(self) -> Kind:
        """Whether it is sound or picture."""
        return "audio" if self.codec is Codec.OPUS else "video"


@dataclass(frozen=True, slots=True)
class Choice:
    """A format that can be taken from an m-line, with the payload type of its retransmissions."""

    format: PayloadFormat
    codec: CodecDescription
    rtx: int | None
    red: int | None = None  # of redundant sound that is made of it (RFC 2198)
    prefers_red: bool = False  # whether the m-line has that first: who offers it will send it

    @property
    def payload_types(self) -> set[int]:
        """The payload types that taking it uses up."""
        return {number for number in (self.format.payload_type, self.rtx, self.red) if number is not None}


def choices(media: MediaDescription, taken: set[int]) -> Iterator[Choice]:
    """Yield the formats that we can carry in the m-line's order, but for payload types in `taken`.

    Payload types must stay unique across a bundle: without header extensions they tell its m-lines apart.
    """
    free = [item for item in media.codecs if item.payload_type not in taken]
    free = [item for item in free if item.payload_type not in RTCP_PAYLOAD_TYPES]
    for item in free:
        codec = describe(item)
        if codec is not None and codec.kind == media.kind:
            rtx = next((other.payload_type for other in free if _repairs(other, item)), None)
            red = next((other for other in free if _is_redundant(other, item)), None)
            prefers_red = red is not None and free.index(red) < free.index(item)
            repairs = rtx if "nack" in item.feedback else None
            yield Choice(item, codec, repairs, None if red is None else red.payload_type, prefers_red)


def best_to_receive(media: MediaDescription, taken: set[int]) -> Choice | None:
    """Take a publisher's first codec; of H264's profiles constrained baseline where offered, as it plays everywhere."""
    offered = list(choices(media, taken))
    if not offered or offered[0].codec.codec is not Codec.H264:
        return offered[0] if offered else None
    same = (choice for choice in offered if choice.codec.codec is Codec.H264)
    return next((c for c in same if _profile_of(c.codec) is h264.Profile.CONSTRAINED_BASELINE), offered[0])


def carries(choice: Choice, codec: CodecDescription) -> bool:
    """Whether a viewer that offered `choice` understands a stream of `codec` (H264: the same profile, at any level)."""
    return choice.codec.codec is codec.codec and _profile_of(choice.codec) is _profile_of(codec)


def comes_near(choice: Choice, codec: CodecDescription) -> bool:
    """Whether a viewer that offered `choice` is known to decode `codec` though it names less.

    Browsers offer of H264 what their encoders make, the lower profiles; their decoders take the others as well.
    """
    return choice.codec.codec is codec.codec is Codec.H264


def plays_alike(former: CodecDescription, latter: CodecDescription) -> bool:
    """Whether who plays the one goes on with the other: decoders take any H264 level, and one channel or two."""
    return former.codec is latter.codec and _profile_of(former) is _profile_of(latter)


def describe(item: PayloadFormat) -> CodecDescription | None:
    """Recognise a format (names compare without case); None for what we don't carry.

    VP9 and AV1 only in profile 0, which every viewer decodes; H264 only in packetization mode 1, which senders share.
    """
    match item.name.upper(), item.clock_rate, item.channels:
        case "OPUS", 48_000, 2:
            return CodecDescription(Codec.OPUS, 48_000, 2, OPUS_FMTP + (STEREO_FMTP if _is_stereo(item) else ""))
        case "VP8", 90_000, 1:
            return CodecDescription(Codec.VP8, 90_000, 1, "")
        case "VP9", 90_000, 1 if item.parameter("profile-id", "0") == "0":
            return CodecDescription(Codec.VP9, 90_000, 1, "profile-id=0")
        case "AV1", 90_000, 1 if item.parameter("profile", "0") == "0":
            return CodecDescription(Codec.AV1, 90_000, 1, "profile=0")
        case "H264", 90_000, 1 if item.parameter("packetization-mode", "0") == "1":
            level = _profile_level(item)
            return CodecDescription(Codec.H264, 90_000, 1, _h264_fmtp(level.text, True)) if level else None
    return None


def receiving_parameters(choice: Choice) -> str:
    """Write the fmtp of an answer to a publisher: what we let it send is what it offered."""
    item = choice.format
    match choice.codec.codec:
        case Codec.OPUS:
            return OPUS_FMTP + (";stereo=1" if _is_stereo(item) else "") + _echo(item, OPUS_RECEIVER_WISHES)
        case Codec.AV1:
            return choice.codec.fmtp + _echo(item, AV1_LEVEL)
        case Codec.H264:
            return _h264_fmtp(_known_profile(choice.codec).text, _allows_asymmetry(item))
    return choice.codec.fmtp


def sending_parameters(choice: Choice, source: CodecDescription) -> str:
    """Write the fmtp of an answer to a viewer: what it will get, within the level it offered."""
    match source.codec:
        case Codec.AV1:
            return source.fmtp + _echo(choice.format, AV1_LEVEL)
        case Codec.H264:
            level = _known_profile(choice.codec).limited_to(_known_profile(source))
            return _h264_fmtp(level, _allows_asymmetry(choice.format))
    return source.fmtp


def _repairs(other: PayloadFormat, item: PayloadFormat) -> bool:
    return other.name.lower() == "rtx" and other.parameter("apt") == str(item.payload_type)


def _is_redundant(other: PayloadFormat, item: PayloadFormat) -> bool:
    """Whether `other` is redundant sound of which all blocks are of `item`, as in `a=fmtp:63 111/111`."""
    blocks = "".join(other.parameters).split("/")
    is_red = (other.name.lower(), other.clock_rate, other.channels) == ("red", item.clock_rate, item.channels)
    return is_red and 1 < len(blocks) <= MAX_BLOCKS + 1 and set(blocks) == {str(item.payload_type)}


def _is_stereo(item: PayloadFormat) -> bool:
    return "1" in (item.parameter("stereo"), item.parameter("sprop-stereo"))


def _echo(item: PayloadFormat, names: tuple[str, ...]) -> str:
    values = ((name, item.parameter(name)) for name in names)
    return "".join(f";{name}={value}" for name, value in values if _is_plain_number(value))


def _is_plain_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_PARAMETER_DIGITS


def _profile_level(item: PayloadFormat) -> h264.ProfileLevel | None:
    return h264.parse_profile_level_id(item.parameter("profile-level-id", h264.DEFAULT_PROFILE_LEVEL_ID))


def _known_profile(codec: CodecDescription) -> h264.ProfileLevel:
    level = h264.parse_profile_level_id(codec.fmtp.rpartition("=")[2])
    assert level is not None, "describe() lets only known profiles in"
    return level


def _profile_of(codec: CodecDescription) -> h264.Profile | None:
    return _known_profile(codec).profile if codec.codec is Codec.H264 else None


def _allows_asymmetry(item: PayloadFormat) -> bool:
    return item.parameter("level-asymmetry-allowed") == "1"


def _h264_fmtp(profile_level_id: str, asymmetry: bool) -> str:
    allowed = "level-asymmetry-allowed=1;" if asymmetry else ""
    return f"{allowed}packetization-mode=1;profile-level-id={profile_level_id}"

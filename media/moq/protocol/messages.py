"""The messages of moq-lite as values, and their layout in each version as one table (draft-lcurley-moq-lite).

A message is a length and its fields. A field that a version lacks keeps its default when read and is left out when
written. Frames are no messages: `media/moq/protocol/frames.py` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

from media.moq.protocol.varint import Cursor, prefixed, varint
from media.moq.protocol.versions import Version
from media.wire.malformed import MalformedPacket

MAX_MESSAGE_BYTES = 16_384  # the longest, a path with a token in a SETUP, has some 2,000
MAX_NAME_BYTES = 1_024  # of a path, a suffix or a track's name
MAX_SEGMENTS = 32  # of a path
MAX_HOPS = 32  # relays between publisher and subscriber; more is a loop
MAX_PARAMETERS = 32


class BidiType(IntEnum):
    """What a bidirectional stream is for; its first number."""

    ANNOUNCE = 1
    SUBSCRIBE = 2
    FETCH = 3
    PROBE = 4
    GOAWAY = 5
    TRACK = 6


class UniType(IntEnum):
    """What a unidirectional stream is for; its first number."""

    GROUP = 0
    SETUP = 1


class SetupParameter(IntEnum):
    """Parameters of SETUP."""

    PROBE = 1
    PATH = 2
    ROLE = 3
    COST = 4
    ORIGIN = 5


@dataclass(frozen=True, slots=True)
class Setup:
    """Who a side is; `parameters` are (id, value) in the order of the wire."""

    parameters: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class AnnounceRequest:
    """Asks for every broadcast whose path begins with `prefix`, except those that came through `exclude_hop`."""

    prefix: str
    exclude_hop: int = 0


@dataclass(frozen=True, slots=True)
class AnnounceOk:
    """Names the announcer's hop, and how many announcements make the present state."""

    origin: int
    active_count: int


@dataclass(frozen=True, slots=True)
class Announce:
    """A broadcast is there (1), or no longer (0); `suffix` is what follows the prefix asked for."""

    status: int
    suffix: str
    hops: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AnnounceStart:
    """A broadcast is there; its number is how many came before it on this stream."""

    suffix: str
    hops: tuple[int, ...] = ()
    cost: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class AnnounceEnd:
    """The numbered broadcast is there no longer."""

    number: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Asks for groups of a track. `start` and `end` are 0 for none, else a sequence number plus one."""

    id: int
    broadcast: str
    track: str
    priority: int = 0
    is_ordered: bool = False
    max_latency_ms: int = 0
    start: int = 0
    end: int = 0
    start_frame: int = 0
    end_frame: int = 0


@dataclass(frozen=True, slots=True)
class SubscribeUpdate:
    """Changes what a subscription asks for."""

    priority: int
    is_ordered: bool = False
    max_latency_ms: int = 0
    start: int = 0
    end: int = 0
    start_frame: int = 0
    end_frame: int = 0


@dataclass(frozen=True, slots=True)
class SubscribeOk:
    """Accepts a subscription (03, 04)."""

    priority: int = 0
    is_ordered: bool = False
    max_latency_ms: int = 0
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class SubscribeStart:
    """Accepts a subscription and names its first group (05 on)."""

    group: int


@dataclass(frozen=True, slots=True)
class SubscribeEnd:
    """Names the first group that will not come (05 on)."""

    group: int


@dataclass(frozen=True, slots=True)
class SubscribeDrop:
    """The groups from `start` to `end` will not come."""

    start: int
    end: int
    code: int


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """Asks for a track's properties."""

    broadcast: str
    track: str


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """A track's properties; `timescale` is how many units of its timestamps make a second."""

    priority: int
    is_ordered: bool = False
    max_latency_ms: int = 0
    timescale: int = 1_000


@dataclass(frozen=True, slots=True)
class Fetch:
    """Asks for one group of the past."""

    broadcast: str
    track: str
    priority: int
    group: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What the publisher's congestion control believes the path to carry."""

    bitrate_bps: int
    rtt_ms: int = 0


@dataclass(frozen=True, slots=True)
class Goaway:
    """Asks the peer to leave, for `uri` when there is one."""

    uri: str = ""


@dataclass(frozen=True, slots=True)
class GroupHeader:
    """To which subscription the frames of a stream belong, and to which group of its track."""

    subscription: int
    sequence: int
    first_frame: int = 0


Message = (
    Setup
    | AnnounceRequest
    | AnnounceOk
    | Announce
    | AnnounceStart
    | AnnounceEnd
    | Subscribe
    | SubscribeUpdate
    | SubscribeOk
    | SubscribeStart
    | SubscribeEnd
    | SubscribeDrop
    | TrackRequest
    | TrackInfo
    | Fetch
    | Probe
    | Goaway
    | GroupHeader
)
AnyMessage = TypeVar("AnyMessage", bound=Message)


class Kind(NamedTuple):
    """How a field is read and written."""

    read: Callable[[Cursor], Any]
    write: Callable[[Any], bytes]


def _read_text_untrusted(cursor: Cursor) -> str:
    raw = cursor.prefixed_untrusted()
    if len(raw) > MAX_NAME_BYTES:
        raise MalformedPacket("a name too long")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a name that is no UTF-8") from error


def _write_text(text: str) -> bytes:
    return prefixed(text.encode())


def _read_path_untrusted(cursor: Cursor) -> str:
    path = normal_path(_read_text_untrusted(cursor))
    if path.count("/") >= MAX_SEGMENTS:
        raise MalformedPacket("a path too deep")
    return path


def _read_hops_untrusted(cursor: Cursor) -> tuple[int, ...]:
    return tuple(cursor.varint_untrusted() for _ in range(_read_count_untrusted(cursor, MAX_HOPS)))


def _read_count_untrusted(cursor: Cursor, limit: int) -> int:
    count = cursor.varint_untrusted()
    if count > limit:
        raise MalformedPacket("a list too long")
    return count


def _read_parameters_untrusted(cursor: Cursor) -> tuple[tuple[int, bytes], ...]:
    count = _read_count_untrusted(cursor, MAX_PARAMETERS)
    return tuple((cursor.varint_untrusted(), cursor.prefixed_untrusted()) for _ in range(count))


def _write_parameters(parameters: tuple[tuple[int, bytes], ...]) -> bytes:
    return varint(len(parameters)) + b"".join(varint(id) + prefixed(value) for id, value in parameters)


VARINT = Kind(Cursor.varint_untrusted, varint)
BYTE = Kind(Cursor.byte_untrusted, lambda value: bytes((value,)))
FLAG = Kind(lambda cursor: cursor.byte_untrusted() != 0, lambda value: bytes((value,)))
TEXT = Kind(_read_text_untrusted, _write_text)
PATH = Kind(_read_path_untrusted, _write_text)
HOPS = Kind(_read_hops_untrusted, lambda hops: varint(len(hops)) + b"".join(map(varint, hops)))
HOP_COUNT = Kind(lambda cursor: (0,) * _read_count_untrusted(cursor, MAX_HOPS), lambda hops: varint(len(hops)))
PARAMETERS = Kind(_read_parameters_untrusted, _write_parameters)

Layout = dict[str, Kind]
_PREFIX: Layout = {"prefix": PATH}
_PREFIX_EXCEPT: Layout = {"prefix": PATH, "exclude_hop": VARINT}
_NAMES: Layout = {"broadcast": PATH, "track": TEXT}
_WINDOW: Layout = {"start": VARINT, "end": VARINT}
_WISH: Layout = {"priority": BYTE, "is_ordered": FLAG, "max_latency_ms": VARINT, **_WINDOW}
_WISH_06: Layout = {
    "priority": BYTE,
    "max_latency_ms": VARINT,
    **_WINDOW,
    "start_frame": VARINT,
    "end_frame": VARINT,
}
_FIRST_GROUP: Layout = {"group": VARINT}
_DROP: Layout = {**_WINDOW, "code": VARINT}

# What every version from 03 on writes alike.
_COMMON: dict[type[Message], Layout] = {
    AnnounceRequest: _PREFIX_EXCEPT,
    Announce: {"status": BYTE, "suffix": PATH, "hops": HOPS},
    Subscribe: {"id": VARINT, **_NAMES, **_WISH},
    SubscribeUpdate: _WISH,
    SubscribeDrop: _DROP,
    Fetch: {**_NAMES, "priority": BYTE, "group": VARINT},
    Probe: {"bitrate_bps": VARINT, "rtt_ms": VARINT},
    GroupHeader: {"subscription": VARINT, "sequence": VARINT},
}
_LITE_04: dict[type[Message], Layout] = {**_COMMON, SubscribeOk: _WISH, Goaway: {"uri": TEXT}}
_LITE_05: dict[type[Message], Layout] = {
    **_COMMON,
    Goaway: {"uri": TEXT},
    Setup: {"parameters": PARAMETERS},
    AnnounceOk: {"origin": VARINT, "active_count": VARINT},
    SubscribeStart: _FIRST_GROUP,
    SubscribeEnd: _FIRST_GROUP,
    TrackRequest: _NAMES,
    TrackInfo: {"priority": BYTE, "is_ordered": FLAG, "max_latency_ms": VARINT, "timescale": VARINT},
}
LAYOUTS: dict[Version, dict[type[Message], Layout]] = {
    Version.LITE_03: {
        **_COMMON,
        SubscribeOk: _WISH,
        AnnounceRequest: _PREFIX,
        Announce: {"status": BYTE, "suffix": PATH, "hops": HOP_COUNT},
        Probe: {"bitrate_bps": VARINT},
    },
    Version.LITE_04: _LITE_04,
    Version.LITE_05: _LITE_05,
    Version.LITE_06: {
        **_LITE_05,
        AnnounceRequest: _PREFIX,
        AnnounceStart: {"suffix": PATH, "hops": HOPS, "cost": VARINT, "reserved": VARINT},
        AnnounceEnd: {"number": VARINT},
        Subscribe: {"id": VARINT, **_NAMES, **_WISH_06},
        SubscribeUpdate: _WISH_06,
        TrackInfo: {"priority": BYTE, "max_latency_ms": VARINT, "timescale": VARINT},
        GroupHeader: {"subscription": VARINT, "sequence": VARINT, "first_frame": VARINT},
    },
}

# Where messages of several kinds share a direction of a stream, a number in front tells them apart.
_ANSWERS_04: dict[int, type[Message]] = {0: SubscribeOk, 1: SubscribeDrop}
_ANSWERS_05: dict[int, type[Message]] = {0: SubscribeStart, 1: SubscribeEnd, 2: SubscribeDrop}
SUBSCRIBE_ANSWERS: dict[Version, dict[int, type[Message]]] = {
    Version.LITE_03: _ANSWERS_04,
    Version.LITE_04: _ANSWERS_04,
    Version.LITE_05: _ANSWERS_05,
    Version.LITE_06: _ANSWERS_05,
}
ANNOUNCEMENTS_06: dict[int, type[Message]] = {0: AnnounceStart, 1: AnnounceEnd}


def normal_path(path: str) -> str:
    """Return a path without slashes at its ends, nor two in a row."""
    return "/".join(segment for segment in path.split("/") if segment)


def suffix_of(path: str, prefix: str) -> str | None:
    """Return what follows `prefix` in `path`, both normal, at a segment's boundary; None when it is no prefix."""
    if prefix in ("", path):
        return path[len(prefix) :]
    return path[len(prefix) + 1 :] if path.startswith(prefix + "/") else None


def read_message_untrusted(version: Version, kind: type[AnyMessage], body: bytes) -> AnyMessage:
    """Read a message's body, its length already taken off.

    Raises MalformedPacket, also for bytes left over and for a message that the version does not have.
    """
    layouts: Mapping[type[Any], Layout] = LAYOUTS[version]
    layout = layouts.get(kind)
    if layout is None:
        raise MalformedPacket(f"{version.value} has no {kind.__name__}")
    cursor = Cursor(body)
    fields = {name: field.read(cursor) for name, field in layout.items()}
    if not cursor.is_at_end:
        raise MalformedPacket("bytes left over")
    return kind(**fields)


def write_message(version: Version, message: Message) -> bytes:
    """Return a message with its length in front."""
    layout = LAYOUTS[version][type(message)]
    return prefixed(b"".join(field.write(getattr(message, name)) for name, field in layout.items()))

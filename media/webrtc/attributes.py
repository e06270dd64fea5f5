"""Reads the attributes of one level of a session description, and the numbers and tokens inside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

from media.webrtc.dtls import Fingerprint

MAX_FORMATS = 128  # payload types have seven bits (RFC 3550 section 5.1)
MAX_CANDIDATES = 256  # GStreamer sends 9 for each m-line; we never use them (ICE-lite), so this only bounds parsing
MAX_SSRCS = 64  # for each m-line: three simulcast layers with RTX make six
MAX_EXTENSIONS = 64  # for each m-line: Chromium offers 13
MAX_FINGERPRINTS = 16  # for each level: aiortc sends three
MAX_BUNDLES = 16  # groups, and mids in one: as many as m-lines
MAX_RIDS = 16  # for each m-line: every client seen has three
MAX_TAG_LENGTH = 64  # a=mid: every client seen stays below 8

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`{|}~0-9A-Za-z]+")  # RFC 8866 section 9
_RID = re.compile(r"[0-9A-Za-z_-]{1,64}")  # RFC 8851 section 10
_NUMBER = re.compile(r"[0-9]{1,10}")
_LARGE_NUMBER = re.compile(r"[0-9]{1,20}")
_HEX_PAIRS = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*")
_DIGEST_SIZES = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}  # bytes; RFC 8122 section 5
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_FLAGS = ("rtcp-mux", "rtcp-mux-only", "rtcp-rsize", "bundle-only", "extmap-allow-mixed", "end-of-candidates")


class Direction(StrEnum):
    """Who sends, seen from the side that wrote the description (RFC 8866 section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


class Setup(StrEnum):
    """Who opens the DTLS connection (RFC 4145 section 4)."""

    ACTIVE = "active"
    PASSIVE = "passive"
    ACTPASS = "actpass"
    HOLDCONN = "holdconn"


@dataclass(frozen=True, slots=True)
class HeaderExtension:
    """An RTP header extension (RFC 8285 section 5) with the direction the writer uses it in."""

    id: int
    uri: str
    direction: Direction


class WrongLine(Exception):
    """What is wrong with the line being read; gets its line number further up."""


@dataclass(slots=True)
class Level:
    """What has been read of the session level or of one m-line."""

    line: int = 0  # of the m-line; 0 for the session level
    reading: int = 0  # the line being read
    heading: tuple[str, int, str, tuple[str, ...]] = ("", 0, "", ())
    single: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)  # where each of `single` was read
    flags: set[str] = field(default_factory=set)
    fingerprints: list[Fingerprint] = field(default_factory=list)
    bundles: list[tuple[str, ...]] = field(default_factory=list)
    ice_options: set[str] = field(default_factory=set)
    rtpmaps: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    parameters: dict[int, dict[str, str]] = field(default_factory=dict)
    feedback: list[tuple[str, str]] = field(default_factory=list)
    extensions: list[HeaderExtension] = field(default_factory=list)
    ssrcs: dict[int, None] = field(default_factory=dict)
    rids: dict[str, str] = field(default_factory=dict)  # with the direction of each
    layers: tuple[str, ...] = ()  # of simulcast, as it is sent
    candidates: int = 0


def read_heading(value: str) -> tuple[str, int, str, tuple[str, ...]]:
    """Read `<media> <port>[/<count>] <proto> <fmt> ...` (RFC 8866 section 5.14)."""
    fields = value.split(" ")
    if len(fields) < 4:
        refuse_line("an m-line has a kind, a port, a protocol and at least one format")
    kind, port, protocol, *formats = fields
    if len(formats) > MAX_FORMATS:
        refuse_line(f"more than {MAX_FORMATS} formats")
    for name in fields:
        if not _TOKEN.fullmatch(name.replace("/", "")):
            refuse_line(f"{_quoted(name)} is no token")
    if len(set(formats)) != len(formats):
        refuse_line("a format is listed twice")
    if "RTP/" in protocol:
        for name in formats:
            payload_type(name)
    return kind, _number(port.split("/")[0], 65_535, "port"), protocol, tuple(formats)


def read_attribute(level: Level, line: str) -> None:
    """Read one `a=` value into `level`."""
    name, colon, value = line.partition(":")
    if name in _DIRECTIONS:
        _once(level, "direction", name)
    elif name in _FLAGS:
        level.flags.add(name)
    elif reader := _READERS.get(name):
        if not colon:
            refuse_line(f"a={name} has no value")
        reader(level, value)
    elif not name:
        refuse_line("an attribute without a name")


def _once(level: Level, name: str, value: str) -> None:
    if name in level.single:
        refuse_line(f"a second {name}")
    level.single[name] = value
    level.lines[name] = level.reading


def _read_mid(level: Level, value: str) -> None:
    if len(value) > MAX_TAG_LENGTH or not _TOKEN.fullmatch(value):
        refuse_line(f"{_quoted(value)} is no identification tag")
    _once(level, "mid", value)


def _read_ufrag(level: Level, value: str) -> None:
    _once(level, "ice-ufrag", value)


def _read_password(level: Level, value: str) -> None:
    _once(level, "ice-pwd", value)


def _read_sctp_port(level: Level, value: str) -> None:
    _number(value, 65_535, "port")
    _once(level, "sctp-port", value)


def _read_max_message_size(level: Level, value: str) -> None:
    """Read a number of bytes (RFC 8841 section 6); some write more than they could ever send."""
    if not _LARGE_NUMBER.fullmatch(value):
        refuse_line(f"{_quoted(value)} is no number of bytes")
    _once(level, "max-message-size", value)


def _read_setup(level: Level, value: str) -> None:
    if value not in set(Setup):
        refuse_line(f"{_quoted(value)} is no setup role")
    _once(level, "setup", value)


def _read_fingerprint(level: Level, value: str) -> None:
    if len(level.fingerprints) >= MAX_FINGERPRINTS:
        refuse_line(f"more than {MAX_FINGERPRINTS} fingerprints")
    algorithm, _, digest = value.partition(" ")
    algorithm = algorithm.lower()
    if not _TOKEN.fullmatch(algorithm) or not _HEX_PAIRS.fullmatch(digest):
        refuse_line("not of the form a=fingerprint:<hash> <hex pairs with colons>")
    raw = bytes.fromhex(digest.replace(":", ""))
    if len(raw) != _DIGEST_SIZES.get(algorithm, len(raw)):
        refuse_line(f"a {algorithm} fingerprint has {_DIGEST_SIZES[algorithm]} bytes, this one has {len(raw)}")
    level.fingerprints.append(Fingerprint(algorithm, raw))


def _read_group(level: Level, value: str) -> None:
    semantics, *mids = value.split(" ")
    if semantics != "BUNDLE":
        return
    if len(level.bundles) >= MAX_BUNDLES or len(mids) > MAX_BUNDLES or len(set(mids)) != len(mids):
        refuse_line("too many groups, or a mid twice in one")
    level.bundles.append(tuple(mids))


def _read_ice_options(level: Level, value: str) -> None:
    level.ice_options.update(value.split(" "))


def _read_candidate(level: Level, value: str) -> None:
    # Never looked into: an ICE-lite agent learns addresses from checks, and names must not be resolved (SSRF, mDNS).
    level.candidates += 1
    if level.candidates > MAX_CANDIDATES:
        refuse_line(f"more than {MAX_CANDIDATES} candidates")


def _read_rtpmap(level: Level, value: str) -> None:
    """Read `<pt> <name>/<rate>[/<channels>]` (RFC 8866 section 6.6)."""
    number, _, encoding = value.partition(" ")
    name, _, rest = encoding.partition("/")
    rate, _, channels = rest.partition("/")
    payload = payload_type(number)
    if not _TOKEN.fullmatch(name):
        refuse_line(f"{_quoted(name)} is no codec name")
    if payload in level.rtpmaps:
        refuse_line(f"a second rtpmap of payload type {payload}")
    entry = name, _number(rate, 2**31, "clock rate"), _number(channels or "1", 255, "channel count")
    level.rtpmaps[payload] = entry


def _read_fmtp(level: Level, value: str) -> None:
    number, _, text = value.partition(" ")
    parameters = level.parameters.setdefault(payload_type(number), {})
    for part in text.split(";"):
        name, _, setting = part.partition("=")
        parameters[name.strip().lower()] = setting.strip()


def _read_feedback(level: Level, value: str) -> None:
    number, _, feedback = value.partition(" ")
    if number != "*":
        payload_type(number)
    level.feedback.append((number, feedback.strip().lower()))


def _read_extension(level: Level, value: str) -> None:
    """Read `<id>[/<direction>] <uri> [<attributes>]` (RFC 8285 section 8)."""
    number, _, rest = value.partition(" ")
    identifier, slash, direction = number.partition("/")
    uri = rest.split(" ")[0]
    if len(level.extensions) >= MAX_EXTENSIONS:
        refuse_line(f"more than {MAX_EXTENSIONS} header extensions")
    if not uri or not uri.isascii():
        refuse_line("a header extension without a URI")
    if slash and direction not in _DIRECTIONS:
        refuse_line(f"{_quoted(direction)} is no direction")
    used = Direction(direction) if slash else Direction.SENDRECV
    level.extensions.append(HeaderExtension(_number(identifier, 4351, "extension id"), uri, used))


def _read_ssrc(level: Level, value: str) -> None:
    level.ssrcs[_number(value.split(" ")[0], 2**32 - 1, "SSRC")] = None
    if len(level.ssrcs) > MAX_SSRCS:
        refuse_line(f"more than {MAX_SSRCS} SSRCs")


def _read_rid(level: Level, value: str) -> None:
    """Read `<id> <direction> [<restrictions>]` (RFC 8851 section 4)."""
    name, _, rest = value.partition(" ")
    direction = rest.split(" ")[0]
    if not _RID.fullmatch(name) or direction not in ("send", "recv"):
        refuse_line("not of the form a=rid:<id> send or a=rid:<id> recv")
    if name in level.rids or len(level.rids) >= MAX_RIDS:
        refuse_line(f"a stream identifier twice, or more than {MAX_RIDS}")
    level.rids[name] = direction


def _read_simulcast(level: Level, value: str) -> None:
    """Read `send <streams>` and `recv <streams>`, either or both (RFC 8853 section 5.1)."""
    _once(level, "simulcast", value)
    words = value.split(" ")
    lists = dict(zip(words[::2], words[1::2], strict=False))
    if len(words) not in (2, 4) or len(lists) != len(words) // 2 or not lists.keys() <= {"send", "recv"}:
        refuse_line("not of the form a=simulcast:send <streams> recv <streams>")
    streams = lists["send"].split(";") if "send" in lists else []
    # Of alternatives the first is preferred; ~ marks those that are paused to begin with.
    level.layers = tuple(stream.split(",")[0].removeprefix("~") for stream in streams)
    if len(level.layers) > MAX_RIDS or not all(map(_RID.fullmatch, level.layers)):
        refuse_line("a stream that is no identifier, or too many of them")


_READERS: dict[str, Callable[[Level, str], None]] = {
    "mid": _read_mid,
    "ice-ufrag": _read_ufrag,
    "ice-pwd": _read_password,
    "setup": _read_setup,
    "sctp-port": _read_sctp_port,
    "max-message-size": _read_max_message_size,
    "fingerprint": _read_fingerprint,
    "group": _read_group,
    "ice-options": _read_ice_options,
    "candidate": _read_candidate,
    "rtpmap": _read_rtpmap,
    "fmtp": _read_fmtp,
    "rtcp-fb": _read_feedback,
    "extmap": _read_extension,
    "ssrc": _read_ssrc,
    "rid": _read_rid,
    "simulcast": _read_simulcast,
}


def payload_type(text: str) -> int:
    """Read a payload type; raises WrongLine."""
    return _number(text, 127, "payload type")


def _number(text: str, largest: int, what: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > largest:
        refuse_line(f"{_quoted(text)} is no {what} (0 to {largest})")
    return int(text)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def refuse_line(detail: str) -> NoReturn:
    """Say what is wrong with the line being read; raises WrongLine."""
    raise WrongLine(detail)

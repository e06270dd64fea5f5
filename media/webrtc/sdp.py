"""Reads session descriptions (RFC 8866) as WebRTC endpoints write them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from media.webrtc.attributes import (
    Direction,
    HeaderExtension,
    Level,
    Setup,
    WrongLine,
    read_attribute,
    read_heading,
    refuse_line,
)
from media.webrtc.dtls import Fingerprint
from media.webrtc.ice import IceCredentials

MAX_BYTES = 65_536  # ten times the largest offer seen of a browser (6.5 kB)
MAX_LINES = 2_000  # Chromium 156 sends 206
MAX_LINE_LENGTH = 2_048  # the longest lines, m= with every payload type and sha-512 fingerprints, stay below 400
MAX_MEDIA = 16  # one audio and one video are ever accepted; rejected ones are answered too

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class MalformedSdp(ValueError):
    """The text is no session description; `line` counts from 1, `detail` says in plain words what is wrong there."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(f"line {line}: {detail}")
        self.line = line
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """One payload type with all that an m-line says about it; names keep the case they were written in."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int
    parameters: dict[str, str]
    feedback: frozenset[str]

    def parameter(self, name: str, default: str = "") -> str:
        """Return the value of a format parameter (names compare without case), or `default`."""
        return self.parameters.get(name, default)


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """One m-line with its attributes; what the session level says for all m-lines is filled in.

    `layers` are the identifiers of the streams that are sent as simulcast, in the writer's order; `sctp_port` and
    `max_message_size` are those of data channels.
    """

    line: int
    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    mid: str | None
    direction: Direction
    codecs: tuple[PayloadFormat, ...]
    extensions: tuple[HeaderExtension, ...]
    ice: IceCredentials | None
    fingerprints: tuple[Fingerprint, ...]
    setup: Setup | None
    ssrcs: tuple[int, ...]
    layers: tuple[str, ...]
    flags: frozenset[str]
    sctp_port: int | None
    max_message_size: int | None

    @property
    def live(self) -> bool:
        """Whether the m-line is in use: port 0 means no, unless it waits for its bundle (RFC 9143 section 6)."""
        return self.port != 0 or "bundle-only" in self.flags


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description; `bundles` lists the mids of each BUNDLE group in order, `flags` session-level ones."""

    media: tuple[MediaDescription, ...]
    bundles: tuple[tuple[str, ...], ...]
    flags: frozenset[str]
    ice_options: frozenset[str]


def parse_sdp_untrusted(text: str) -> SessionDescription:
    """Parse an offer or answer; unknown attributes and line types are ignored (RFC 8866 section 5).

    Raises MalformedSdp.
    """
    session = Level()
    levels = [session]
    line = 0
    seen = ""
    for line, kind, value in numbered_lines_untrusted(text):
        if (line == 1) != (kind == "v"):
            raise MalformedSdp(line, "a description begins with v=0, and has it once")
        levels[-1].reading = line
        try:
            if kind == "m":
                if len(levels) > MAX_MEDIA:
                    refuse_line(f"more than {MAX_MEDIA} m-lines")
                levels.append(Level(line=line, heading=read_heading(value)))
            elif kind == "a":
                read_attribute(levels[-1], value)
            elif kind == "v" and value != "0":
                refuse_line("the version is not 0")
        except WrongLine as wrong:
            raise MalformedSdp(line, str(wrong)) from None
        if len(levels) == 1:
            seen += kind
    for required in "ost":
        if required not in seen:
            raise MalformedSdp(line, f"the {required}= line is missing before the first m-line")
    return _assemble(session, levels[1:])


def numbered_lines_untrusted(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line number from 1, type letter, value) within all size limits; CRLF and LF both end lines.

    Raises MalformedSdp.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        raise MalformedSdp(1, f"longer than {MAX_BYTES} bytes")
    lines = text.removesuffix("\n").removesuffix("\r").split("\n")
    if len(lines) > MAX_LINES:
        raise MalformedSdp(MAX_LINES + 1, f"more than {MAX_LINES} lines")
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix("\r")
        if len(line) > MAX_LINE_LENGTH:
            raise MalformedSdp(number, f"longer than {MAX_LINE_LENGTH} characters")
        if control := _CONTROL.search(line):
            raise MalformedSdp(number, f"control character 0x{ord(control[0]):02x} at column {control.start() + 1}")
        if len(line) < 2 or line[1] != "=" or not ("a" <= line[0] <= "z"):
            raise MalformedSdp(number, "not of the form <letter>=<value>")
        yield number, line[0], line[2:]


def credentials_of(level: Level) -> IceCredentials | None:
    """Return the ICE credentials of one level, None where it has none; raises MalformedSdp."""
    ufrag, password = level.single.get("ice-ufrag"), level.single.get("ice-pwd")
    if ufrag is None and password is None:
        return None
    line = level.lines.get("ice-ufrag", 0) or level.lines["ice-pwd"]
    if ufrag is None or password is None:
        raise MalformedSdp(line, "a=ice-ufrag and a=ice-pwd come only together")
    try:
        return IceCredentials(ufrag, password)
    except ValueError as error:
        raise MalformedSdp(line, str(error)) from None


def _assemble(session: Level, levels: list[Level]) -> SessionDescription:
    media = tuple(_describe(session, level) for level in levels)
    mids: set[str] = set()
    for section in media:
        if section.mid is not None and section.mid in mids:
            raise MalformedSdp(section.line, f"two m-lines with the mid {section.mid}")
        mids.update([section.mid] if section.mid is not None else [])
    options = session.ice_options.union(*(level.ice_options for level in levels))
    return SessionDescription(media, tuple(session.bundles), frozenset(session.flags), frozenset(options))


def _describe(session: Level, level: Level) -> MediaDescription:
    kind, port, protocol, formats = level.heading
    own = level.single
    setup = own.get("setup", session.single.get("setup"))
    return MediaDescription(
        line=level.line,
        kind=kind,
        port=port,
        protocol=protocol,
        formats=formats,
        mid=own.get("mid"),
        direction=Direction(own.get("direction", session.single.get("direction", "sendrecv"))),
        codecs=tuple(_codecs(level)),
        extensions=tuple(level.extensions or session.extensions),
        ice=credentials_of(level) or credentials_of(session),
        fingerprints=tuple(level.fingerprints or session.fingerprints),
        setup=Setup(setup) if setup is not None else None,
        ssrcs=tuple(level.ssrcs),
        layers=tuple(rid for rid in level.layers if level.rids.get(rid) == "send"),
        flags=frozenset(level.flags),
        sctp_port=int(own["sctp-port"]) if "sctp-port" in own else None,
        max_message_size=int(own["max-message-size"]) if "max-message-size" in own else None,
    )


def _codecs(level: Level) -> Iterator[PayloadFormat]:
    # In the order of the m-line: it is the order of preference. Formats without rtpmap are static ones, none of ours.
    for text in level.heading[3]:
        number = int(text) if text.isascii() and text.isdigit() else -1
        if number in level.rtpmaps:
            feedback = frozenset(name for target, name in level.feedback if target in (text, "*"))
            yield PayloadFormat(number, *level.rtpmaps[number], level.parameters.get(number, {}), feedback)

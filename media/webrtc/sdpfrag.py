"""Reads and writes the SDP fragments of WHIP and WHEP PATCH requests (RFC 8840 section 9, RFC 9725 section 4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from media.webrtc.answer import candidate_lines, ice_lines
from media.webrtc.attributes import Level, WrongLine, read_attribute, read_heading
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.sdp import MalformedSdp, credentials_of, numbered_lines_untrusted

MAX_FRAGMENT_MEDIA = 16  # as in whole descriptions


@dataclass(frozen=True, slots=True)
class SdpFragment:
    """What a PATCH body says; candidates are counted only, an ICE-lite agent learns addresses from checks.

    `ice` is None when the fragment names no credentials. `media` holds the kind and protocol of each m-line with its
    mid, for the answering fragment.
    """

    ice: IceCredentials | None
    candidates: int
    media: tuple[tuple[str, str, str], ...]


def parse_sdpfrag_untrusted(text: str) -> SdpFragment:
    """Parse a trickle-ice-sdpfrag body; raises MalformedSdp."""
    levels = [Level()]
    for line, kind, value in numbered_lines_untrusted(text):
        try:
            if kind == "m":
                levels.append(Level(line=line, heading=read_heading(value)))
            levels[-1].reading = line
            if kind == "a":
                read_attribute(levels[-1], value)
        except WrongLine as refusal:
            raise MalformedSdp(line, str(refusal)) from None
        if len(levels) > MAX_FRAGMENT_MEDIA + 1:
            raise MalformedSdp(line, f"more than {MAX_FRAGMENT_MEDIA} m-lines")
    # In a bundle all m-lines share the first one's transport, so the first credentials are the ones.
    ice = next((found for found in map(credentials_of, levels) if found is not None), None)
    media = tuple(
        (level.heading[0], level.heading[2], level.single["mid"]) for level in levels[1:] if "mid" in level.single
    )
    return SdpFragment(ice, sum(level.candidates for level in levels), media)


def answer_fragment(
    local: IceCredentials,
    candidates: Sequence[Address],
    answering: SdpFragment | None = None,
    *,
    tcp_candidates: Sequence[Address] = (),
) -> str:
    """Write the answer to an ICE restart: our new credentials and all candidates.

    The m-line and mid of the fragment that it answers are repeated, as clients match by them.
    """
    lines = ["a=ice-lite", "a=ice-options:trickle"]
    if answering is not None and answering.media:
        kind, protocol, mid = answering.media[0]
        lines += [f"a=group:BUNDLE {' '.join(mid for _, _, mid in answering.media)}"]
        lines += [f"m={kind} 9 {protocol} 0", f"a=mid:{mid}"]
    lines += [*ice_lines(local), *candidate_lines(candidates, tcp_candidates)]
    return "\r\n".join(lines) + "\r\n"

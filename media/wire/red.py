"""Redundant sound (RFC 2198): finds the newest block of a payload, which is all that a plain receiver needs."""

from __future__ import annotations

from media.wire.malformed import MalformedPacket

MAX_BLOCKS = 8  # older ones beside the newest: Chromium sends one, or two


def find_primary_untrusted(payload: bytes) -> int:
    """Return where the newest block begins: behind the heads of all, and the older ones; raises MalformedPacket."""
    at, older = 0, 0
    for _ in range(MAX_BLOCKS + 1):
        if at >= len(payload):
            break
        if not payload[at] & 0x80:
            if at + 1 + older > len(payload):
                break
            return at + 1 + older
        if at + 4 > len(payload):
            break
        older += (payload[at + 2] & 3) << 8 | payload[at + 3]
        at += 4
    raise MalformedPacket("redundant sound whose blocks do not fit")

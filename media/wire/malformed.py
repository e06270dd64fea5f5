"""The one error of all parsers of packets."""

from __future__ import annotations


class MalformedPacket(ValueError):
    """The bytes are no packet of the kind asked for; counted and dropped, it never leaves `media`."""

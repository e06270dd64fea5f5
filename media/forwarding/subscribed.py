"""What the kernel must know of an m-line through which a viewer gets a track."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from media.wire.extensions import Passed


class SubscribedTrack(Protocol):
    """What the kernel must know of one negotiated outgoing m-line."""

    @property
    def payload_type(self) -> int:
        """Of its packets."""

    @property
    def rtx_payload_type(self) -> int | None:
        """Of those sent again (RFC 4588), if it takes that."""

    @property
    def ssrc(self) -> int:
        """Of its packets."""

    @property
    def rtx_ssrc(self) -> int | None:
        """Of those sent again."""

    @property
    def stamp(self) -> int:
        """First octet of its header extension (see stamps.py), 0 for none."""

    @property
    def red_payload_type(self) -> int | None:
        """Of redundant sound (RFC 2198), if it takes that."""

    @property
    def passed(self) -> Mapping[Passed, int]:
        """Its ids of the publisher's header extensions."""

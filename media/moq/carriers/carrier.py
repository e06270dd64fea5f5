"""What a session needs of the connection that carries it: QUIC's streams and datagrams, whatever they travel in."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from media.moq.protocol.frames import FrameWriter
from media.moq.relaying.origin import Group

UNIDIRECTIONAL = 0x2  # the bit of a stream's id (RFC 9000 section 2.1)


class Code(IntEnum):
    """Why a stream or a session ended; peers show the number, and act on none of them."""

    CANCELLED = 0
    INTERNAL = 1
    MALFORMED = 3
    TOO_MUCH = 4
    EXPIRED = 5  # the group is older than the subscriber wants it
    NOT_FOUND = 404
    FORBIDDEN = 403
    CUT = 410  # what gave the right to it ended


class Carried(Protocol):
    """A group on its way by itself. What has the highest `rank` leaves first; `Carrier.rank` changes it."""

    @property
    def has_more(self) -> bool:
        """Whether there is something that was not sent yet."""

    @property
    def sent(self) -> int:
        """How many bytes of its stream were sent."""

    @property
    def is_end_sent(self) -> bool:
        """Whether all of it was sent, with the stream's end."""


class Carrier(Protocol):
    """One connection's streams. No method waits, none raises for what a peer did.

    Bytes are written late: `room` says how many would leave soon, so that what is not sent yet stays with its sender,
    who can still order it, drop it or be told to stop.
    """

    @property
    def max_datagram_bytes(self) -> int:
        """The longest datagram that fits; 0 when the peer takes none."""

    @property
    def estimate(self) -> tuple[int, int]:
        """What the path is believed to carry, in bit/s, and its round trip in ms."""

    def open(self, *, unidirectional: bool) -> int | None:
        """Open a stream and return its id; None when the peer grants no more of them now."""

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> bool:
        """Write to a stream; False when the peer wants no more of it."""

    def carry(self, stream: int, group: Group, writer: FrameWriter, rank: tuple[int, ...]) -> Carried | None:
        """Have a group leave on a stream as there is room, at each flush; None where it has to be written instead."""

    def rank(self, carried: Carried, rank: tuple[int, ...]) -> None:
        """Have a group leave before those of lower ranks."""

    def reset(self, stream: int, code: int) -> None:
        """End our half of a stream at once: what has not left yet never will."""

    def recall(self) -> None:
        """Keep what was reset from leaving where the reset alone can't, though the connection ends with it."""

    def stop(self, stream: int, code: int) -> None:
        """Ask the peer to end its half of a stream."""

    def send_datagram(self, data: bytes) -> bool:
        """Send a datagram; False when there is no room for it now."""

    def drop_datagrams(self) -> None:
        """Lose the datagrams that have not left yet."""

    def close(self, code: int, reason: str) -> None:
        """End the session."""

    def room(self) -> int:
        """How many bytes the connection would send soon, beyond those it has."""

    def stream_room(self, stream: int) -> int:
        """How many bytes the peer would take on a stream, beyond those it has."""

    def is_done(self, stream: int) -> bool:
        """Whether nothing of a stream will ever be sent again: it is acknowledged, or was never there."""

    def wake(self) -> None:
        """Have the session asked soon for what it wants to send."""


class Writing:
    """What a carrier does that carries no groups by themselves: they are written, piece by piece."""

    def carry(self, stream: int, group: Group, writer: FrameWriter, rank: tuple[int, ...]) -> Carried | None:
        """Leave it to be written."""
        return None

    def rank(self, carried: Carried, rank: tuple[int, ...]) -> None:
        """Do nothing: there are none."""

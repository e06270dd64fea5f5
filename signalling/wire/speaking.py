"""What those in a room where several publish are told of who is heard."""

from __future__ import annotations

from signalling.identifiers import AccountId, StreamId
from signalling.wire.events import WireEvent


class SpeakingTold(WireEvent, frozen=True, kw_only=True, tag="room.speaking"):
    """Who speaks (None: nobody yet), and how loud each is: dB below the loudest that there can be, 127 is silence.

    At most a few times a second, when it changes; of those that wait only the newest is sent.
    """

    stream: StreamId
    speaker: AccountId | None
    levels: dict[AccountId, int]

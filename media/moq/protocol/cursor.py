"""How far one stream has come through one group, and the next piece of it."""

from __future__ import annotations

from dataclasses import dataclass

from media.moq.carriers.carrier import Carried, Carrier
from media.moq.protocol.frames import FrameWriter
from media.moq.relaying.origin import Group

PIECE_BYTES = 16_384  # of a frame written at once: what is beyond can still be dropped or overtaken


@dataclass(slots=True, eq=False)
class GroupCursor:
    """A group being written to a stream; `stream` is None until the peer has granted one.

    Where its carrier takes the whole group (`carried`), nothing is written: `offset` is what was sent of it.
    """

    group: Group
    stream: int | None = None
    writer: FrameWriter | None = None
    frame: int = 0
    offset: int = 0  # within the frame's payload
    is_refused: bool = False  # by the peer
    carried: Carried | None = None

    @property
    def is_carried(self) -> bool:
        """Whether its carrier takes the whole group."""
        return self.carried is not None

    @property
    def has_more(self) -> bool:
        """Whether there is a frame to write, or an end."""
        if self.carried is not None:
            return self.carried.has_more
        return self.frame < len(self.group.frames) or self.group.is_finished

    @property
    def is_written(self) -> bool:
        """Whether everything was written, the end included or about to be."""
        return self.group.is_finished and self.frame == len(self.group.frames)

    def write_piece(self, carrier: Carrier) -> int:
        """Write the next piece; returns its bytes and one, or 0 when the peer takes none now."""
        assert self.stream is not None
        room = carrier.stream_room(self.stream)
        if room <= 0:
            return 0  # the peer's flow control holds it up: more would only pile up
        piece = self._take(min(room, PIECE_BYTES)) if self.frame < len(self.group.frames) else b""
        if not carrier.write(self.stream, piece, is_last=self.is_written):
            self.is_refused = True
        return len(piece) + 1  # a FIN alone takes room as well

    def _take(self, limit: int) -> bytes:
        assert self.writer is not None
        frame = self.group.frames[self.frame]
        header = self.writer.header(frame) if self.offset == 0 else b""
        end = self.offset + limit
        piece = header + frame.payload[self.offset : end]
        if end >= len(frame.payload):
            self.frame, self.offset = self.frame + 1, 0
        else:
            self.offset = end
        return piece

"""Groups as streams carry them: written once for all of a version, and sent by the kernel of packets from there."""

from __future__ import annotations

import numpy as np
from aioquic.quic.stream import QuicStream

from media.moq.kernel import columns as c
from media.moq.protocol.frames import FrameWriter
from media.moq.quic.table import ConnectionTable, Row
from media.moq.relaying.origin import Group

FIRST_BYTES = 8_192  # of the memory of a group: half a second of sound


class EncodedGroup:
    """The bytes of a group on every stream of one kind of version; `users` are the streams."""

    def __init__(self, table: ConnectionTable, group: Group, *, stamps: bool) -> None:
        self.key, self.users = (group, stamps), 0
        self.place = table.take_group()
        self._cells, self._at = table.group_cells, self.place * c.GROUP_INTS
        self._group, self._writer, self._frames = group, FrameWriter(stamps=stamps), 0
        self._size = 0
        self._is_whole = False
        self._memory = np.empty(FIRST_BYTES, np.uint8)
        self._show()

    def update(self) -> None:
        """Take in what the group has now."""
        group = self._group
        if self._frames == len(group.frames) and self._is_whole == group.is_finished:
            return
        for frame in group.frames[self._frames :]:
            self._append(self._writer.header(frame))
            self._append(frame.payload)
        self._frames, self._is_whole = len(group.frames), group.is_finished
        self._show()

    def _append(self, data: bytes) -> None:
        end = self._size + len(data)
        if end > len(self._memory):
            longer = np.empty(max(end, 2 * len(self._memory)), np.uint8)
            longer[: self._size] = self._memory[: self._size]
            self._memory = longer
        self._memory[self._size : end] = np.frombuffer(data, np.uint8)
        self._size = end

    def _show(self) -> None:
        cells, at = self._cells, self._at
        cells[at + c.GROUP_AT] = self._memory.ctypes.data
        cells[at + c.GROUP_BYTES], cells[at + c.IS_GROUP_WHOLE] = self._size, self._is_whole


class Groups:
    """The groups that streams of a table carry."""

    def __init__(self, table: ConnectionTable) -> None:
        self.table = table
        self._encoded: dict[tuple[Group, bool], EncodedGroup] = {}

    def take(self, group: Group, *, stamps: bool) -> EncodedGroup:
        """Return a group for one stream more. Raises NoPlace."""
        encoded = self._encoded.get((group, stamps))
        if encoded is None:
            encoded = self._encoded[group, stamps] = EncodedGroup(self.table, group, stamps=stamps)
        encoded.users += 1
        encoded.update()
        return encoded

    def give(self, encoded: EncodedGroup) -> None:
        """Have a stream less carry a group."""
        encoded.users -= 1
        if not encoded.users:
            del self._encoded[encoded.key]
            self.table.free_group(encoded.place)


class GroupStream:
    """A stream of aioquic's that the kernel sends: what was written to it, then a group. Raises NoPlace."""

    def __init__(
        self, groups: Groups, row: Row, state: QuicStream, encoded: EncodedGroup, rank: tuple[int, ...]
    ) -> None:
        assert state.stream_id is not None
        self.rank, self.state, self.encoded = rank, state, encoded
        self.place = groups.table.take_stream()
        self._cells, self._at = groups.table.stream_cells, self.place * c.STREAM_INTS
        self._group_cells, self._group_at = groups.table.group_cells, encoded.place * c.GROUP_INTS
        prefix = bytes(state.sender._buffer)
        groups.table.streams[self.place] = 0
        groups.table.prefixes[self.place, : len(prefix)] = np.frombuffer(prefix, np.uint8)
        self._prefix_bytes = len(prefix)
        self._set(c.STREAM_ROW, row.number)
        self._set(c.STREAM_ID, state.stream_id)
        self._set(c.STREAM_BUFFER, encoded.place)
        self._set(c.STREAM_PREFIX, len(prefix))
        self._set(c.NEXT_STREAM, c.NONE)
        self.show()
        sender = state.sender
        sender._pending.shift()
        sender._buffer.clear()
        sender.buffer_is_empty = True

    @property
    def has_more(self) -> bool:
        """Whether there is something that was not sent yet."""
        self.encoded.update()
        size = self._prefix_bytes + self._group_cells[self._group_at + c.GROUP_BYTES]
        if self._cells[self._at + c.STREAM_SENT] < size:
            return True
        return bool(self._group_cells[self._group_at + c.IS_GROUP_WHOLE]) and not self.is_end_sent

    @property
    def sent(self) -> int:
        """How many bytes were sent."""
        return int(self._cells[self._at + c.STREAM_SENT])

    @property
    def is_end_sent(self) -> bool:
        """Whether all of it was sent, with the stream's end."""
        return bool(self._cells[self._at + c.IS_END_SENT])

    @property
    def is_waited_for(self) -> bool:
        """Whether something of it is in flight, or lost."""
        return bool(self._cells[self._at + c.STREAM_REFS])

    @property
    def is_closed(self) -> bool:
        """Whether nothing more of it leaves."""
        return bool(self._cells[self._at + c.IS_CLOSED])

    def show(self) -> None:
        """Put into the table what the peer takes of it."""
        self._set(c.STREAM_MAX, min(self.state.max_stream_data_remote, _FAR))

    def close(self) -> None:
        """Have nothing more of it leave, and let aioquic know how far it came."""
        self._set(c.IS_CLOSED, True)
        self.state.sender.highest_offset = self.sent

    def _set(self, column: int, value: int) -> None:
        self._cells[self._at + column] = value


_FAR = 1 << 62

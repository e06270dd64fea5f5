"""QUIC's streams and datagrams over a reliable byte stream in records (draft-ietf-quic-qmux 00 to 02). Sans-IO.

One record is one WebSocket message. We are the server; records come in whole, and leave one frame each, which all
three drafts take. A stream's bytes become frames only when a record is asked for: what is reset before never leaves.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from media.moq.carrier import UNIDIRECTIONAL, Writing
from media.moq.qmux_frames import (
    HAS_FIN,
    HAS_LENGTH,
    HAS_OFFSET,
    KNOWN_PARAMETERS,
    Closed,
    DatagramArrived,
    FrameType,
    Parameter,
    QmuxEvent,
    StreamArrived,
    StreamReset,
    StreamStopped,
)
from media.moq.varint import MAX_VARINT, Cursor, prefixed, varint
from media.wire.malformed import MalformedPacket

DRAFTS = ("qmux-02", "qmux-01", "qmux-00")  # the first two alike here; the last has neither datagrams nor pings

IDLE_MS_GRANTED = 30_000
MAX_RECORD_BYTES = 65_536  # what we take; the drafts' default is 16,382
WINDOW = 16 << 20  # of the connection: four of the longest frames
STREAM_WINDOW = 4 << 20
STREAMS = 128  # of a kind at a time, as aioquic grants them
DATAGRAM_BYTES = 16_382
PAYLOAD_BYTES = 16_000  # of a STREAM frame: released peers refuse frames beyond 16,384 however they are negotiated
BUFFER_BYTES = 65_536  # written beyond what was taken: a quarter of a second at 2 Mbit/s
MAX_CONTROL = 1_024  # frames besides streams' that wait; a peer that pings without reading is cut off
REASON_BYTES = 1_024


@dataclass(slots=True)
class _Sending:
    """Our half of a stream."""

    limit: int
    offset: int = 0
    pending: bytearray = field(default_factory=bytearray)
    is_last: bool = False


@dataclass(slots=True)
class _Receiving:
    """The peer's half of a stream."""

    received: int = 0
    granted: int = STREAM_WINDOW


class QmuxCarrier(Writing):
    """The server's end of a connection; a `Carrier` of one session. `wake` is called when there may be a record.

    `recall` is called when records that were taken before must not leave any more.
    """

    def __init__(self, draft: str, wake: Callable[[], None], recall: Callable[[], None]) -> None:
        self.wake, self.recall, self.counts = wake, recall, Counter[str]()
        self._has_extras = draft != "qmux-00"
        self._control: deque[bytes] = deque()
        self._datagrams: deque[bytes] = deque()
        self._sending: dict[int, _Sending] = {}
        self._turns: deque[int] = deque()  # streams with something to send, in the order of their turns
        self._receiving: dict[int, _Receiving] = {}
        self._next_id = {True: 3, False: 1}  # by unidirectional
        self._granted = {True: 0, False: 0}  # by the peer
        self._opened = {True: 0, False: 0}  # by the peer
        self._allowed = {True: STREAMS, False: STREAMS}  # to the peer
        self._peer: dict[int, int] | None = None
        self._credit = self._used = 0
        self._received, self._received_limit = 0, WINDOW
        self._pings = 0
        self.is_closed = False
        self._send_parameters()

    @property
    def is_ready(self) -> bool:
        """Whether the peer has said what it grants: before, no stream can be opened."""
        return self._peer is not None

    # -- as a carrier --------------------------------------------------------------------------------------------------

    @property
    def max_datagram_bytes(self) -> int:
        """The longest datagram the peer takes."""
        granted = 0 if self._peer is None or not self._has_extras else self._peer.get(Parameter.DATAGRAM_SIZE, 0)
        return max(0, min(granted, DATAGRAM_BYTES) - 5)

    @property
    def estimate(self) -> tuple[int, int]:
        """Nothing is known of a path behind TCP: no limit that would hold anyone back."""
        return (100_000_000, 50)

    def open(self, *, unidirectional: bool) -> int | None:
        """Open a stream."""
        stream = self._next_id[unidirectional]
        if stream // 4 >= self._granted[unidirectional] or self._peer is None:
            return None
        self._next_id[unidirectional] += 4
        self._sending[stream] = _Sending(self._peer.get(Parameter.UNI if unidirectional else Parameter.BIDI_REMOTE, 0))
        if not unidirectional:
            self._receiving[stream] = _Receiving()
        return stream

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> bool:
        """Write; False to a stream that has ended or was stopped."""
        sending = self._sending.get(stream)
        if sending is None or sending.is_last:
            self.counts["writes_in_vain"] += 1
            return False
        if not sending.pending:
            self._turns.append(stream)
        sending.pending += data
        sending.is_last = is_last
        if not sending.pending and not is_last:
            self._turns.remove(stream)
        self.wake()
        return True

    def reset(self, stream: int, code: int) -> None:
        """Reset; what waits is lost."""
        sending = self._sending.pop(stream, None)
        if sending is not None:
            self._say(varint(FrameType.RESET_STREAM) + varint(stream) + varint(code) + varint(sending.offset))

    def stop(self, stream: int, code: int) -> None:
        """Ask the peer to stop."""
        if stream in self._receiving:
            self._say(varint(FrameType.STOP_SENDING) + varint(stream) + varint(code))

    def send_datagram(self, data: bytes) -> bool:
        """Queue a datagram."""
        if len(data) > self.max_datagram_bytes or len(data) > self.room():
            self.counts["datagrams_no_room"] += 1
            return False
        self._datagrams.append(varint(FrameType.DATAGRAM_WITH_LENGTH) + prefixed(data))
        self.wake()
        return True

    def drop_datagrams(self) -> None:
        """Lose the datagrams that wait."""
        self.counts["datagrams_unsent"] += len(self._datagrams)
        self._datagrams.clear()

    def close(self, code: int, reason: str) -> None:
        """Say why, and nothing more: whatever waits is lost."""
        if self.is_closed:
            return
        self.is_closed = True
        self._sending.clear()
        self._datagrams.clear()
        text = reason.encode()[:REASON_BYTES]
        self._say(varint(FrameType.APPLICATION_CLOSE) + varint(code) + prefixed(text))

    def room(self) -> int:
        """Return what fits into the buffer and the peer's window."""
        waiting = sum(len(sending.pending) for sending in self._sending.values()) + sum(map(len, self._datagrams))
        return min(BUFFER_BYTES, self._credit - self._used) - waiting

    def stream_room(self, stream: int) -> int:
        """Return what the peer's window of the stream takes."""
        sending = self._sending.get(stream)
        return 1 if sending is None else sending.limit - sending.offset - len(sending.pending)

    def is_done(self, stream: int) -> bool:
        """Whether everything has left: beyond that it is TCP's."""
        return stream not in self._sending

    # -- records out ---------------------------------------------------------------------------------------------------

    def next_record(self) -> bytes | None:
        """Return the next record to send, None when there is nothing to send now."""
        if self._control:
            return self._control.popleft()
        if self._datagrams:
            return self._datagrams.popleft()
        for _ in range(len(self._turns)):
            stream = self._turns.popleft()
            sending = self._sending.get(stream)
            if sending is None:
                continue
            size = min(len(sending.pending), sending.limit - sending.offset, self._credit - self._used, PAYLOAD_BYTES)
            if size <= 0 and sending.pending:
                self._turns.append(stream)  # until the peer grants more
                continue
            return self._stream_frame(stream, sending, size)
        return None

    def ping(self) -> None:
        """Show a sign of life, where the draft has one."""
        if self._has_extras:
            self._say(varint(FrameType.PING) + varint(self._pings))
            self._pings += 1

    def _stream_frame(self, stream: int, sending: _Sending, size: int) -> bytes:
        data = bytes(sending.pending[:size])
        del sending.pending[:size]
        is_last = sending.is_last and not sending.pending
        head = varint(FrameType.STREAM | HAS_OFFSET | HAS_LENGTH | is_last) + varint(stream) + varint(sending.offset)
        sending.offset += size
        self._used += size
        if is_last:
            del self._sending[stream]
        elif sending.pending:
            self._turns.append(stream)
        return head + prefixed(data)

    def _say(self, frame: bytes) -> None:
        if len(self._control) >= MAX_CONTROL:
            self.counts["control_overflow"] += 1
            self.is_closed = True
            return
        self._control.append(frame)
        self.wake()

    def _send_parameters(self) -> None:
        parameters = {
            Parameter.IDLE_MS: IDLE_MS_GRANTED,
            Parameter.DATA: WINDOW,
            Parameter.BIDI_LOCAL: STREAM_WINDOW,
            Parameter.BIDI_REMOTE: STREAM_WINDOW,
            Parameter.UNI: STREAM_WINDOW,
            Parameter.STREAMS_BIDI: STREAMS,
            Parameter.STREAMS_UNI: STREAMS,
        }
        if self._has_extras:
            parameters |= {Parameter.DATAGRAM_SIZE: DATAGRAM_BYTES, Parameter.RECORD_SIZE: MAX_RECORD_BYTES}
        body = b"".join(varint(id) + prefixed(varint(value)) for id, value in parameters.items())
        self._say(varint(FrameType.TRANSPORT_PARAMETERS) + prefixed(body))

    # -- records in ----------------------------------------------------------------------------------------------------

    def receive_untrusted(self, record: bytes) -> list[QmuxEvent]:
        """Take a record. A peer that breaks the rules is told so, and the connection is over."""
        if self.is_closed:
            return []
        cursor = Cursor(record)
        found: list[QmuxEvent] = []
        try:
            while not cursor.is_at_end and not self.is_closed:
                found.extend(self._frame_untrusted(cursor))
        except MalformedPacket as fault:
            self.counts["malformed"] += 1
            self.close(0, str(fault))
            found.append(Closed(0, str(fault)))
        return found

    def _frame_untrusted(self, cursor: Cursor) -> Iterator[QmuxEvent]:
        type = cursor.varint_untrusted()
        if self._peer is None and type != FrameType.TRANSPORT_PARAMETERS:
            raise MalformedPacket("transport parameters come first")
        if FrameType.STREAM <= type <= FrameType.STREAM_LAST:
            yield from self._stream_untrusted(type, cursor)
        elif type in (FrameType.DATAGRAM, FrameType.DATAGRAM_WITH_LENGTH):
            has_length = type == FrameType.DATAGRAM_WITH_LENGTH
            yield DatagramArrived(cursor.prefixed_untrusted() if has_length else cursor.rest())
        elif type == FrameType.RESET_STREAM:
            stream, code, _ = (cursor.varint_untrusted() for _ in range(3))
            if self._receiver_untrusted(stream) is not None:
                self._half_ended(stream)
                yield StreamReset(stream, code)
        elif type == FrameType.STOP_SENDING:
            stream, code = cursor.varint_untrusted(), cursor.varint_untrusted()
            if stream in self._sending:
                self.reset(stream, code)
                yield StreamStopped(stream, code)
        elif type in (FrameType.CONNECTION_CLOSE, FrameType.APPLICATION_CLOSE):
            code = cursor.varint_untrusted()
            if type == FrameType.CONNECTION_CLOSE:
                cursor.varint_untrusted()
            reason = cursor.prefixed_untrusted().decode(errors="replace")
            self.is_closed = True
            yield Closed(code, reason)
        else:
            self._control_untrusted(type, cursor)

    def _control_untrusted(self, type: int, cursor: Cursor) -> None:
        match type:
            case FrameType.TRANSPORT_PARAMETERS:
                self._parameters_untrusted(Cursor(cursor.prefixed_untrusted()))
            case FrameType.MAX_DATA:
                self._credit = max(self._credit, cursor.varint_untrusted())
            case FrameType.MAX_STREAM_DATA:
                stream, limit = cursor.varint_untrusted(), cursor.varint_untrusted()
                if stream in self._sending:
                    self._sending[stream].limit = max(self._sending[stream].limit, limit)
            case FrameType.MAX_STREAMS_BIDI | FrameType.MAX_STREAMS_UNI:
                is_uni = type == FrameType.MAX_STREAMS_UNI
                self._granted[is_uni] = max(self._granted[is_uni], cursor.varint_untrusted())
            case (
                FrameType.DATA_BLOCKED | FrameType.STREAMS_BLOCKED_BIDI | FrameType.STREAMS_BLOCKED_UNI | FrameType.PONG
            ):
                cursor.varint_untrusted()
            case FrameType.STREAM_DATA_BLOCKED:
                cursor.varint_untrusted(), cursor.varint_untrusted()
            case FrameType.PING:
                self._say(varint(FrameType.PONG) + varint(cursor.varint_untrusted()))
            case FrameType.PADDING:
                pass
            case _:
                raise MalformedPacket("an unknown frame")
        self.wake()

    def _parameters_untrusted(self, cursor: Cursor) -> None:
        if self._peer is not None:
            raise MalformedPacket("transport parameters come once")
        peer: dict[int, int] = {}
        while not cursor.is_at_end:
            id, value = cursor.varint_untrusted(), cursor.prefixed_untrusted()
            if id in KNOWN_PARAMETERS:
                if id in peer:
                    raise MalformedPacket("a transport parameter twice")
                peer[id] = Cursor(value).varint_untrusted()
        self._peer = peer
        self._credit = peer.get(Parameter.DATA, 0)
        self._granted = {True: peer.get(Parameter.STREAMS_UNI, 0), False: peer.get(Parameter.STREAMS_BIDI, 0)}

    def _stream_untrusted(self, type: int, cursor: Cursor) -> Iterator[QmuxEvent]:
        stream = cursor.varint_untrusted()
        offset = cursor.varint_untrusted() if type & HAS_OFFSET else None
        data = cursor.prefixed_untrusted() if type & HAS_LENGTH else cursor.rest()
        receiving = self._receiver_untrusted(stream)
        if receiving is None:
            return
        if offset is not None and offset != receiving.received:
            raise MalformedPacket("a stream out of order")
        receiving.received += len(data)
        self._received += len(data)
        if receiving.received > receiving.granted or self._received > self._received_limit:
            raise MalformedPacket("more than was granted")
        is_last = bool(type & HAS_FIN)
        if is_last:
            self._half_ended(stream)
        elif receiving.granted - receiving.received < STREAM_WINDOW // 2:
            receiving.granted = receiving.received + STREAM_WINDOW
            self._say(varint(FrameType.MAX_STREAM_DATA) + varint(stream) + varint(receiving.granted))
        if self._received_limit - self._received < WINDOW // 2:
            self._received_limit = self._received + WINDOW
            self._say(varint(FrameType.MAX_DATA) + varint(self._received_limit))
        yield StreamArrived(stream, data, is_last)

    def _receiver_untrusted(self, stream: int) -> _Receiving | None:
        """Return the peer's half of a stream, opened if it is new; None when that half has ended."""
        receiving = self._receiving.get(stream)
        if receiving is not None:
            return receiving
        is_uni, number = bool(stream & UNIDIRECTIONAL), stream // 4
        if stream & 1:
            if is_uni or stream >= self._next_id[False]:
                raise MalformedPacket("a stream that is ours")
            return None
        if number >= self._allowed[is_uni]:
            raise MalformedPacket("more streams than were granted")
        if number < self._opened[is_uni]:
            return None
        # Lower ones of its kind are open as well (RFC 9000 section 3.2).
        for opened in range(self._opened[is_uni], number + 1):
            self._receiving[opened * 4 + is_uni * UNIDIRECTIONAL] = _Receiving()
            if not is_uni:
                assert self._peer is not None
                self._sending[opened * 4] = _Sending(self._peer.get(Parameter.BIDI_LOCAL, 0))
        self._opened[is_uni] = number + 1
        return self._receiving[stream]

    def _half_ended(self, stream: int) -> None:
        del self._receiving[stream]
        if stream & 1:
            return
        is_uni = bool(stream & UNIDIRECTIONAL)
        self._allowed[is_uni] = min(self._allowed[is_uni] + 1, MAX_VARINT)
        type = FrameType.MAX_STREAMS_UNI if is_uni else FrameType.MAX_STREAMS_BIDI
        self._say(varint(type) + varint(self._allowed[is_uni]))

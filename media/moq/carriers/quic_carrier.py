"""QUIC connections as carriers of sessions: their streams as they are, or WebTransport's within HTTP/3.

Sans-IO like aioquic itself, which is used below its public surface where it has no other way to say how much is
unsent, how many streams the peer grants, or that a stream it opened is WebTransport's. Those places are marked; the
version is pinned for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from aioquic.h3.connection import FrameType, H3Connection, ProtocolError, StreamType
from aioquic.quic.stream import QuicStream

from media.moq.carriers.carrier import Carried
from media.moq.kernel.columns import PREFIX_BYTES
from media.moq.protocol.frames import FrameWriter
from media.moq.protocol.varint import varint
from media.moq.quic.group_streams import Groups, GroupStream
from media.moq.quic.table import NoPlace
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.origin import Group

# The longest packet has a header of 1 byte, the peer's connection id and a packet number of 2, a frame header of 3 and
# a tag of 16; a longer datagram would stay at the head of aioquic's queue for ever.
DATAGRAM_OVERHEAD = 22
MAX_ESTIMATE_BPS = 10_000_000_000
MIN_RTT_S = 0.0001

# WebTransport's codes within HTTP/3's (draft-ietf-webtrans-http3 section 4.3).
FIRST_CODE = 0x52E4A40FA8DB
LAST_CODE = 0x52E5AC983162
CLOSE_CAPSULE = 0x2843
DRAIN_CAPSULE = 0x78AE
MAX_REASON_BYTES = 1_024  # of a close capsule
# Safari needs one of these two, Chromium and Firefox the draft-02 setting that aioquic sends already. One session a
# connection: more would oblige both sides to flow control between sessions.
MAX_SESSIONS_DRAFT_13 = 0x14E9CD29
ENABLED_DRAFT_15 = 0x2C7CF000


def to_http_code(code: int) -> int:
    """Return WebTransport's 32-bit code as HTTP/3 carries it, leaving out its reserved ones."""
    return FIRST_CODE + code + code // 0x1E


def from_http_code(code: int) -> int:
    """Undo `to_http_code`; codes that are none of WebTransport's become 0."""
    if not FIRST_CODE <= code <= LAST_CODE:
        return 0
    shifted = code - FIRST_CODE
    return shifted - shifted // 0x1F


class QuicCarrier:
    """A connection's own streams; also what its WebTransport sessions are made of.

    Streams that carry groups are the kernel's: aioquic, which looks at every stream for each packet it writes, does not
    have them in its queue before something else than data has to be said of them.
    """

    def __init__(self, quic: TabledConnection, groups: Groups, wake: Callable[[], None]) -> None:
        self.counts = Counter[str]()
        self.has_words = True  # whether aioquic may have something to say, besides what its timers tell
        self._quic, self._groups, self.wake = quic, groups, wake
        self._unsent: dict[int, None] = {}  # streams of aioquic's that may have bytes to send, as they were written to
        self._fresh: set[int] = set()  # streams opened for what may yet be carried
        self._carried: dict[int, GroupStream] = {}  # by stream
        self._places: dict[int, GroupStream] = {}  # those, and what is closed and still waited for, by place

    @property
    def max_datagram_bytes(self) -> int:
        """The longest datagram that fits a packet and that the peer takes."""
        remote = self._quic._remote_max_datagram_frame_size
        if not remote:
            return 0
        overhead = DATAGRAM_OVERHEAD + len(self._quic._peer_cid.cid)
        return max(0, min(self._quic._max_datagram_size - overhead, remote - 3) - len(self._datagram_prefix()))

    @property
    def estimate(self) -> tuple[int, int]:
        """The congestion window per round trip."""
        rtt_s = max(self._quic._loss._rtt_smoothed, MIN_RTT_S)
        bitrate_bps = int(self._quic._loss.congestion_window * 8 / rtt_s)
        return min(bitrate_bps, MAX_ESTIMATE_BPS), max(1, int(rtt_s * 1000))

    def open(self, *, unidirectional: bool) -> int | None:
        """Open a stream.

        Never one beyond the peer's limit: aioquic would put its reset on the wire, at which the peer ends everything.
        """
        quic = self._quic
        granted = quic._remote_max_streams_uni if unidirectional else quic._remote_max_streams_bidi
        stream = quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        if stream // 4 >= granted:
            return None
        if unidirectional:
            self._fresh.add(stream)
        self._send(stream, self._stream_prefix(stream, unidirectional))
        return stream

    def carry(self, stream: int, group: Group, writer: FrameWriter, rank: tuple[int, ...]) -> Carried | None:
        """Have the kernel send a group on a stream just opened, behind what was written to it."""
        state = self._quic._streams.get(stream)
        if stream not in self._fresh or state is None or len(state.sender._buffer) > PREFIX_BYTES:
            return None
        encoded = None
        try:
            encoded = self._groups.take(group, stamps=writer.stamps)
            carried = GroupStream(self._groups, self._quic.row, state, encoded, rank)
        except NoPlace:
            self.counts["groups_no_place"] += 1
            if encoded is not None:
                self._groups.give(encoded)
            return None
        self._fresh.remove(stream)
        self._unsent.pop(stream, None)
        self._quic._streams_queue.remove(state)
        self._carried[stream] = self._places[carried.place] = carried
        self._order()
        return carried

    def rank(self, carried: Carried, rank: tuple[int, ...]) -> None:
        """Have a group leave before those of lower ranks."""
        assert isinstance(carried, GroupStream)
        carried.rank = rank
        self._order()

    def show(self) -> None:
        """Put into the table what aioquic heard: how much the peer takes of each stream."""
        for carried in self._carried.values():
            carried.show()

    def stream_over(self, place: int) -> None:
        """Let go of a stream of which nothing is waited for."""
        carried = self._places.get(place)
        if carried is None:
            return
        stream = carried.state.stream_id
        if not carried.is_closed and stream is not None:
            del self._carried[stream]
            self._quic._streams.pop(stream, None)
            self._order()
            self.wake()  # its subscription may have waited for that
        self._release(carried)

    def end(self) -> None:
        """Let go of all streams: the connection is over."""
        self._carried.clear()
        self._order()
        self._quic.row.forget_flight()
        for carried in tuple(self._places.values()):
            self._release(carried)

    def has_spoken(self) -> None:
        """Take note that aioquic was asked for what it has to say."""
        self.has_words = False
        self._fresh.clear()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits that was written to streams of aioquic's."""
        self._forget_sent()
        return bool(self._unsent)

    @property
    def must_speak(self) -> bool:
        """Whether aioquic may have something to say."""
        return self.has_words or bool(self._fresh)

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> bool:
        """Write; False after the peer's STOP_SENDING, and to a stream that has ended."""
        return self._send(stream, data, is_last)

    def reset(self, stream: int, code: int) -> None:
        """Reset; what is unsent or lost never leaves any more."""
        self.give_back(stream)
        try:
            self._quic.reset_stream(stream, self._code(code))
        except ValueError:
            self.counts["resets_in_vain"] += 1  # the peer reset a stream that we never sent on
        self._unsent.pop(stream, None)
        self._speak()

    def give_back(self, stream: int) -> None:
        """Let aioquic say what is to be said of a stream besides data: it was reset, or the peer stopped it."""
        carried = self._carried.pop(stream, None)
        if carried is None:
            return
        carried.close()
        self._order()
        self._quic._streams_queue.append(carried.state)
        self.has_words = True
        if not carried.is_waited_for:
            self._release(carried)

    def recall(self) -> None:
        """Do nothing: QUIC drops what is reset."""

    def stop(self, stream: int, code: int) -> None:
        """Ask the peer to stop."""
        try:
            self._quic.stop_stream(stream, self._code(code))
        except ValueError:
            self.counts["stops_in_vain"] += 1  # it has ended already
        self._speak()

    def send_datagram(self, data: bytes) -> bool:
        """Queue a datagram for the next flush, after which it is gone."""
        if len(data) > self.max_datagram_bytes or len(data) > self.room():
            self.counts["datagrams_no_room"] += 1
            return False
        self._quic.send_datagram_frame(self._datagram_prefix() + data)
        self._speak()
        return True

    def drop_datagrams(self) -> None:
        """Lose what the last flush did not send: aioquic would keep it without limit."""
        pending = self._quic._datagrams_pending
        if pending:
            self.counts["datagrams_unsent"] += len(pending)
            pending.clear()

    def ping(self) -> None:
        """Have the peer acknowledge that it is there."""
        self._quic.send_ping(0)
        self._speak()

    def close(self, code: int, reason: str) -> None:
        """Close the connection with an application's code."""
        self._quic.close(error_code=code, reason_phrase=reason)
        self._speak()

    def room(self) -> int:
        """Return what congestion and the connection's flow control let out, less what waits already."""
        quic, unsent = self._quic, self._count_unsent()
        pending = sum(map(len, quic._datagrams_pending)) if quic._datagrams_pending else 0
        control = quic._loss._cc
        congestion = control.congestion_window - control.bytes_in_flight
        credit = quic._remote_max_data - quic._remote_max_data_used
        return min(congestion - pending, credit) - unsent

    def stream_room(self, stream: int) -> int:
        """Return what the peer's flow control of the stream lets out, less what waits already."""
        state = self._quic._streams.get(stream)
        if state is None:
            return 1  # it has ended: the write will say so
        return int(state.max_stream_data_remote - state.sender._buffer_stop)

    def is_done(self, stream: int) -> bool:
        """Whether the stream is acknowledged whole, or reset."""
        state = self._quic._streams.get(stream)
        return state is None or state.sender.is_finished

    def _count_unsent(self) -> int:
        self._forget_sent()
        if not self._unsent:
            return 0
        senders = [self._quic._streams[stream].sender for stream in self._unsent]
        return sum(sender._buffer_stop - sender.highest_offset for sender in senders)

    def _forget_sent(self) -> None:
        for stream in tuple(self._unsent):
            state = self._quic._streams.get(stream)
            if state is None or not _has_data(state):
                del self._unsent[stream]

    def _order(self) -> None:
        """Have the kernel send what is most urgent first."""
        ranked = sorted(self._carried.values(), key=_rank_of, reverse=True)
        self._quic.row.order([carried.place for carried in ranked])

    def _release(self, carried: GroupStream) -> None:
        del self._places[carried.place]
        self._groups.table.free_stream(carried.place)
        self._groups.give(carried.encoded)

    def _send(self, stream: int, data: bytes, is_last: bool = False) -> bool:
        try:
            self._quic.send_stream_data(stream, data, end_stream=is_last)
        except (RuntimeError, ValueError, AssertionError):
            # After STOP_SENDING, a reset or an end, all of which the peer may cause at any moment.
            self.counts["writes_in_vain"] += 1
            return False
        if data or is_last:
            self._unsent[stream] = None
        if stream not in self._fresh:
            self.has_words = True
        self.wake()
        return True

    def _speak(self) -> None:
        """Have aioquic say what it now has to."""
        self.has_words = True
        self.wake()

    def _code(self, code: int) -> int:
        return code

    def _stream_prefix(self, stream: int, unidirectional: bool) -> bytes:
        return b""

    def _datagram_prefix(self) -> bytes:
        return b""


class WebTransportCarrier(QuicCarrier):
    """One WebTransport session's share of an HTTP/3 connection; `session` is the id of its CONNECT stream."""

    def __init__(
        self, quic: TabledConnection, groups: Groups, http: Http3, session: int, wake: Callable[[], None]
    ) -> None:
        super().__init__(quic, groups, wake)
        self._http, self._session = http, session

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> bool:
        """Write, and let HTTP/3 forget the stream once both halves have ended."""
        written = super().write(stream, data, is_last=is_last)
        if is_last:
            self._http.sending_ended(stream)
        return written

    def reset(self, stream: int, code: int) -> None:
        """Reset, and let HTTP/3 forget the stream once both halves have ended."""
        super().reset(stream, code)
        self._http.sending_ended(stream)

    def close(self, code: int, reason: str) -> None:
        """End the session with a capsule that carries code and reason."""
        text = reason.encode()[:MAX_REASON_BYTES]
        capsule = varint(CLOSE_CAPSULE) + varint(4 + len(text)) + code.to_bytes(4, "big") + text
        self._say(capsule, is_last=True)

    def drain(self) -> None:
        """Tell the client that the session will end soon."""
        self._say(varint(DRAIN_CAPSULE) + varint(0), is_last=False)

    def _say(self, capsule: bytes, *, is_last: bool) -> None:
        try:
            self._http.send_data(self._session, capsule, end_stream=is_last)
        except (RuntimeError, ValueError, ProtocolError):
            self.counts["writes_in_vain"] += 1  # the client has reset or stopped its session's stream
        self._speak()

    def _code(self, code: int) -> int:
        return to_http_code(code)

    def _stream_prefix(self, stream: int, unidirectional: bool) -> bytes:
        if not unidirectional:
            self._http.expect_reply(stream, self._session)
        return varint(StreamType.WEBTRANSPORT if unidirectional else FrameType.WEBTRANSPORT_STREAM) + varint(
            self._session
        )

    def _datagram_prefix(self) -> bytes:
        return varint(self._session // 4)


class Http3(H3Connection):
    """aioquic's HTTP/3 with what WebTransport needs besides."""

    def __init__(self, quic: TabledConnection) -> None:
        super().__init__(quic, enable_webtransport=True)

    def expect_reply(self, stream: int, session: int) -> None:
        """Take what arrives on a bidirectional stream of ours for WebTransport's, not for HTTP/3 frames."""
        with self._get_or_create_stream(stream) as state:
            state.frame_type, state.session_id = FrameType.WEBTRANSPORT_STREAM, session

    def sending_ended(self, stream: int) -> None:
        """Forget a stream once the peer's half has ended as well; aioquic does not see what we send on it."""
        state = self._stream.get(stream)
        if state is not None:
            state.sending_ended = True
            if state.is_ended():
                del self._stream[stream]

    def _get_local_settings(self) -> dict[int, int]:
        return {**super()._get_local_settings(), MAX_SESSIONS_DRAFT_13: 1, ENABLED_DRAFT_15: 1}


def _has_data(stream: QuicStream) -> bool:
    """Whether a stream of aioquic's has something to send."""
    sender = stream.sender
    return not (sender.buffer_is_empty or sender.reset_pending or stream.is_blocked or sender.is_finished)


def _rank_of(carried: GroupStream) -> tuple[int, ...]:
    return carried.rank

"""QUIC connections as carriers of sessions: their streams as they are, or WebTransport's within HTTP/3.

Sans-IO like aioquic itself, which is used below its public surface where it has no other way to say how much is
unsent, how many streams the peer grants, or that a stream it opened is WebTransport's. Those places are marked; the
version is pinned for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from aioquic.h3.connection import FrameType, H3Connection, ProtocolError, StreamType
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream

from media.io.udp import Destination
from media.moq.acknowledgements import take_acknowledgement_untrusted
from media.moq.carrier import Outgoing
from media.moq.keyring import Keyring
from media.moq.packets import Burst
from media.moq.stream_packets import has_data, has_room, may_send, send_chunks, write_stream_packets, write_whole
from media.moq.varint import varint

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

    Unidirectional streams that it opens are its own: aioquic, which looks at every stream for each packet it writes,
    does not have them in its queue before something else than data has to be said of them.
    """

    def __init__(self, quic: QuicConnection, wake: Callable[[], None]) -> None:
        self.counts = Counter[str]()
        self.has_words = True  # whether aioquic may have something to say, besides what its timers tell
        self._quic, self.wake = quic, wake
        self._keyring = Keyring()
        self._own: dict[int, QuicStream] = {}
        self._unsent: dict[int, None] = {}  # streams that may have bytes to send, as they were written to

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

    def bursts(self, now: float) -> list[Burst]:
        """Return packets of what was written, in the order it was; aioquic sends what these do not hold."""
        if not self._unsent:
            return []
        self._quic._pacing_at = None
        if not self._keyring.is_plain(self._quic):
            self._hand_over()
            return []
        bursts = write_stream_packets(self._quic, self._unsent, self._keyring, self._delivered, now)
        self._forget_sent()
        return bursts

    def may_send(self, size: int, now: float) -> bool:
        """Whether so many bytes of streams of its own may leave at once (s, monotonic)."""
        return not self._unsent and self._keyring.is_plain(self._quic) and may_send(self._quic, size, now)

    def takes(self, stream: int | None, size: int) -> bool:
        """Whether an own stream would have so many bytes leave at once."""
        state = None if stream is None else self._own.get(stream)
        return state is not None and has_room(state, size)

    def send(self, outgoing: list[Outgoing], now: float) -> Burst:
        """Send what `may_send` and `takes` were asked of."""
        chunks = [
            (self._own[stream], write_whole(self._own[stream], data, is_last)) for stream, data, is_last in outgoing
        ]
        self._unsent.clear()  # of what was opened for this
        return send_chunks(self._quic, self._keyring, chunks, self._delivered, now)

    def take_acknowledgement_untrusted(self, data: bytes, source: Destination, now: float) -> bool:
        """Take in a datagram that only acknowledges; False when it is for aioquic."""
        lost = take_acknowledgement_untrusted(self._quic, self._keyring, data, source, now)
        if lost:
            self.has_words = True  # what of it was not of our own streams
        return lost is not None

    @property
    def has_unsent(self) -> bool:
        """Whether something that was written may wait for room."""
        return bool(self._unsent)

    def open(self, *, unidirectional: bool) -> int | None:
        """Open a stream.

        Never one beyond the peer's limit: aioquic would put its reset on the wire, at which the peer ends everything.
        """
        quic = self._quic
        granted = quic._remote_max_streams_uni if unidirectional else quic._remote_max_streams_bidi
        stream = quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        if stream // 4 >= granted:
            return None
        had_words = self.has_words
        self._send(stream, self._stream_prefix(stream, unidirectional))
        if unidirectional and self._take(stream):
            self.has_words = had_words
        return stream

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> bool:
        """Write; False after the peer's STOP_SENDING, and to a stream that has ended."""
        return self._send(stream, data, is_last)

    def reset(self, stream: int, code: int) -> None:
        """Reset; what is unsent or lost never leaves any more."""
        try:
            self._quic.reset_stream(stream, self._code(code))
        except ValueError:
            self.counts["resets_in_vain"] += 1  # the peer reset a stream that we never sent on
        self.give_back(stream)
        self._unsent.pop(stream, None)
        self._speak()

    def give_back(self, stream: int) -> None:
        """Let aioquic say what is to be said of a stream besides data: it was reset, or the peer stopped it."""
        state = self._own.pop(stream, None)
        if state is not None:
            self._quic._streams_queue.append(state)
            self.has_words = True

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
            if state is None or not has_data(state):
                del self._unsent[stream]

    def _take(self, stream: int) -> bool:
        """Make a stream just opened our own; False when aioquic has something to say of it."""
        queue = self._quic._streams_queue
        state = self._quic._streams.get(stream)
        if state is None or not queue or queue[-1] is not state:
            return False
        queue.pop()
        self._own[stream] = state
        return True

    def _hand_over(self) -> None:
        """Leave what is unsent to aioquic."""
        for stream in tuple(self._unsent):
            self.give_back(stream)
        self.has_words = True

    def _delivered(self, delivery: QuicDeliveryState, state: QuicStream, start: int, stop: int, is_last: bool) -> None:
        """Hear what became of a stretch of a stream; what was lost is sent again before what is new."""
        assert state.stream_id is not None
        state.sender.on_data_delivery(delivery, start, stop, is_last)
        if delivery is QuicDeliveryState.LOST:
            if has_data(state):
                self._unsent = {state.stream_id: None, **self._unsent}
        elif state.sender.is_finished and self._own.pop(state.stream_id, None) is not None:
            del self._quic._streams[state.stream_id]

    def _send(self, stream: int, data: bytes, is_last: bool = False) -> bool:
        own = self._own.get(stream)
        try:
            if own is None:
                self._quic.send_stream_data(stream, data, end_stream=is_last)
            else:
                own.sender.write(data, end_stream=is_last)
        except (RuntimeError, ValueError, AssertionError):
            # After STOP_SENDING, a reset or an end, all of which the peer may cause at any moment.
            self.counts["writes_in_vain"] += 1
            return False
        if data or is_last:
            self._unsent[stream] = None
        if own is None:
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

    def __init__(self, quic: QuicConnection, http: Http3, session: int, wake: Callable[[], None]) -> None:
        super().__init__(quic, wake)
        self._http, self._session = http, session

    def write(self, stream: int, data: bytes, *, is_last: bool = False) -> bool:
        """Write, and let HTTP/3 forget the stream once both halves have ended."""
        written = super().write(stream, data, is_last=is_last)
        if is_last:
            self._http.sending_ended(stream)
        return written

    def send(self, outgoing: list[Outgoing], now: float) -> Burst:
        """Send, and let HTTP/3 forget streams once both halves have ended."""
        burst = super().send(outgoing, now)
        for stream, _, is_last in outgoing:
            if is_last:
                self._http.sending_ended(stream)
        return burst

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

    def __init__(self, quic: QuicConnection) -> None:
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

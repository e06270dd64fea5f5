"""What an SCTP association sends: messages cut into chunks, sent as fast as the way and the peer take them (RFC 9260).

Slow start, congestion avoidance, fast retransmission and the T3 timer are those of sections 6 and 7; the congestion
window has an upper end, since nothing here is large.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from media.webrtc.sctp_chunks import (
    BEGINS,
    ENDS,
    HEADER,
    MAX_PACKET,
    MAX_PAYLOAD,
    UNORDERED,
    Data,
    Sack,
    build_data,
    tsn_after,
)
from media.webrtc.sctp_inbound import Violation

MILLISECOND_NS = 1_000_000
FIRST_RTO_NS, LEAST_RTO_NS, LARGEST_RTO_NS = (ms * MILLISECOND_NS for ms in (1_000, 400, 10_000))
MAX_RETRANSMISSIONS = 10  # in a row without an answer; section 16
FIRST_WINDOW = 4 * MAX_PACKET  # section 7.2.1
LARGEST_WINDOW = 65_536  # bytes on their way: 10 Mbit/s at 50 ms
MAX_IN_FLIGHT = 256  # chunks on their way; each SACK looks at all
MISSED = 3  # reports that a chunk is missing before it is sent again; section 7.2.4
NEVER_NS = 2**63 - 1


@dataclass(slots=True)
class _Message:
    stream: int
    protocol: int
    data: bytes
    unordered: bool
    key: str | None


@dataclass(slots=True)
class _Sent:
    chunk: bytes
    size: int
    sent_ns: int
    times: int = 1
    missed: int = 0
    acknowledged: bool = False
    again: bool = False  # it counts as lost, and is to be sent once more


class Outbound:
    """The sending half. TSNs are counted without end in here; `buffered` are bytes that wait or are on their way."""

    def __init__(self, first_tsn: int, window: int) -> None:
        self.next_tsn = first_tsn
        self.buffered = 0
        self.retransmitted = 0
        self.failures = 0  # T3 expiries in a row
        self.rto_ns = FIRST_RTO_NS
        self._peer_window = window
        self._messages: deque[_Message] = deque()
        self._keyed: dict[tuple[int, str], _Message] = {}
        self._parts: deque[Data] = deque()  # of the message that is being sent
        self._flight: dict[int, _Sent] = {}  # by TSN, in order
        self._numbers: dict[int, int] = {}
        self._window, self._threshold, self._partial = FIRST_WINDOW, LARGEST_WINDOW, 0
        self._recovers_at = -1  # TSN with which fast recovery is over
        self._smoothed_ns = self._variation_ns = 0
        self._due_ns = NEVER_NS

    # -- messages in ---------------------------------------------------------------------------------------------------

    def send(self, stream: int, protocol: int, data: bytes, *, unordered: bool = False, key: str | None = None) -> None:
        """Queue a message; one that waits under the same `key` of the stream is replaced."""
        former = self._keyed.get((stream, key)) if key is not None else None
        if former is not None:
            self.buffered += len(data) - len(former.data)
            former.data = data
            return
        message = _Message(stream, protocol, data, unordered, key)
        self._messages.append(message)
        self.buffered += len(data)
        if key is not None:
            self._keyed[stream, key] = message

    def drop(self, stream: int) -> None:
        """Send no more messages of a stream than the one that has begun."""
        left = [message for message in self._messages if message.stream != stream]
        self.buffered -= sum(len(message.data) for message in self._messages if message.stream == stream)
        self._messages = deque(left)
        self._keyed = {key: message for key, message in self._keyed.items() if key[0] != stream}

    def has_begun_all(self, stream: int) -> bool:
        """Whether every message of a stream is on its way, so that the stream can be reset behind them."""
        waits = any(message.stream == stream for message in self._messages)
        return not waits and not any(part.stream == stream for part in self._parts)

    def reset(self, stream: int) -> None:
        """Let the numbers of a stream begin anew."""
        self._numbers.pop(stream, None)

    @property
    def is_empty(self) -> bool:
        """Whether everything has arrived."""
        return not self._messages and not self._parts and not self._flight

    # -- chunks out ----------------------------------------------------------------------------------------------------

    def next_chunk(self, room: int, now_ns: int) -> bytes | None:
        """Return the next chunk to send that takes at most `room` bytes, None when none may be sent now."""
        for sent in self._flight.values():
            if sent.again:
                return self._send_again(sent, now_ns) if sent.size <= room and self._fits(sent.size) else None
        part = self._next_part()
        if part is None:
            return None
        chunk = build_data(part)
        if len(chunk) > room or not self._fits(len(chunk)) or len(self._flight) >= MAX_IN_FLIGHT:
            return None
        self._parts.popleft()
        self.buffered += len(chunk) - len(part.payload)
        self._flight[self.next_tsn] = _Sent(chunk, len(chunk), now_ns)
        self.next_tsn += 1
        self._peer_window = max(0, self._peer_window - len(part.payload))
        self._start_timer(now_ns)
        return chunk

    def _next_part(self) -> Data | None:
        if not self._parts and self._messages:
            message = self._messages.popleft()
            if message.key is not None:
                del self._keyed[message.stream, message.key]
            self._parts.extend(self._cut(message))
        if not self._parts:
            return None
        return replace(self._parts[0], tsn=self.next_tsn)

    def _cut(self, message: _Message) -> Iterator[Data]:
        number = 0
        if not message.unordered:
            number = self._numbers.get(message.stream, 0)
            self._numbers[message.stream] = (number + 1) & 0xFFFF
        size = MAX_PAYLOAD // 4 * 4
        for start in range(0, len(message.data), size):
            flags = UNORDERED if message.unordered else 0
            flags |= BEGINS if start == 0 else 0
            flags |= ENDS if start + size >= len(message.data) else 0
            yield Data(flags, 0, message.stream, number, message.protocol, message.data[start : start + size])

    def _fits(self, size: int) -> bool:
        in_flight = self._in_flight()
        # One packet may always be on its way: it finds out whether a window that was shut has opened (section 6.1).
        return in_flight == 0 or (in_flight + size <= self._window and size <= self._peer_window)

    def _in_flight(self) -> int:
        return sum(sent.size for sent in self._flight.values() if not sent.acknowledged and not sent.again)

    def _send_again(self, sent: _Sent, now_ns: int) -> bytes:
        sent.again, sent.missed, sent.sent_ns = False, 0, now_ns
        sent.times += 1
        self.retransmitted += 1
        self._start_timer(now_ns)
        return sent.chunk

    # -- what the peer says --------------------------------------------------------------------------------------------

    def acknowledge(self, sack: Sack, now_ns: int) -> None:
        """Take a SACK; an old one changes nothing. Raises Violation for what was never sent."""
        first = next(iter(self._flight), self.next_tsn)
        cumulative = tsn_after(self.next_tsn, sack.cumulative)
        if cumulative >= self.next_tsn:
            raise Violation("what was never sent is acknowledged")
        if cumulative < first - 1:
            return
        was_full = self._in_flight() + MAX_PACKET > self._window
        acknowledged = self._leave(cumulative, now_ns)
        highest = self._mark(cumulative, sack.gaps)
        self._count_missed(highest)
        self._peer_window = max(0, sack.window - self._in_flight())
        if acknowledged:
            self.failures = 0
            self._grow(acknowledged, was_full)
            self._due_ns = NEVER_NS
        if self._flight:
            self._start_timer(now_ns)
        else:
            self._due_ns = NEVER_NS

    def _leave(self, cumulative: int, now_ns: int) -> int:
        """Let go of what has arrived; returns its bytes."""
        arrived = [tsn for tsn in self._flight if tsn <= cumulative]
        size = 0
        for tsn in arrived:
            sent = self._flight.pop(tsn)
            size += sent.size
            if sent.times == 1 and tsn == arrived[-1]:
                self._measure(now_ns - sent.sent_ns)  # not of what was sent twice: Karn's rule, section 6.3.1
        self.buffered -= size
        return size

    def _mark(self, cumulative: int, gaps: tuple[tuple[int, int], ...]) -> int:
        """Note what has arrived beyond a gap, and what no longer has; returns the highest that is new, or -1."""
        highest = -1
        covered: set[int] = set()
        for first, last in gaps:
            covered.update(range(cumulative + first, min(cumulative + last + 1, self.next_tsn)))
        for tsn, sent in self._flight.items():
            if tsn in covered and not sent.acknowledged:
                highest = tsn
                sent.again = False
            sent.acknowledged = tsn in covered
        return highest

    def _count_missed(self, highest: int) -> None:
        for tsn, sent in self._flight.items():
            if tsn >= highest:
                return
            if sent.acknowledged or sent.again:
                continue
            sent.missed += 1
            if sent.missed == MISSED and sent.times == 1:
                sent.again = True
                self._slow_down(tsn)

    def _slow_down(self, tsn: int) -> None:
        if tsn > self._recovers_at:
            self._recovers_at = self.next_tsn - 1
            self._threshold = max(self._window // 2, FIRST_WINDOW)
            self._window, self._partial = self._threshold, 0

    def _grow(self, acknowledged: int, was_full: bool) -> None:
        first = next(iter(self._flight), self.next_tsn)
        if not was_full or first <= self._recovers_at:
            return
        if self._window <= self._threshold:
            self._window += min(acknowledged, MAX_PACKET)
        else:
            self._partial += acknowledged
            if self._partial >= self._window:
                self._partial -= self._window
                self._window += MAX_PACKET
        self._window = min(self._window, LARGEST_WINDOW)

    def _measure(self, round_ns: int) -> None:
        if not self._smoothed_ns:
            self._smoothed_ns, self._variation_ns = round_ns, round_ns // 2
        else:
            self._variation_ns += (abs(self._smoothed_ns - round_ns) - self._variation_ns) // 4
            self._smoothed_ns += (round_ns - self._smoothed_ns) // 8
        self.rto_ns = min(max(self._smoothed_ns + 4 * self._variation_ns, LEAST_RTO_NS), LARGEST_RTO_NS)

    # -- time ----------------------------------------------------------------------------------------------------------

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        return self._due_ns

    def handle_timeout(self, now_ns: int) -> None:
        """Count all that is on its way as lost, if it is time (section 6.3.3)."""
        if now_ns < self._due_ns:
            return
        self.failures += 1
        self._threshold, self._window = max(self._window // 2, FIRST_WINDOW), MAX_PACKET
        self._partial, self._recovers_at = 0, -1
        self.rto_ns = min(2 * self.rto_ns, LARGEST_RTO_NS)
        for sent in self._flight.values():
            sent.again, sent.acknowledged = not sent.acknowledged, sent.acknowledged
        self._due_ns = NEVER_NS
        if self._flight:
            self._start_timer(now_ns)

    def _start_timer(self, now_ns: int) -> None:
        if self._due_ns == NEVER_NS:
            self._due_ns = now_ns + self.rto_ns


assert HEADER + len(build_data(Data(0, 0, 0, 0, 0, bytes(MAX_PAYLOAD // 4 * 4)))) <= MAX_PACKET

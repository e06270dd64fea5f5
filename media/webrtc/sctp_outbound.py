"""What an SCTP association sends: messages cut into chunks, sent as fast as the way and the peer take them (RFC 9260).

Slow start, congestion avoidance, fast retransmission and the T3 timer are those of sections 6 and 7; the congestion
window has an upper end, since nothing here is large. What is given up is skipped as RFC 3758 section 3.5 says.
"""

from __future__ import annotations

import itertools
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
    build_forward,
    tsn_after,
)
from media.webrtc.sctp_inbound import Violation
from media.webrtc.sctp_reliability import RELIABLE, Reliability

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
    reliability: Reliability
    number: int = 0  # of its stream
    since_ns: int = NEVER_NS  # when it was to be sent
    is_abandoned: bool = False

    def is_late(self, now_ns: int) -> bool:
        """Whether the time is over within which it may be sent."""
        lifetime_ms = self.reliability.lifetime_ms
        return lifetime_ms is not None and now_ns - self.since_ns > lifetime_ms * MILLISECOND_NS


@dataclass(slots=True)
class _Sent:
    message: _Message
    chunk: bytes
    size: int
    sent_ns: int
    times: int = 1
    missed: int = 0
    acknowledged: bool = False
    again: bool = False  # it counts as lost, and is to be sent once more

    @property
    def is_awaited(self) -> bool:
        """Whether it is on its way, as far as is known."""
        return not (self.acknowledged or self.again or self.message.is_abandoned)

    def is_given_up(self, now_ns: int) -> bool:
        """Whether it would have to be sent once more than it may."""
        most = self.message.reliability.retransmissions
        return self.again and ((most is not None and self.times > most) or self.message.is_late(now_ns))


class Outbound:
    """The sending half. TSNs are counted without end in here; `buffered` are bytes that wait or are on their way.

    Where the peer does not skip what we give up (`forwards`), all is sent reliably.
    """

    def __init__(self, first_tsn: int, window: int, *, forwards: bool = True) -> None:
        self.next_tsn = first_tsn
        self.buffered = 0
        self.retransmitted = 0
        self.abandoned = 0  # messages
        self.failures = 0  # T3 expiries in a row
        self.rto_ns = FIRST_RTO_NS
        self._peer_window = window
        self._messages: deque[_Message] = deque()
        self._keyed: dict[tuple[int, str], _Message] = {}
        self._forwards, self._owes_forward = forwards, False
        self._fresh: list[_Message] = []  # whose time has not begun
        self._current: _Message | None = None  # the one that is being sent ...
        self._parts: deque[Data] = deque()  # ... and what of it has not left yet
        self._flight: dict[int, _Sent] = {}  # by TSN, in order
        self._numbers: dict[int, int] = {}
        self._window, self._threshold, self._partial = FIRST_WINDOW, LARGEST_WINDOW, 0
        self._recovers_at = -1  # TSN with which fast recovery is over
        self._smoothed_ns = self._variation_ns = 0
        self._due_ns = NEVER_NS

    # -- messages in ---------------------------------------------------------------------------------------------------

    def send(
        self,
        stream: int,
        protocol: int,
        data: bytes,
        *,
        unordered: bool = False,
        reliability: Reliability = RELIABLE,
        key: str | None = None,
    ) -> None:
        """Queue a message; one that waits under the same `key` of the stream is replaced."""
        former = self._keyed.get((stream, key)) if key is not None else None
        if former is not None:
            self.buffered += len(data) - len(former.data)
            former.data = data
            self._fresh.append(former)
            return
        message = _Message(stream, protocol, data, unordered, key, reliability if self._forwards else RELIABLE)
        self._messages.append(message)
        self._fresh.append(message)
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
        self._give_up(now_ns)
        if self._owes_forward:
            return self._forward(room, now_ns)
        for sent in self._flight.values():
            if sent.again:
                return self._send_again(sent, now_ns) if sent.size <= room and self._fits(sent.size) else None
        part = self._next_part()
        if part is None or self._current is None:
            return None
        chunk = build_data(part)
        if len(chunk) > room or not self._fits(len(chunk)) or len(self._flight) >= MAX_IN_FLIGHT:
            return None
        self._parts.popleft()
        self.buffered += len(chunk) - len(part.payload)
        self._flight[self.next_tsn] = _Sent(self._current, chunk, len(chunk), now_ns)
        self.next_tsn += 1
        self._peer_window = max(0, self._peer_window - len(part.payload))
        self._start_timer(now_ns)
        return chunk

    def _next_part(self) -> Data | None:
        if not self._parts and self._messages:
            self._current = self._pop()
            self._parts.extend(self._cut(self._current))
        if not self._parts:
            return None
        return replace(self._parts[0], tsn=self.next_tsn)

    def _pop(self) -> _Message:
        message = self._messages.popleft()
        if message.key is not None:
            del self._keyed[message.stream, message.key]
        return message

    def _cut(self, message: _Message) -> Iterator[Data]:
        if not message.unordered:
            message.number = self._numbers.get(message.stream, 0)
            self._numbers[message.stream] = (message.number + 1) & 0xFFFF
        size = MAX_PAYLOAD // 4 * 4
        for start in range(0, len(message.data), size):
            flags = UNORDERED if message.unordered else 0
            flags |= BEGINS if start == 0 else 0
            flags |= ENDS if start + size >= len(message.data) else 0
            payload = message.data[start : start + size]
            yield Data(flags, 0, message.stream, message.number, message.protocol, payload)

    def _fits(self, size: int) -> bool:
        in_flight = self._in_flight()
        # One packet may always be on its way: it finds out whether a window that was shut has opened (section 6.1).
        return in_flight == 0 or (in_flight + size <= self._window and size <= self._peer_window)

    def _in_flight(self) -> int:
        return sum(sent.size for sent in self._flight.values() if sent.is_awaited)

    def _send_again(self, sent: _Sent, now_ns: int) -> bytes:
        sent.again, sent.missed, sent.sent_ns = False, 0, now_ns
        sent.times += 1
        self.retransmitted += 1
        self._start_timer(now_ns)
        return sent.chunk

    # -- what is given up ----------------------------------------------------------------------------------------------

    def _give_up(self, now_ns: int) -> None:
        """Abandon what was tried often or for long enough."""
        for message in self._fresh:
            message.since_ns = now_ns
        self._fresh.clear()
        for message in [sent.message for sent in self._flight.values() if sent.is_given_up(now_ns)]:
            self._abandon(message, now_ns)
        if self._parts and self._current is not None and self._current.is_late(now_ns):
            self._abandon(self._current, now_ns)
        while self._messages and self._messages[0].is_late(now_ns):
            self.buffered -= len(self._pop().data)
            self.abandoned += 1

    def _abandon(self, message: _Message, now_ns: int) -> None:
        """Send nothing more of a message; the peer is told to wait for it no longer."""
        if message.is_abandoned:
            return
        message.is_abandoned, self._owes_forward = True, True
        self.abandoned += 1
        for sent in self._flight.values():
            sent.again &= sent.message is not message
        if self._parts and message is self._current:
            # The peer may have all that has left, and then awaits the rest: its end has a number that is skipped.
            self.buffered -= sum(len(part.payload) for part in self._parts)
            self._parts.clear()
            self._flight[self.next_tsn] = _Sent(message, b"", 0, now_ns)
            self.next_tsn += 1

    def _forward(self, room: int, now_ns: int) -> bytes | None:
        """Say up to where nothing is sent any more, and which messages of which streams that leaves out."""
        skipped: dict[int, int] = {}
        up_to = -1
        for tsn, sent in self._flight.items():
            if not sent.message.is_abandoned:
                break
            up_to = tsn
            if not sent.message.unordered:
                skipped[sent.message.stream] = sent.message.number
        chunk = build_forward(up_to, skipped.items())
        if up_to >= 0 and len(chunk) > room:
            return None
        self._owes_forward = False
        self._start_timer(now_ns)
        return chunk if up_to >= 0 else self.next_chunk(room, now_ns)

    @property
    def _is_skipping(self) -> bool:
        return any(sent.message.is_abandoned for sent in itertools.islice(self._flight.values(), 1))

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
        awaited = len(self._flight)
        acknowledged = self._leave(cumulative, now_ns)
        highest = self._mark(cumulative, sack.gaps)
        self._count_missed(highest)
        self._peer_window = max(0, sack.window - self._in_flight())
        self._owes_forward = self._is_skipping
        if len(self._flight) < awaited:
            self.failures = 0
            self._grow(acknowledged, was_full)
            self._due_ns = NEVER_NS
        if self._flight:
            self._start_timer(now_ns)
        else:
            self._due_ns = NEVER_NS

    def _leave(self, cumulative: int, now_ns: int) -> int:
        """Let go of what has arrived, or is skipped; returns the bytes of what arrived."""
        done = [tsn for tsn in self._flight if tsn <= cumulative]
        arrived = 0
        for tsn in done:
            sent = self._flight.pop(tsn)
            self.buffered -= sent.size
            if sent.message.is_abandoned:
                continue
            arrived += sent.size
            if sent.times == 1 and tsn == done[-1]:
                self._measure(now_ns - sent.sent_ns)  # not of what was sent twice: Karn's rule, section 6.3.1
        return arrived

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
            if not sent.is_awaited:
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
            sent.again = not sent.acknowledged and not sent.message.is_abandoned
        self._owes_forward = self._is_skipping
        self._due_ns = NEVER_NS
        if self._flight:
            self._start_timer(now_ns)

    def _start_timer(self, now_ns: int) -> None:
        if self._due_ns == NEVER_NS:
            self._due_ns = now_ns + self.rto_ns


assert HEADER + len(build_data(Data(0, 0, 0, 0, 0, bytes(MAX_PAYLOAD // 4 * 4)))) <= MAX_PACKET

"""What an SCTP association receives: which TSNs have come, and the messages that are whole and in order (RFC 9260)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from media.webrtc.sctp_chunks import BEGINS, ENDS, UNORDERED, Data, Sack, tsn_after

WINDOW = 65_536  # bytes that wait to be whole or in order: four of the longest messages
MAX_MESSAGE = 16_384  # bytes; as signalling takes of a request
MAX_AHEAD = 256  # TSNs beyond a gap: four windows of packets that are full
STREAMS = 256  # that a peer may use; browsers number their channels from 0
MAX_DUPLICATES = 16  # told of in one SACK


class Violation(Exception):
    """The peer broke a rule in a way after which nothing can be made of what follows."""


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message; `protocol` is its payload protocol identifier."""

    stream: int
    protocol: int
    data: bytes


@dataclass(slots=True)
class _Run:
    """Neighbouring fragments of one message: from `first` to `last`."""

    first: int
    last: int
    size: int


class Inbound:
    """The receiving half. TSNs are counted without end in here; `cumulative` is the last before the first gap."""

    def __init__(self, first_tsn: int) -> None:
        self.cumulative = first_tsn - 1
        self.dropped = 0
        self._beyond: set[int] = set()
        self._duplicates: list[int] = []
        self._fragments: dict[int, Data] = {}
        self._runs: dict[int, _Run] = {}  # by their first and by their last TSN
        self._waiting: dict[tuple[int, int], Message] = {}  # whole, by stream and number, until their turn
        self._next: dict[int, int] = {}  # the number that is due on each stream
        self._held = 0

    @property
    def window(self) -> int:
        """How many bytes more may come."""
        return max(0, WINDOW - self._held)

    def take(self, chunk: Data) -> list[Message]:
        """Take a DATA chunk; returns the messages that can be delivered by it. Raises Violation."""
        tsn = tsn_after(self.cumulative, chunk.tsn)
        if tsn <= self.cumulative or tsn in self._beyond:
            if len(self._duplicates) < MAX_DUPLICATES:
                self._duplicates.append(chunk.tsn)
            return []
        is_next = tsn == self.cumulative + 1
        if not is_next and (tsn - self.cumulative > MAX_AHEAD or len(chunk.payload) > self.window):
            self.dropped += 1
            return []
        if self._held > 2 * WINDOW:
            raise Violation("nothing that came can be delivered")
        self._arrive(tsn)
        if chunk.stream >= STREAMS:
            self.dropped += 1
            return []
        self._fragments[tsn] = chunk
        self._held += len(chunk.payload)
        run = self._joined(tsn, chunk)
        is_whole = self._fragments[run.first].flags & BEGINS and self._fragments[run.last].flags & ENDS
        return self._deliver(self._take_out(run)) if is_whole else []

    def forward(self, tsn: int, skipped: Iterable[tuple[int, int]]) -> list[Message]:
        """Take FORWARD TSN: wait no longer for what came before; returns what is due by that (RFC 3758 section 3.6)."""
        cumulative = tsn_after(self.cumulative, tsn)
        if cumulative <= self.cumulative:
            return []
        self.cumulative = cumulative
        self._beyond = {beyond for beyond in self._beyond if beyond > cumulative}
        self._arrive(cumulative)
        for run in [run for first, run in self._runs.items() if first == run.first and first <= cumulative]:
            self._forget(run)
        due: list[Message] = []
        for stream, number in skipped:
            due += self._skip(stream, number)
        return due

    def reset(self, streams: Iterable[int]) -> None:
        """Let the numbers of streams begin anew (RFC 6525 section 5.2.2); of none named, those of all."""
        for stream in tuple(streams) or tuple(self._next):
            self._next.pop(stream, None)
            for key in [key for key in self._waiting if key[0] == stream]:
                self._held -= len(self._waiting.pop(key).data)

    def sack(self) -> Sack:
        """Say what has come."""
        gaps: list[tuple[int, int]] = []
        for tsn in sorted(self._beyond):
            distance = tsn - self.cumulative
            if gaps and gaps[-1][1] == distance - 1:
                gaps[-1] = (gaps[-1][0], distance)
            else:
                gaps.append((distance, distance))
        duplicates, self._duplicates = tuple(self._duplicates), []
        return Sack(self.cumulative, self.window, tuple(gaps), duplicates)

    def _arrive(self, tsn: int) -> None:
        if tsn > self.cumulative:
            self._beyond.add(tsn)
        while self.cumulative + 1 in self._beyond:
            self.cumulative += 1
            self._beyond.remove(self.cumulative)

    def _joined(self, tsn: int, chunk: Data) -> _Run:
        """Return the run that a fragment now belongs to; its neighbours are of the same message or none."""
        run = _Run(tsn, tsn, len(chunk.payload))
        before = None if chunk.flags & BEGINS else self._runs.get(tsn - 1)
        if before is not None and before.last == tsn - 1 and not self._fragments[before.last].flags & ENDS:
            run = self._merge(before, run)
        after = None if chunk.flags & ENDS else self._runs.get(tsn + 1)
        if after is not None and after.first == tsn + 1 and not self._fragments[after.first].flags & BEGINS:
            run = self._merge(run, after)
        if run.size > MAX_MESSAGE:
            raise Violation("a message is too long")
        self._runs[run.first] = self._runs[run.last] = run
        return run

    def _merge(self, left: _Run, right: _Run) -> _Run:
        for end in (left.first, left.last, right.first, right.last):
            self._runs.pop(end, None)
        return _Run(left.first, right.last, left.size + right.size)

    def _forget(self, run: _Run) -> list[Data]:
        self._runs.pop(run.first, None)
        self._runs.pop(run.last, None)
        self._held -= run.size
        return [self._fragments.pop(tsn) for tsn in range(run.first, run.last + 1)]

    def _take_out(self, run: _Run) -> tuple[Data, Message]:
        parts = self._forget(run)
        head = parts[0]
        if any((part.stream, part.flags & UNORDERED) != (head.stream, head.flags & UNORDERED) for part in parts):
            raise Violation("a message is of two streams")
        return head, Message(head.stream, head.protocol, b"".join(part.payload for part in parts))

    def _deliver(self, whole: tuple[Data, Message]) -> list[Message]:
        head, message = whole
        if head.flags & UNORDERED:
            return [message]
        ahead = (head.number - self._next.get(head.stream, 0)) & 0xFFFF
        if ahead >= 0x8000 or (head.stream, head.number) in self._waiting:
            raise Violation("a number of a stream came twice")
        self._waiting[head.stream, head.number] = message
        self._held += len(message.data)
        return self._due(head.stream)

    def _due(self, stream: int) -> list[Message]:
        due: list[Message] = []
        while (message := self._waiting.pop((stream, self._next.get(stream, 0)), None)) is not None:
            self._held -= len(message.data)
            self._next[stream] = (self._next.get(stream, 0) + 1) & 0xFFFF
            due.append(message)
        return due

    def _skip(self, stream: int, number: int) -> list[Message]:
        """Go on behind a number of a stream; what came before it and is whole is delivered first."""
        ahead = (number - self._next.get(stream, 0)) & 0xFFFF
        if stream >= STREAMS or ahead >= 0x8000:
            return []
        behind = sorted(
            (distance, key)
            for key in self._waiting
            if key[0] == stream and (distance := (key[1] - self._next.get(stream, 0)) & 0xFFFF) <= ahead
        )
        due = [self._waiting.pop(key) for _, key in behind]
        self._held -= sum(len(message.data) for message in due)
        self._next[stream] = (number + 1) & 0xFFFF
        return due + self._due(stream)

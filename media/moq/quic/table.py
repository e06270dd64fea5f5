"""What is kept of all QUIC connections of an endpoint where compiled code finds it: a row each, of NumPy tables.

Rows, streams and groups are taken and given back in Python; what changes with packets is changed by media/moq/kernel/.
What that has to tell is passed on to each row's owner.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
import structlog

from media.io.udp import Datagram, Destination
from media.moq.kernel import calls
from media.moq.kernel import columns as c
from media.moq.kernel.packets import MAX_RANGES
from media.moq.kernel.sockets import BATCH, CONTROL_INTS, HEADER_INTS, MAX_DATAGRAM_BYTES, NAME_STRIDE, PART_INTS
from media.moq.quic.packets import Burst

STREAMS_A_ROW = 8  # on average, of those that carry groups: a picture, a sound and a catalog have begun and not ended
MAX_GROUPS = 1 << 14  # being sent at once
OUT_BYTES = 1 << 20  # written before it is sent: what two cores' caches hold
COUNTED = {
    c.ACKNOWLEDGEMENTS: "acknowledgements_received",
    c.PACKETS_LOST: "packets_lost",
    c.PROBES: "probes",
    c.SEAL_ERRORS: "seal_errors",
    c.PACKETS_SENT: "datagrams_sent",
    c.SEND_CALLS: "send_calls",
    c.SEND_BUFFER_FULL: "send_buffer_full",
    c.SEND_ERRORS: "send_errors",
    c.OFFLOADS_REFUSED: "offload_refused",
}

log = structlog.get_logger("quic")


class NoPlace(Exception):
    """The table is full."""


class Owner(Protocol):
    """Whom a row belongs to, and who hears what became of it."""

    def foreign_settled(self, number: int, *, is_acknowledged: bool) -> None:
        """Hear that a packet of aioquic's arrived, or was lost."""

    def stream_over(self, stream: int) -> None:
        """Hear that nothing is waited for of a stream of the table."""

    def stirred(self) -> None:
        """Hear that there may be something to send."""

    def probe(self) -> None:
        """Hear that aioquic has to send what asks for an acknowledgement."""

    def fail(self) -> None:
        """Hear that one of these raised."""


class Row:
    """One connection's place; its cells, by the columns of media/moq/kernel/columns.py."""

    def __init__(self, table: ConnectionTable, number: int) -> None:
        self.table, self.number, self.owner = table, number, None
        self.ints = memoryview(table.ints[number])
        self.reals = cast("memoryview[float]", memoryview(table.reals[number]))
        self.octets = memoryview(table.octets[number])

    owner: Owner | None

    def take_runs(self) -> list[tuple[int, int]]:
        """Return the numbers of packets received that aioquic has not heard of, as (from, to), and forget them."""
        count, self.ints[c.RUNS] = self.ints[c.RUNS], 0
        return [tuple(run) for run in self.table.runs[self.number, :count].tolist()]

    def forget_flight(self) -> None:
        """Wait for nothing any more: the connection is ending."""
        for column in (c.HEAD, c.TAIL, c.LOST, c.IN_FLIGHT, c.ELICITING):
            self.ints[column] = 0

    def order(self, streams: Sequence[int]) -> None:
        """Have these streams sent, the first ones first."""
        cells = self.table.stream_cells
        for stream, following in zip(streams, [*streams[1:], c.NONE], strict=False):
            cells[stream * c.STREAM_INTS + c.NEXT_STREAM] = following
        self.ints[c.FIRST_STREAM] = streams[0] if streams else c.NONE


class ConnectionTable:
    """Places for `capacity` connections, as one endpoint has them; memory is taken as they are used."""

    def __init__(self, capacity: int) -> None:
        self.ints = np.zeros((capacity, c.INTS), np.int64)
        self.reals = np.zeros((capacity, c.REALS), np.float64)
        self.octets = np.zeros((capacity, c.HEAD_BYTES), np.uint8)
        self.runs = np.zeros((capacity, c.MAX_RUNS, 2), np.int64)
        self.streams = np.zeros((capacity * STREAMS_A_ROW, c.STREAM_INTS), np.int64)
        self.prefixes = np.zeros((capacity * STREAMS_A_ROW, c.PREFIX_BYTES), np.uint8)
        self.groups = np.zeros((MAX_GROUPS, c.GROUP_INTS), np.int64)
        self.stream_cells = memoryview(self.streams.reshape(-1))  # type: ignore[arg-type]
        self.group_cells = memoryview(self.groups.reshape(-1))  # type: ignore[arg-type]
        self.ring = np.zeros((capacity, c.ENTRIES, c.ENTRY_INTS), np.int64)
        self._events = np.zeros((c.MAX_EVENTS, c.EVENT_INTS), np.int64)
        self._counts = np.zeros(c.COUNTS, np.int64)
        self._tables = (
            self.ints,
            self.reals,
            self.ring,
            np.zeros((capacity, c.ENTRIES), np.float64),
            self.octets,
            self.streams,
            self.prefixes,
            self.groups,
            self._events,
            self._counts,
            self.runs,
        )
        self._ids = np.full((1 << (2 * capacity).bit_length(), 2), c.UNKNOWN, np.int64)
        self._are_ids_old = False
        self._rows: list[Row | None] = []  # up to the highest in use
        self._free_rows = _Places(capacity)
        self._free_streams, self._free_groups = _Places(len(self.streams)), _Places(MAX_GROUPS)
        self._scratch = _Scratch(capacity)

    # -- places --------------------------------------------------------------------------------------------------------

    def take_row(self) -> Row:
        """Return a free row with nothing in it. Raises NoPlace."""
        number = self._free_rows.take()
        while len(self._rows) <= number:
            self._rows.append(None)
        row = self._rows[number] = Row(self, number)
        self.ints[number], self.reals[number] = 0, 0.0
        ints, reals = row.ints, row.reals
        for column in (c.THRESHOLD, c.LARGEST_RECEIVED, c.FIRST_STREAM):
            ints[column] = c.NONE
        for column in (c.CLOSE_AT, c.LOSS_AT, c.PACING_AT, c.PACKET_TIME, c.RECEIVED_AT, c.FILTERED_MIN):
            reals[column] = float("nan")
        ints[c.IS_USED] = 1
        self._are_ids_old = True
        return row

    def free_row(self, row: Row) -> None:
        """Give a row back; its streams have to be given back as well."""
        self.ints[row.number] = 0
        row.owner, self._rows[row.number] = None, None
        self._free_rows.give(row.number)
        self._are_ids_old = True

    def ids_changed(self) -> None:
        """Look anew which connections have which ids."""
        self._are_ids_old = True

    def take_stream(self) -> int:
        """Return the place of a stream. Raises NoPlace."""
        return self._free_streams.take()

    def free_stream(self, stream: int) -> None:
        """Give the place of a stream back, of which no entry is in flight."""
        self._free_streams.give(stream)

    def take_group(self) -> int:
        """Return the place of a group. Raises NoPlace."""
        return self._free_groups.take()

    def free_group(self, group: int) -> None:
        """Give the place of a group back, which no stream carries."""
        self._free_groups.give(group)

    # -- packets -------------------------------------------------------------------------------------------------------

    def receive(self, fd: int, now_s: Callable[[], float]) -> tuple[int, list[Datagram]]:
        """Read a batch from a socket; returns how many datagrams came, and those that acknowledge and do more.

        Raises OSError.
        """
        at = self._scratch
        count = calls.receive(fd, at.headers, at.parts, at.datagrams, at.sizes, at.names)
        if count < 0:
            raise OSError(-count, "recvmmsg")
        return count, self._judge(count, now_s())

    def take_in_untrusted(self, data: bytes, source: Destination, now: float) -> bool:
        """Take in one datagram; False when aioquic has to."""
        if len(data) > MAX_DATAGRAM_BYTES:
            return False
        at = self._scratch
        at.datagrams[0, : len(data)] = np.frombuffer(data, np.uint8)
        name = packed_address(source)
        at.sizes[0], at.names[0, : len(name)] = len(data), np.frombuffer(name, np.uint8)
        return not self._judge(1, now)

    def _judge(self, count: int, now: float) -> list[Datagram]:
        if self._are_ids_old:
            calls.enter_ids(self._tables, self._ids, len(self._rows))
            self._are_ids_old = False
        at, done = self._scratch, 0
        while done < count:
            done = calls.take_in_untrusted(
                self._tables,
                self._ids,
                at.datagrams,
                at.sizes,
                at.names,
                at.verdicts,
                done,
                count,
                now,
                at.plain,
                at.found,
                at.work,
            )
            self._tell()
        verdicts, sizes = at.verdicts[:count].tolist(), at.sizes[:count].tolist()
        return [
            (at.datagrams[i, : sizes[i]].tobytes(), unpacked_address(at.names[i].tobytes()))
            for i in range(count)
            if verdicts[i] == c.UNKNOWN
        ]

    def send(self, rows: Sequence[int], fd: int, now: float, *, offloads: bool) -> bool:
        """Send what connections have to send; returns whether the kernel still cuts what is sent in one piece."""
        refused, at = int(self._counts[c.OFFLOADS_REFUSED]), self._scratch
        for count in self._build(rows, now):
            calls.transmit(fd, self._tables, at.out, at.messages, count, offloads, at.headers, at.parts, at.controls)
        return offloads and int(self._counts[c.OFFLOADS_REFUSED]) == refused

    def bursts(self, rows: Sequence[int], now: float) -> list[tuple[int, Burst]]:
        """Return what connections have to send, with the row of each."""
        made = []
        for count in self._build(rows, now):
            for row, at, size, packet_bytes in self._scratch.messages[:count].tolist():
                made.append((row, Burst(self._scratch.out[at : at + size].tobytes(), packet_bytes)))
        return made

    def _build(self, rows: Sequence[int], now: float) -> Any:
        at, done = self._scratch, 0
        chosen = np.array(rows, np.int64)
        while done < len(rows):
            done = calls.build(self._tables, chosen, done, len(rows), now, at.out, at.messages, at.work)
            self._tell()
            yield int(self._counts[c.MESSAGES])

    def acknowledge(self, row: Row, ranges: Sequence[tuple[int, int]], delay_s: float, now: float) -> None:
        """Take in what aioquic read of an acknowledgement: (from, to), oldest first."""
        found = np.array(ranges, np.int64).reshape(-1)
        calls.acknowledge(self._tables, row.number, found, len(ranges), delay_s, now)
        self._tell()

    def detect_losses(self, row: Row, now: float) -> None:
        """Give up what is lost of a connection."""
        calls.detect_losses(self._tables, row.number, now)
        self._tell()

    def enter_foreign(self, row: Row, number: int, flags: int, size: int, now: float) -> None:
        """Put a packet of aioquic's in flight. Raises NoPlace."""
        if not calls.enter_foreign(self._tables, row.number, number, flags, size, now):
            raise NoPlace("more packets in flight than there are places")

    def forget(self, row: Row, number: int) -> None:
        """Wait no more for a packet of aioquic's."""
        calls.forget(self._tables, row.number, number)

    def run_timers(self, now: float) -> float:
        """Do what is due, and stir those that may send; returns when something is due next (s, infinite for never)."""
        at = self._scratch
        next_at = calls.run_timers(self._tables, len(self._rows), now, at.due, at.counted)
        self._tell()
        for number in at.due[: at.counted[0]].tolist():
            row = self._rows[number]
            if row is not None and row.owner is not None:
                row.owner.stirred()
        return float(next_at)

    def counters(self) -> Counter[str]:
        """Return what was counted, by name."""
        return Counter({name: int(self._counts[column]) for column, name in COUNTED.items()})

    def _tell(self) -> None:
        count = int(self._counts[c.EVENTS])
        if not count:
            return
        told = self._events[:count].tolist()
        self._counts[c.EVENTS] = 0
        for kind, number, about in told:
            row = self._rows[number]
            owner = None if row is None else row.owner
            if owner is None:
                continue
            try:
                _pass_on(owner, kind, about)
            except Exception:
                # A fault of ours, or of aioquic's, in one connection ends that connection and nothing else.
                log.exception("connection_fault")
                owner.fail()


def _pass_on(owner: Owner, kind: int, about: int) -> None:
    if kind == c.STIRRED:
        owner.stirred()
    elif kind == c.STREAM_OVER:
        owner.stream_over(about)
    elif kind == c.PROBE:
        owner.probe()
    else:
        owner.foreign_settled(about, is_acknowledged=kind == c.FOREIGN_ACKED)


class _Places:
    """Free places, of which the lowest are taken again first as far as that costs nothing."""

    def __init__(self, count: int) -> None:
        self._count, self._used, self._given = count, 0, list[int]()

    def take(self) -> int:
        if self._given:
            return self._given.pop()
        if self._used == self._count:
            raise NoPlace("all places are taken")
        self._used += 1
        return self._used - 1

    def give(self, place: int) -> None:
        self._given.append(place)


class _Scratch:
    """What compiled calls write to; nothing in it lasts from one to the next."""

    def __init__(self, capacity: int) -> None:
        self.headers = np.zeros((BATCH + 1, HEADER_INTS), np.int64)
        self.parts = np.zeros((BATCH + 1, PART_INTS), np.int64)
        self.controls = np.zeros((BATCH + 1, CONTROL_INTS), np.int64)
        self.datagrams = np.zeros((BATCH, MAX_DATAGRAM_BYTES), np.uint8)
        self.names = np.zeros((BATCH, NAME_STRIDE), np.uint8)
        self.sizes, self.verdicts = np.zeros(BATCH, np.int64), np.zeros(BATCH, np.int64)
        self.out = np.zeros(OUT_BYTES, np.uint8)
        self.messages = np.zeros((calls.MAX_MESSAGES, c.MESSAGE_INTS), np.int64)
        self.plain, self.work = np.zeros(MAX_DATAGRAM_BYTES, np.uint8), np.zeros(64, np.uint8)
        self.found = np.zeros(2 + 2 * MAX_RANGES, np.int64)
        self.due, self.counted = np.zeros(capacity, np.int64), np.zeros(1, np.int64)


def packed_address(address: Destination) -> bytes:
    """Return an address as the system takes it (struct sockaddr_in and sockaddr_in6)."""
    host, port = address[0].partition("%")[0], address[1]
    if ":" not in host:
        return _FAMILY_4 + port.to_bytes(2, "big") + socket.inet_pton(socket.AF_INET, host) + bytes(8)
    flow, scope = address[2:] if len(address) == 4 else (0, 0)
    return (
        _FAMILY_6
        + port.to_bytes(2, "big")
        + flow.to_bytes(4, "big")
        + socket.inet_pton(socket.AF_INET6, host)
        + scope.to_bytes(4, "little")
    )


def unpacked_address(packed: bytes) -> Destination:
    """Return what `packed_address` packed, as Python's sockets tell it."""
    port = int.from_bytes(packed[2:4], "big")
    if packed[:2] == _FAMILY_4:
        return socket.inet_ntop(socket.AF_INET, packed[4:8]), port
    host = socket.inet_ntop(socket.AF_INET6, packed[8:24])
    scope = int.from_bytes(packed[24:28], "little")
    return (f"{host}%{scope}" if scope else host), port, int.from_bytes(packed[4:8], "big"), scope


_FAMILY_4, _FAMILY_6 = (int(family).to_bytes(2, "little") for family in (socket.AF_INET, socket.AF_INET6))

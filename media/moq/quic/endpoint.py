"""The QUIC endpoint: one UDP socket, all connections on it, one heap of timers, one flush for all that have news."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
import trio
from aioquic._buffer import Buffer
from aioquic.quic import events as quic_events
from aioquic.quic.packet import QuicHeader, QuicPacketType, pull_quic_header

from media.io.networks import network_of
from media.io.udp import Destination
from media.moq.carriers.byte_session import ByteServices
from media.moq.protocol.requests import Admit
from media.moq.protocol.session import NEVER_NS
from media.moq.quic.certificate import Certificates
from media.moq.quic.configuration import EndpointSettings, make_configuration
from media.moq.quic.connection import Connection
from media.moq.quic.first_packets import Retry, say_versions
from media.moq.quic.group_streams import Groups
from media.moq.quic.line import Line
from media.moq.quic.newcomers import Newcomers
from media.moq.quic.table import NoPlace
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.relay import Relay

ESTABLISH_S = 10.0  # from the first datagram to a session; half of it would do across the world
GOODBYE_S = 2.0  # for a client to close what we ended, before we forget it
FLUSH_S = 0.002  # between two flushes at least: what comes within leaves together
# Half a packet of sound: the busier, the more leaves together, and the less it costs. With much more than that, what
# pacing lets out at once is too little for what comes meanwhile.
LONGEST_REST_S = 0.008
TICK_S = 0.01  # how late a loss may be noticed of what was sent since timers were last looked at
FLUSH_BATCH = 64  # connections between which others get their turn
MIN_INITIAL_BYTES = 1_200  # RFC 9000 section 14.1
MIN_ID_BYTES = 8  # of what a client calls us at first (RFC 9000 section 7.2)
LONG_FORM, FIXED_BIT = 0x80, 0x40  # of a packet's first byte (RFC 9000 section 17)
UNVALIDATED_FREE = 64  # newcomers under way before the next have to prove their addresses by a Retry

log = structlog.get_logger("quic")
# aioquic tells of each duplicate handshake packet; what matters comes to us as events.
logging.getLogger("quic").setLevel(logging.WARNING)


@dataclass(slots=True, eq=False)
class _Entry:
    """A connection and what the endpoint keeps about it."""

    connection: Connection
    number: int
    give_up_ns: int
    ids: set[bytes] = field(default_factory=set)
    is_leaving: bool = False  # we ended its session
    timer_ns: int = NEVER_NS


def rest_after(flush_ns: int) -> float:
    """Return how long to gather what leaves next, in s, after a flush that took so long."""
    return min(max(FLUSH_S, flush_ns / 1e9), LONGEST_REST_S)


class Endpoint:
    """Serves sessions over WebTransport and raw QUIC; `run` it in a nursery. Raises OSError when it can't be bound.

    `services` are those besides MoQ. Nothing a client does ends more than its connection.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        relay: Relay,
        admit: Admit,
        *,
        services: ByteServices | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._services = services or ByteServices({})
        self._settings, self._relay, self._admit, self._now_ns = settings, relay, admit, clock_ns
        self._line = Line(settings.host, settings.port, settings.max_connections)
        self._hop = secrets.randbelow((1 << 53) - 1) + 1
        self._retry = Retry()
        self._by_id: dict[bytes, _Entry] = {}
        self._entries: dict[int, _Entry] = {}
        self._newcomers = Newcomers()
        self._numbers = itertools.count()
        self._timers: list[tuple[int, int]] = []
        self._dirty: dict[int, _Entry] = {}
        self._stirred = trio.Event()
        self._groups = Groups(self._line.table)
        self._wake_at = self._table_at = math.inf  # when timers are looked at next, and those of the table are due (s)
        self._configuration = make_configuration(settings.packet_bytes)
        self.counts = Counter[str]()
        self._certificates = Certificates(settings.names, self._configuration)

    @property
    def address(self) -> tuple[str, int]:
        """Where it is bound."""
        return self._line.address

    @property
    def certificate_sha256(self) -> str:
        """The hash by which a page may accept the certificate of new connections, in hex."""
        return self._certificates.newest.sha256

    def counters(self) -> dict[str, int]:
        """How many connections there are, and what became of datagrams and connections, by name."""
        counted = self.counts + self._services.counts + self._line.counters()
        return {"quic_connections": len(self._entries), **{f"quic_{name}": n for name, n in counted.items()}}

    def _now_s(self) -> float:
        return self._now_ns() / 1e9

    def close(self) -> None:
        """Free the address; needed only when it never ran."""
        self._line.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then say goodbye to everyone."""
        try:
            async with trio.open_nursery() as nursery:
                self._services.nursery = nursery
                nursery.start_soon(self._receive)
                nursery.start_soon(self._keep_time)
                nursery.start_soon(self._certificates.keep)
                task_status.started()
        finally:
            self._services.nursery = None
            for entry in tuple(self._entries.values()):
                self._flush_all([entry])  # the last words of its session
                entry.connection.close("the server ends")
                self._flush_all([entry])
            self._line.close()

    # -- datagrams -----------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._line.fd)
            began_ns = self._now_ns()
            heard: dict[int, _Entry] = {}
            for data, source in self._line.read(self._now_s):
                try:
                    entry = self._route(data, source)
                except Exception:
                    # A fault of ours, or of aioquic's, in who is not even a connection.
                    self.counts["datagram_faults"] += 1
                    log.exception("datagram_fault")
                    continue
                if entry is not None:
                    self._guarded(entry, self._feed, data, source)
                    heard[entry.number] = entry
            heard |= {number: entry for number, entry in self._dirty.items() if entry.connection.is_stirred}
            # Those that it only led media to wait for the next flush.
            if heard:
                self._flush_all(tuple(heard.values()))
                self._wake_by(self._now_s() + TICK_S)
            # To be woken costs more than what most datagrams say.
            await trio.sleep(rest_after(self._now_ns() - began_ns))

    def _feed(self, entry: _Entry, data: bytes, source: Destination) -> None:
        entry.connection.receive_untrusted(data, source, self._now_s())
        self._take_events(entry)

    def _route(self, data: bytes, source: Destination) -> _Entry | None:
        if data and not data[0] & LONG_FORM and data[0] & FIXED_BIT:
            entry = self._by_id.get(data[1 : 1 + self._configuration.connection_id_length])
            if entry is not None:
                return entry
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=self._configuration.connection_id_length)
        except ValueError:
            self.counts["not_quic"] += 1
            return None
        entry = self._by_id.get(header.destination_cid)
        if entry is not None:
            return entry
        if header.version is not None and header.version not in self._configuration.supported_versions:
            if header.packet_type is not QuicPacketType.VERSION_NEGOTIATION and len(data) >= MIN_INITIAL_BYTES:
                self._line.say([(say_versions(header, self._configuration.supported_versions), source)])
            return None
        is_initial = header.packet_type is QuicPacketType.INITIAL and len(header.destination_cid) >= MIN_ID_BYTES
        if not is_initial or len(data) < MIN_INITIAL_BYTES:
            self.counts["unknown_connection"] += 1
            return None
        return self._open(header, source)

    def _open(self, header: QuicHeader, source: Destination) -> _Entry | None:
        if len(self._entries) >= self._settings.max_connections:
            self.counts["connections_refused"] += 1
            return None
        original, retried = header.destination_cid, None
        if header.token:
            proven = self._retry.original_untrusted(header, source, self._now_s())
            if proven is None:
                self.counts["tokens_refused"] += 1
                return None
            original, retried = proven, header.destination_cid
        elif len(self._newcomers) >= UNVALIDATED_FREE:
            self.counts["retries"] += 1
            length = self._configuration.connection_id_length
            self._line.say([(self._retry.ask(header, source, self._now_s(), length), source)])
            return None
        network = network_of(source[0])
        if not self._newcomers.has_room_for(network):
            self.counts["newcomers_refused"] += 1
            return None
        try:
            row = self._line.table.take_row()
        except NoPlace:
            self.counts["connections_refused"] += 1
            return None
        quic = TabledConnection(
            row,
            self._configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
        )
        number = next(self._numbers)
        wake = partial(self._stir, number)
        about = (self._relay, self._admit, self._hop, source[0], wake, self._services)
        connection = Connection(quic, self._groups, *about)
        entry = _Entry(connection, number, self._now_ns() + int(ESTABLISH_S * 1e9))
        self._entries[number] = entry
        overtaken = self._newcomers.enter(number, network)
        if overtaken is not None:
            self.counts["newcomers_overtaken"] += 1
            self._remove(self._entries[overtaken])
        for id in (header.destination_cid, quic.host_cid):
            self._by_id[id] = entry
            entry.ids.add(id)
        return entry

    # -- connections ---------------------------------------------------------------------------------------------------

    def _take_events(self, entry: _Entry) -> None:
        connection = entry.connection
        while (event := connection.quic.next_event()) is not None:
            match event:
                case quic_events.ConnectionIdIssued(connection_id=id):
                    self._by_id[id] = entry
                    entry.ids.add(id)
                case quic_events.ConnectionIdRetired(connection_id=id):
                    self._by_id.pop(id, None)
                    entry.ids.discard(id)
                case _:
                    connection.handle(event)
                    if connection.has_session:
                        self._newcomers.leave(entry.number)

    def _guarded(self, entry: _Entry, step: Callable[..., None], *about: Any) -> None:
        # A fault of ours, or of aioquic's, in one connection ends that connection and nothing else.
        try:
            step(entry, *about)
        except Exception:
            self.counts["connection_faults"] += 1
            log.exception("connection_fault")
            self._remove(entry)

    def _remove(self, entry: _Entry) -> None:
        if self._entries.pop(entry.number, None) is None:
            return
        self._newcomers.leave(entry.number)
        for id in entry.ids:
            self._by_id.pop(id, None)
        self._dirty.pop(entry.number, None)
        self.counts.update(entry.connection.counts)
        entry.connection.abandon()

    # -- flush ---------------------------------------------------------------------------------------------------------

    def _stir(self, number: int) -> None:
        entry = self._entries.get(number)
        if entry is not None and number not in self._dirty:
            self._dirty[number] = entry
            self._stirred.set()

    def _flush_all(self, entries: Sequence[_Entry]) -> None:
        """Have connections write, aioquic say what it has to, and the kernel send the rest."""
        rows: list[int] = []
        for entry in entries:
            if entry.number in self._entries:
                self._guarded(entry, self._flush, rows)
        if rows:
            self._line.flush(rows, self._now_s())

    def _flush(self, entry: _Entry, rows: list[int]) -> None:
        connection = entry.connection
        now_ns = self._now_ns()
        connection.write()
        rows.append(connection.quic.row.number)
        if connection.must_speak(now_ns / 1e9):
            self._speak(entry, now_ns)
        if connection.quic._events:
            self._take_events(entry)
        # What the writing itself stirred leaves just now.
        self._dirty.pop(entry.number, None)
        if not connection.is_timer_old:
            return
        connection.is_timer_old = False
        if connection.is_over and connection.quic.get_timer() is None:
            self._remove(entry)
        else:
            self._set_timer(entry)

    def _speak(self, entry: _Entry, now_ns: int) -> None:
        connection = entry.connection
        datagrams = connection.datagrams(now_ns / 1e9)
        if datagrams:
            self._line.say(datagrams)
        connection.after_flush()
        if connection.was_ended_by_us and not entry.is_leaving:
            entry.is_leaving, entry.give_up_ns = True, now_ns + int(GOODBYE_S * 1e9)

    # -- time ----------------------------------------------------------------------------------------------------------

    def _set_timer(self, entry: _Entry) -> None:
        # Entries are lazy: one that comes too early looks again, so only an earlier deadline needs a new entry.
        timer = entry.connection.quic.get_timer()
        deadline_ns = NEVER_NS if timer is None else int(timer * 1e9)
        deadline_ns = min(deadline_ns, entry.connection.deadline_ns())
        if not entry.connection.has_session:
            deadline_ns = min(deadline_ns, entry.give_up_ns)
        if deadline_ns < entry.timer_ns:
            entry.timer_ns = deadline_ns
            heapq.heappush(self._timers, (deadline_ns, entry.number))
            self._wake_by(deadline_ns / 1e9)

    def _wake_by(self, at: float) -> None:
        """Look at timers no later than then (s, monotonic)."""
        if at < self._wake_at:
            self._wake_at = at
            self._stirred.set()

    async def _keep_time(self) -> None:
        rest_s = FLUSH_S
        while True:
            self._stirred = trio.Event()
            self._run_timers()
            soon = self._now_s() + TICK_S if self._table_at < math.inf else math.inf
            self._wake_at = min(self._timers[0][0] / 1e9 if self._timers else math.inf, self._table_at, soon)
            if not self._dirty:
                with trio.move_on_after(max(0.0, self._wake_at - self._now_s())):
                    await self._stirred.wait()
            if self._dirty:
                await trio.sleep(rest_s)
            began_ns = self._now_ns()
            self._run_timers()
            await self._flush_dirty()
            rest_s = rest_after(self._now_ns() - began_ns)

    async def _flush_dirty(self) -> None:
        dirty, self._dirty = tuple(self._dirty.values()), {}
        for at in range(0, len(dirty), FLUSH_BATCH):
            if at:
                await trio.lowlevel.checkpoint()
            self._flush_all(dirty[at : at + FLUSH_BATCH])

    def _run_timers(self) -> None:
        now_ns = self._now_ns()
        self._table_at = self._line.table.run_timers(now_ns / 1e9)
        while self._timers and self._timers[0][0] <= now_ns:
            deadline_ns, number = heapq.heappop(self._timers)
            entry = self._entries.get(number)
            if entry is not None and entry.timer_ns == deadline_ns:
                entry.timer_ns = NEVER_NS
                self._guarded(entry, self._time_out, now_ns)

    def _time_out(self, entry: _Entry, now_ns: int) -> None:
        connection = entry.connection
        # What was ended just now, and not flushed yet, has its last words still to say.
        is_ending = connection.was_ended_by_us and not entry.is_leaving
        if not connection.has_session and not is_ending and now_ns >= entry.give_up_ns:
            self.counts["connections_too_slow"] += 1
            self._remove(entry)
            return
        timer = connection.quic.get_timer()
        if timer is not None and timer * 1e9 <= now_ns:
            connection.handle_quic_timer(now_ns / 1e9)
            self._take_events(entry)
        elif timer is not None and not is_ending and now_ns < connection.deadline_ns():
            self._set_timer(entry)  # it came too early
            return
        connection.handle_timeout(now_ns)
        connection.is_timer_old = True
        if connection.quic.get_timer() is None:
            self._remove(entry)
        else:
            self._dirty[entry.number] = entry

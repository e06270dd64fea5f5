"""aioquic's connection with its books in a row of the table, where compiled code keeps them as well.

What aioquic reads and writes under its own names are cells of the row; what happens to application packets after they
were sent is left to the kernel. Handshake packets, and everything that is said besides stream data, stay aioquic's.
All names with an underscore are below its public surface, for which its version is pinned; tests/moq/test_recovery.py
compares the books with those that aioquic keeps by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState, QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace
from aioquic.tls import Epoch

from media.io.udp import Datagram
from media.moq.kernel import columns as c
from media.moq.quic.cells import Flag, OptionalReal, OptionalWhole, Real, Whole
from media.moq.quic.keyring import Keyring
from media.moq.quic.table import Row, packed_address

# Packets that ask for no acknowledgement may get none for long: so many of them are waited for.
MAX_QUIET = 64
RECENT = 2 * MAX_ACK_RANGES  # numbers among which aioquic looks for duplicates


class TabledReno(RenoCongestionControl):
    """Congestion control of the handshake; the kernel's goes on from there."""

    congestion_window = Whole(c.WINDOW)
    bytes_in_flight = Whole(c.IN_FLIGHT)
    ssthresh = OptionalWhole(c.THRESHOLD)
    _congestion_stash = Whole(c.STASH)
    _congestion_recovery_start_time = Real(c.RECOVERY_START)

    def __init__(self, row: Row, *, max_datagram_size: int) -> None:
        self.row = row
        super().__init__(max_datagram_size=max_datagram_size)


class TabledPacer(QuicPacketPacer):
    """Pacing of aioquic's packets and the kernel's together."""

    bucket_max = Real(c.BUCKET_MAX)
    bucket_time = Real(c.BUCKET)
    evaluation_time = Real(c.BUCKET_AT)
    packet_time = OptionalReal(c.PACKET_TIME)

    def __init__(self, row: Row, *, max_datagram_size: int) -> None:
        self.row = row
        super().__init__(max_datagram_size=max_datagram_size)


class TabledSpace(QuicPacketSpace):
    """The space of application packets; `sent_packets` are aioquic's own, which the kernel knows by their numbers."""

    expected_packet_number = Whole(c.EXPECTED)
    largest_received_packet = Whole(c.LARGEST_RECEIVED)
    largest_received_time = OptionalReal(c.RECEIVED_AT)
    ack_eliciting_in_flight = Whole(c.ELICITING)
    largest_acked_packet = Whole(c.LARGEST_ACKED)
    loss_time = OptionalReal(c.LOSS_AT)

    def __init__(self, row: Row) -> None:
        self.row = row
        super().__init__(is_application_data=True)


class TabledRecovery(QuicPacketRecovery):
    """Recovery of aioquic's, which leaves application packets to the kernel."""

    handshake_confirmed = Flag(c.IS_CONFIRMED)
    max_ack_delay = Real(c.MAX_DELAY)
    _pto_count = Whole(c.PTO_COUNT)
    _rtt_first_sample_time = Real(c.RTT_FIRST)
    _rtt_initial = Real(c.RTT_INITIAL)
    _rtt_initialized = Flag(c.HAS_RTT)
    _rtt_latest = Real(c.RTT_LATEST)
    _rtt_min = Real(c.RTT_MIN)
    _rtt_smoothed = Real(c.RTT_SMOOTHED)
    _rtt_variance = Real(c.RTT_VARIANCE)
    _time_of_last_sent_ack_eliciting_packet = Real(c.LAST_ELICITING)

    def __init__(self, row: Row, *, max_datagram_size: int, **settings: Any) -> None:
        self.row = row
        super().__init__(max_datagram_size=max_datagram_size, **settings)
        self._cc = TabledReno(row, max_datagram_size=max_datagram_size)
        self._pacer = TabledPacer(row, max_datagram_size=max_datagram_size)

    def on_packet_sent(self, *, packet: QuicSentPacket, space: QuicPacketSpace) -> None:
        """Enter a packet of aioquic's."""
        if space.is_application_data:
            if not packet.is_ack_eliciting and len(space.sent_packets) >= MAX_QUIET:
                return
            flags = c.FOREIGN | c.FLIES * packet.in_flight | c.ELICITS * packet.is_ack_eliciting
            assert packet.sent_time is not None
            self.row.table.enter_foreign(self.row, packet.packet_number, flags, packet.sent_bytes, packet.sent_time)
        super().on_packet_sent(packet=packet, space=space)

    def on_ack_received(self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace) -> None:
        """Take in an acknowledgement that aioquic read."""
        if not space.is_application_data:
            super().on_ack_received(ack_rangeset=ack_rangeset, ack_delay=ack_delay, now=now, space=space)
            return
        ranges = [(one.start, one.stop) for one in ack_rangeset]
        self.row.table.acknowledge(self.row, ranges, ack_delay, now)

    def get_loss_detection_time(self, *, amplification_limited: bool) -> float | None:
        """Return when handshake packets are lost or to be probed for; the table's own timers do that for others."""
        whole = self.spaces
        self.spaces = [space for space in whole if not space.is_application_data]
        try:
            return super().get_loss_detection_time(amplification_limited=amplification_limited)
        finally:
            self.spaces = whole

    def settled(self, number: int, state: QuicDeliveryState) -> None:
        """Tell aioquic what became of a packet of its own."""
        packet = self.spaces[-1].sent_packets.pop(number, None)
        if packet is not None:
            for handler, about in packet.delivery_handlers:
                handler(state, *about)

    def _get_loss_space(self) -> QuicPacketSpace | None:
        whole = self.spaces
        self.spaces = [space for space in whole if not space.is_application_data]
        try:
            return super()._get_loss_space()
        finally:
            self.spaces = whole

    def _on_packets_lost(self, *, packets: Iterable[QuicSentPacket], space: QuicPacketSpace, **about: Any) -> None:
        packets = list(packets)
        if space.is_application_data:
            for packet in packets:
                self.row.table.forget(self.row, packet.packet_number)
        super()._on_packets_lost(packets=packets, space=space, **about)


class TabledConnection(QuicConnection):
    """A connection that a client opens to us. Raises NoPlace when the table is full."""

    _ack_eliciting_sent_since_receipt = Flag(c.HAS_ELICITED)
    _close_at = OptionalReal(c.CLOSE_AT)
    _packet_number = Whole(c.NUMBER)
    _remote_ack_delay_exponent = Whole(c.DELAY_EXPONENT)
    _remote_max_data = Whole(c.MAX_DATA)
    _remote_max_data_used = Whole(c.DATA_USED)
    _spin_bit = Flag(c.SPIN)
    _spin_highest_pn = Whole(c.SPIN_NUMBER)

    def __init__(self, row: Row, configuration: QuicConfiguration, **about: Any) -> None:
        self.row = row
        self._keyring = Keyring()
        self._shown: tuple[Any, ...] = ()
        super().__init__(configuration=configuration, **about)
        row.ints[c.PACKET_BYTES] = self._max_datagram_size
        self._ack_delay = 0.0  # what comes together is acknowledged together already, as datagrams are read in batches
        self._loss = TabledRecovery(
            row,
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=self._max_datagram_size,
            peer_completed_address_validation=True,
            send_probe=self._send_probe,
            logger=self._logger,
        )

    def settled(self, number: int, state: QuicDeliveryState) -> None:
        """Hear what became of a packet of aioquic's own."""
        assert isinstance(self._loss, TabledRecovery)
        self._loss.settled(number, state)

    def catch_up(self) -> None:
        """Hear of packets that the kernel took in: to be called before aioquic receives or sends."""
        runs = self.row.take_runs()
        if not runs:
            return
        space = self._spaces[Epoch.ONE_RTT]
        for start, stop in runs:
            space.ack_queue.add(start, stop)
            for number in range(max(start, stop - RECENT), stop):
                space.received_packets.add(number)
        while len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()

    def say(self, now: float, *, is_paced: bool) -> list[Datagram]:
        """Return what leaves now besides groups; where no data is among it, pacing has nothing to hold back.

        It would say until when, and aioquic be asked again and again for what it does not have.
        """
        if is_paced:
            return self.datagrams_to_send(now=now)
        pacer = self._loss._pacer
        pace, pacer.packet_time = pacer.packet_time, None
        try:
            return self.datagrams_to_send(now=now)
        finally:
            pacer.packet_time = pace

    def show(self) -> None:
        """Put into the row what the kernel needs: to be called after aioquic received, sent or was closed."""
        row = self.row
        is_plain = self._keyring.show(self, row)
        row.ints[c.IS_PLAIN] = is_plain
        if not is_plain:
            return
        shown = (self.host_cid, self._peer_cid.cid, self._network_paths[0].addr, self._remote_max_idle_timeout)
        if shown == self._shown:
            return
        self._shown = shown
        address = packed_address(self._network_paths[0].addr)
        peer_id = self._peer_cid.cid
        row.octets[c.PEER_ID : c.PEER_ID + len(peer_id)] = peer_id
        row.octets[c.ADDRESS : c.ADDRESS + len(address)] = address
        row.ints[c.PEER_ID_BYTES], row.ints[c.ADDRESS_BYTES] = len(peer_id), len(address)
        row.ints[c.ID] = int.from_bytes(self.host_cid, "big", signed=True)
        row.reals[c.IDLE] = min(
            self._configuration.idle_timeout, self._remote_max_idle_timeout or self._configuration.idle_timeout
        )
        row.table.ids_changed()

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        space = TabledSpace(self.row)
        self._spaces[Epoch.ONE_RTT] = self._loss.spaces[-1] = space

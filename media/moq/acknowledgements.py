"""Packets that do nothing but acknowledge, taken in past aioquic: most of what viewers send.

All of aioquic's books are kept as it keeps them when it gets such a packet; whatever is not plainly one is left to it.
tests/moq/test_acknowledgements.py compares the books of both ways.
"""

from __future__ import annotations

from aioquic.quic.congestion.base import QuicCongestionControl
from aioquic.quic.congestion.reno import RenoCongestionControl
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.recovery import MAX_ACK_RANGES, QuicPacketRecovery, QuicPacketSpace

from media.io.udp import Destination
from media.moq.keyring import Keyring
from media.moq.packets import Acknowledgement
from media.moq.sent_packets import Delivered, Frame, SentBurst, SentPacket, SentPackets, sent_packets_of
from media.moq.stream_packets import APPLICATION

FORM_BITS, SHORT_FORM = 0xC0, 0x40  # of the first byte, with the fixed bit (RFC 9000 section 17.3.1)
SPIN_BIT = 0x20
LONGEST = 2_048
LEAST_RTT_S = 0.001  # aioquic's


def take_acknowledgement_untrusted(
    quic: QuicConnection, keyring: Keyring, data: bytes, source: Destination, now: float
) -> int | None:
    """Take in a datagram that only acknowledges; returns how many packets this shows to be lost.

    None when it is for aioquic, which then knows nothing of it yet.
    """
    if len(data) > LONGEST or not data or data[0] & FORM_BITS != SHORT_FORM:
        return None
    if not keyring.is_plain(quic) or source != quic._network_paths[0].addr or not data.startswith(quic.host_cid, 1):
        return None
    opener = keyring.opener(quic)
    space = quic._loss.spaces[APPLICATION]
    if opener is None:
        return None
    taken = opener.open_untrusted(data, space.expected_packet_number)
    if taken is None:
        return None
    return 0 if taken.number in space.received_packets else _enter_packet(quic, space, taken, now)


def _enter_packet(quic: QuicConnection, space: QuicPacketSpace, taken: Acknowledgement, now: float) -> int:
    """Do what aioquic does with a packet that it opened; returns how many of ours this shows to be lost."""
    number = taken.number
    if number > space.expected_packet_number:
        space.expected_packet_number = number + 1
    if number > quic._spin_highest_pn:
        quic._spin_bit = bool(taken.first & SPIN_BIT)
        quic._spin_highest_pn = number
    loss = quic._loss
    loss.peer_completed_address_validation = True
    delay_s = (taken.delay << quic._remote_ack_delay_exponent) / 1e6
    lost = _acknowledge(loss, space, taken, delay_s, now)
    quic._close_at = now + quic._idle_timeout()
    quic._ack_eliciting_sent_since_receipt = False
    if number > space.largest_received_packet:
        space.largest_received_packet, space.largest_received_time = number, now
    space.ack_queue.add(number)
    space.received_packets.add(number)
    if len(space.ack_queue) > MAX_ACK_RANGES:
        space.ack_queue.shift()
    return lost


def _acknowledge(
    loss: QuicPacketRecovery, space: QuicPacketSpace, taken: Acknowledgement, delay_s: float, now: float
) -> int:
    """Do what aioquic's recovery does with an acknowledgement; returns how many packets are lost."""
    largest = taken.ranges[-1][1] - 1
    space.largest_acked_packet = max(space.largest_acked_packet, largest)
    eliciting = space.ack_eliciting_in_flight
    sent = sent_packets_of(space)
    newest = _take_out(loss, space, sent, taken.ranges, now)
    if newest is None:
        return 0
    number, sent_time = newest
    if number == largest and space.ack_eliciting_in_flight < eliciting:
        _measure_round_trip(loss, now - sent_time, delay_s, now)
    lost, space.loss_time = 0, None
    oldest = sent.first
    if oldest is not None and oldest < space.largest_acked_packet:
        before = len(sent)
        loss._detect_loss(now=now, space=space)
        lost = before - len(sent)
    loss._pto_count = 0
    return lost


def _take_out(
    loss: QuicPacketRecovery, space: QuicPacketSpace, sent: SentPackets, ranges: list[tuple[int, int]], now: float
) -> tuple[int, float] | None:
    """Take acknowledged packets out of flight and tell who waits for them; returns the newest one's number and time."""
    newest, newest_time, arrived = -1, 0.0, Arrived()
    for start, stop in ranges:
        for packet in sent.take_own(start, stop):
            if packet.packet_number > newest:
                assert packet.sent_time is not None
                newest, newest_time = packet.packet_number, packet.sent_time
            space.ack_eliciting_in_flight -= packet.is_ack_eliciting
            if packet.in_flight:
                loss._cc.on_packet_acked(packet=packet, now=now)  # type: ignore[arg-type]
            if isinstance(packet, SentPacket):
                arrived.add(packet)
            else:
                for tell, about in packet.delivery_handlers:
                    tell(QuicDeliveryState.ACKED, *about)
        for burst in sent.take_bursts(start, stop):
            if burst.stop > newest:
                newest, newest_time = burst.stop - 1, burst.sent_time
            space.ack_eliciting_in_flight -= burst.stop - burst.first
            _burst_acknowledged(loss._cc, burst, now)
            arrived.add(burst)
    arrived.tell()
    return None if newest < 0 else (newest, newest_time)


def _burst_acknowledged(control: QuicCongestionControl, burst: SentBurst, now: float) -> None:
    """Tell congestion control of a burst: of all its packets at once where that comes to the same as of each."""
    assert isinstance(control, RenoCongestionControl), "as no other is configured"
    window, threshold, size = control.congestion_window, control.ssthresh, burst.sent_bytes
    is_slow_start = threshold is None or window + size <= threshold
    grows_once = threshold is not None and window >= threshold and control._congestion_stash + size < 2 * window
    is_at_once = is_slow_start or grows_once or burst.sent_time <= control._congestion_recovery_start_time
    for packet in [burst] if is_at_once else burst.packets():
        control.on_packet_acked(packet=packet, now=now)  # type: ignore[arg-type]


class Arrived:
    """Frames that were acknowledged; those that follow each other in a stream are told of as one."""

    def __init__(self) -> None:
        self._told: list[tuple[Delivered, Frame]] = []

    def add(self, packet: SentPacket | SentBurst) -> None:
        """Add a packet's, or a burst's."""
        told = self._told
        for frame in packet.frames:
            stream, start, stop, is_last = frame
            if told:
                last = told[-1][1]
                if last[0] is stream and last[2] == start and told[-1][0] == packet.delivered:
                    told[-1] = (packet.delivered, (stream, last[1], stop, is_last))
                    continue
            told.append((packet.delivered, frame))

    def tell(self) -> None:
        """Tell of all."""
        for delivered, frame in self._told:
            delivered(QuicDeliveryState.ACKED, *frame)


def _measure_round_trip(loss: QuicPacketRecovery, rtt_s: float, delay_s: float, now: float) -> None:
    delay_s = min(delay_s, loss.max_ack_delay)
    latest_s = max(rtt_s, LEAST_RTT_S)
    loss._rtt_min = min(loss._rtt_min, latest_s)
    if latest_s > loss._rtt_min + delay_s:
        latest_s -= delay_s
    loss._rtt_latest = latest_s
    if not loss._rtt_initialized:
        loss._rtt_first_sample_time, loss._rtt_initialized = now, True
        loss._rtt_variance, loss._rtt_smoothed = rtt_s / 2, rtt_s
    else:
        loss._rtt_variance = 3 / 4 * loss._rtt_variance + 1 / 4 * abs(loss._rtt_min - latest_s)
        loss._rtt_smoothed = 7 / 8 * loss._rtt_smoothed + 1 / 8 * latest_s
    loss._cc.on_rtt_measurement(now=now, rtt=rtt_s)
    loss._pacer.update_rate(congestion_window=loss._cc.congestion_window, smoothed_rtt=loss._rtt_smoothed)

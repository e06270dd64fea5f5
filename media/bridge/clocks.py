"""One clock for all tracks of a publisher: RTP times, which begin anywhere, become microseconds since it was offered.

They begin near nought because @moq/watch counts samples in 32 bits: what begins 12.4 hours up stays silent there.
Sender reports pair each track's RTP time with the publisher's one clock (RFC 3550 section 6.4.1): by them sound and
picture stay together. Until the first one a track goes by when it arrived.
"""

from __future__ import annotations

from typing import NamedTuple

ASTRAY_US = 10_000_000  # a report that puts a frame further from now is wrong, or its publisher's clock was set
NTP_FRACTION_BITS = 32
SECOND_US = 1_000_000


class SenderReport(NamedTuple):
    """A sender report's pair of times, and when it arrived (monotonic ns)."""

    ntp: int
    rtp_time: int
    arrived_ns: int


class Arrival(NamedTuple):
    """The RTP time of a packet, and when it arrived (monotonic ns)."""

    rtp_time: int
    arrived_ns: int


class SourceClock:
    """What the tracks of one publisher share: when its times begin (monotonic ns), how far its clock is off."""

    def __init__(self, began_ns: int) -> None:
        self._began_ns = began_ns
        self._offset_us: int | None = None

    def since_us(self, at_ns: int) -> int:
        """Return our time (µs) of a moment (monotonic ns)."""
        return (at_ns - self._began_ns) // 1_000

    def to_ours(self, report: SenderReport, ahead_us: int, now_us: int) -> int:
        """Return our time of what the publisher sampled `ahead_us` after a report's."""
        sampled_us = (report.ntp * SECOND_US >> NTP_FRACTION_BITS) + ahead_us
        if self._offset_us is None or abs(sampled_us + self._offset_us - now_us) > ASTRAY_US:
            self._offset_us = self.since_us(report.arrived_ns) - (report.ntp * SECOND_US >> NTP_FRACTION_BITS)
        return sampled_us + self._offset_us


class TrackClock:
    """The times of one track; `clock_rate` in Hz.

    `newest` is its newest packet: the first one read may have waited in the cache for as long as a picture's group.
    """

    def __init__(self, source: SourceClock, clock_rate: int, newest: Arrival | None = None) -> None:
        self._source, self._clock_rate = source, clock_rate
        # An RTP time and ours, while there is no report.
        self._anchor = None if newest is None else (newest.rtp_time, source.since_us(newest.arrived_ns))
        self._last_us = -1

    def timestamp_us(self, rtp_time: int, report: SenderReport | None, now_ns: int) -> int:
        """Return our time of a frame, later than that of the frame before (µs, never negative)."""
        now_us = self._source.since_us(now_ns)
        if report is not None:
            ahead_us = self._between_us(report.rtp_time, rtp_time)
            at_us = self._source.to_ours(report, ahead_us, now_us)
        else:
            at_us = self._by_arrival(rtp_time, now_us)
        if abs(at_us - now_us) > ASTRAY_US:
            at_us = now_us
        self._last_us = max(at_us, self._last_us + 1)
        return self._last_us

    def _by_arrival(self, rtp_time: int, now_us: int) -> int:
        if self._anchor is None:
            self._anchor = (rtp_time, now_us)
        at_us = self._anchor[1] + self._between_us(self._anchor[0], rtp_time)
        if abs(at_us - now_us) > ASTRAY_US:
            at_us = now_us
        self._anchor = (rtp_time, at_us)
        return at_us

    def _between_us(self, first: int, second: int) -> int:
        ahead = (second - first) & 0xFFFFFFFF
        return (ahead - (1 << 32) if ahead >= 1 << 31 else ahead) * SECOND_US // self._clock_rate

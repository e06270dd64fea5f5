"""Sound and picture as a player puts them together: by RTP times and sender reports, across changes of the layer.

Time passes without waiting: what happened is moved into the past.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from dataclasses import dataclass

import pytest

from media.forwarding.admission import FOREVER, Grant, Holding
from media.forwarding.tables import Count
from media.wire.codecs import Codec
from media.wire.rtcp import SenderReport, build_rtcp, parse_rtcp_untrusted
from media.wire.rtp import RtpHeader, build_rtp
from tests.media.test_kernel_robustness import AUDIO_PT, DELTA, KEY, PT, Sent
from tests.media.turns import Turns, open_turns, protected

MS, SECOND = 1_000_000, 1_000_000_000
NTP_BEGAN = 3_900_000_000 << 32
RID_ID = 3
APART_MS = 45  # EBU R37: what nobody notices
PICTURE_SSRC, SOUND_SSRC = 1000, 2000
AGED = {
    "tracks": ("last_ns", "last_keyframe_ns", "sr_arrival_ns"),
    "subscriptions": ("last_ns", "sr_due_ns", "rtx_refilled_ns"),
}


@dataclass
class Source:
    """One encoder: its clock begins anywhere, and it takes its time."""

    name: str
    ssrc: int
    rate: int
    began: int
    every_ns: int
    delay_ns: int
    number: int = 0

    def rtp(self, at_ns: int) -> int:
        return (self.began + at_ns * self.rate // SECOND) & 0xFFFFFFFF


def signed(ticks: int) -> int:
    return ((ticks + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class Show:
    """A publisher of sound and of two layers of a picture, its viewer, and the publisher's clock (ns from 0)."""

    def __init__(self, turns: Turns, reports: bool) -> None:
        self.turns, self.chance = turns, random.Random(7)
        self.began_ns, self.skipped_ns, self.reports = time.monotonic_ns(), 0, reports
        forwarder = turns.forwarder
        room = forwarder.open_room()
        forwarder.admission.require(room, Grant.WELCOME)
        self.publisher, self.viewer = turns.end(room, publishes=True), turns.end(room, publishes=False)
        forwarder.admission.publish_until(self.publisher.row, FOREVER)
        forwarder.admission.hold(self.viewer.row, Holding(Grant.WELCOME))
        picture = forwarder.open_track(room, "video", Codec.VP8, 90_000, ("l", "h"))
        sound = forwarder.open_track(room, "audio", Codec.OPUS, 48_000)
        for track, payload_type in ((picture, PT), (sound, AUDIO_PT)):
            forwarder.feed_track(
                track,
                self.publisher.row,
                payload_type=payload_type,
                rtx_payload_type=None,
                twcc_extension_id=None,
                nack=True,
                rid_extension_id=RID_ID,
            )
        self.layers = forwarder.layers(picture)
        self.subscription = forwarder.subscribe(picture, self.viewer.row, Sent(PICTURE_SSRC), first_seq=1)
        forwarder.subscribe(sound, self.viewer.row, Sent(SOUND_SSRC, 111), first_seq=1)
        frame = SECOND // 30
        self.sources = [
            Source("l", 5, 90_000, self.chance.getrandbits(32), frame, 5 * MS),
            Source("h", 6, 90_000, 2**32 - 45_000, frame, 90 * MS),  # its clock wraps within the test
            Source("sound", 7, 48_000, self.chance.getrandbits(32), 20 * MS, 2 * MS),
        ]
        self.mapped: dict[int, SenderReport] = {}

    def now_ns(self) -> int:
        return time.monotonic_ns() - self.began_ns + self.skipped_ns

    def skip_to(self, at_ns: int) -> None:
        ahead_ns = at_ns - self.now_ns()
        if ahead_ns > 0:
            self.skipped_ns += ahead_ns
            for table, columns in AGED.items():
                for column in columns:
                    values = getattr(self.turns.tables, table)[column][:16]
                    values[values > 0] -= ahead_ns

    def report(self, source: Source) -> None:
        """Send a report; anew where this machine did something else meanwhile."""
        for _ in range(100):
            at_ns = self.now_ns()
            ntp = NTP_BEGAN + (at_ns << 32) // SECOND
            report = SenderReport(source.ssrc, ntp, source.rtp(at_ns), 0, 0)
            datagram = protected(self.publisher, build_rtcp(report), rtcp=True)
            assert datagram is not None
            self.publisher.send(datagram)
            self.turns.turn()
            if self.now_ns() - at_ns < 5 * MS:
                return
        raise AssertionError("no 5 ms for itself")

    def frame(self, source: Source, captured_ns: int, *, is_key: bool) -> list[tuple[int, int, int]]:
        """Publish a frame; returns who got it live: (SSRC, RTP time, when it was captured)."""
        is_sound = source.name == "sound"
        extensions = {} if is_sound else {RID_ID: source.name.encode()}
        header = RtpHeader(
            AUDIO_PT if is_sound else PT,
            source.number & 0xFFFF,
            source.rtp(captured_ns),
            source.ssrc,
            True,
            extensions=extensions,
        )
        source.number += 1
        body = (b"" if is_sound else KEY if is_key else DELTA) + captured_ns.to_bytes(8)
        datagram = protected(self.publisher, build_rtp(header, body))
        assert datagram is not None
        self.publisher.send(datagram)
        self.turns.turn()
        packets, compounds = self.viewer.drain()
        for compound in compounds:
            for report in parse_rtcp_untrusted(compound):
                if isinstance(report, SenderReport):
                    self.mapped[report.ssrc] = report
        got = [(one.ssrc, one.timestamp, int.from_bytes(one.payload[-8:])) for one in packets]
        return [one for one in got if one[2] == captured_ns]

    def run(self, seconds: float, switch_ns: int, judge) -> None:  # type: ignore[no-untyped-def]
        """Let `judge` see each frame that the viewer gets live, while the layer changes every `switch_ns`."""
        due: list[tuple[int, int, Source, int]] = []
        number = itertools.count()
        for source in self.sources:
            for captured_ns in range(0, int(seconds * SECOND), source.every_ns):
                jitter_ns = self.chance.randrange(min(source.delay_ns // 2, 15 * MS))  # no frame overtakes another
                heapq.heappush(due, (captured_ns + source.delay_ns + jitter_ns, next(number), source, captured_ns))
        wanted, reported_ns, switched_ns = 0, dict.fromkeys((5, 6, 7), -SECOND), 0
        while due:
            at_ns, _, source, captured_ns = heapq.heappop(due)
            self.skip_to(at_ns)
            if self.reports and self.now_ns() - reported_ns[source.ssrc] >= SECOND:
                reported_ns[source.ssrc] = self.now_ns()
                self.report(source)
            if self.now_ns() - switched_ns >= switch_ns:
                switched_ns, wanted = self.now_ns(), 1 - wanted
                self.turns.forwarder.want_layer(self.subscription, self.layers[wanted])
            is_key = captured_ns // source.every_ns % 9 == 0
            for ssrc, rtp, captured in self.frame(source, captured_ns, is_key=is_key):
                judge(ssrc, rtp, captured)


def apart_ns(report: SenderReport, rtp: int, captured_ns: int, rate: int) -> int:
    """Return how much later than it was a player takes something to be captured."""
    reported_ns = (report.ntp - NTP_BEGAN) * SECOND >> 32
    return reported_ns + signed(rtp - report.rtp_timestamp) * SECOND // rate - captured_ns


@pytest.mark.parametrize("hears", ["each", "the first"])
def test_sound_and_picture_stay_together_while_the_layer_changes(hears: str) -> None:
    """Also for who hears nothing more after the first sender report, so that each change has to be exact by itself."""
    with open_turns() as turns:
        show = Show(turns, reports=True)
        errors_ns: dict[int, list[int]] = {PICTURE_SSRC: [], SOUND_SSRC: []}
        first: dict[int, SenderReport] = {}
        newest = dict.fromkeys(errors_ns, -1)

        def judge(ssrc: int, rtp: int, captured_ns: int) -> None:
            if ssrc not in show.mapped:
                return
            if captured_ns <= newest[ssrc]:
                return  # the other layer is behind, and begins with what was shown already
            newest[ssrc] = captured_ns
            first.setdefault(ssrc, show.mapped[ssrc])
            report = show.mapped[ssrc] if hears == "each" else first[ssrc]
            rate = 90_000 if ssrc == PICTURE_SSRC else 48_000
            errors_ns[ssrc].append(apart_ns(report, rtp, captured_ns, rate))

        show.run(5, 400 * MS, judge)
        pictures, sounds = errors_ns[PICTURE_SSRC], errors_ns[SOUND_SSRC]
        assert turns.tables.counters[Count.SWITCHES] >= 10
        assert (len(pictures) > 100, len(sounds) > 200) == (True, True)
        assert max(max(pictures) - min(sounds), max(sounds) - min(pictures)) < APART_MS * MS


@pytest.mark.parametrize("reports", [True, False])
def test_rtp_times_only_rise_while_the_layer_changes_also_without_reports(reports: bool) -> None:
    with open_turns() as turns:
        show = Show(turns, reports=reports)
        times: list[int] = []
        show.run(2, 300 * MS, lambda ssrc, rtp, captured_ns: times.append(rtp) if ssrc == PICTURE_SSRC else None)
        assert turns.tables.counters[Count.SWITCHES] >= 4
        assert all(0 < signed(later - earlier) < 90_000 for earlier, later in itertools.pairwise(times))

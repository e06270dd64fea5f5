"""The kernel against the reference: the same packets, rights and losses in, the same packets out, bit for bit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pylibsrtp import Error

from media.forwarding.admission import FOREVER, Grant, Holding
from media.forwarding.backlogs import EVERY_NS
from media.forwarding.kernel import fanout, payload, rtp_headers, verdicts
from media.forwarding.reference import decisions, tracks
from media.forwarding.reference.pacing import Pace
from media.forwarding.reference.turn import Publisher
from media.forwarding.reference.turn import turn as reference_turn
from media.forwarding.tables import AUDIO, VIDEO, Count, Shared
from media.wire.codecs import Codec, starts_keyframe, vp8_numbers
from media.wire.extensions import Passed
from media.wire.rtcp import Fir, Nack, Pli, build_rtcp
from media.wire.rtp import RtpHeader, build_rtp, parse_rtp_untrusted
from tests.media.packets import recorded
from tests.media.turns import End, Packet, Turns, open_turns, protected

EDGES = (0, 1, 2, 255, 256, 511, 512, 513, 1023, 32_766, 32_767, 32_768, 32_769, 65_533, 65_534, 65_535)
VIDEO_PT, VIDEO_RTX_PT, AUDIO_PT, RED_PT = 96, 97, 111, 63
RID_ID, REPAIRED_RID_ID = 3, 4
PAYLOADS = {"key": b"\x10\x00key", "delta": b"\x10\x01del", "part": b"\x00\x00a longer part", "empty": b""}
PASSED = {
    Passed.AUDIO_LEVEL: 5,
    Passed.ORIENTATION: 6,
    Passed.PLAYOUT_DELAY: 7,
    Passed.CAPTURE_TIME: 8,
    Passed.DEPENDENCY: 20,
}
VIEWERS = {Passed.AUDIO_LEVEL: 14, Passed.PLAYOUT_DELAY: 1, Passed.CAPTURE_TIME: 7}
DESCRIBED = (12, 0, 17)  # and the ids of dependency descriptors, viewer by viewer, 0 for none
RED_HEADS = {
    "red": b"\xef\x00\x00\x03\x6f" + b"old",
    "bare": b"\x6f",
    "broken": b"\xef\x00\x03\xff\x6f",
    "short": b"\xef",
}
L3T3_KEY, RECORDED_ID = "chromium156-av1-L3T3_KEY", 12
RIDS = {"video": "h", "low": "l"}
LOW_SSRC = 1000  # more than that of the other layer
AGES_NS = 10**9  # for which an octet takes a way: one packet leaves, and then none until the way is free
AGE_NS = 600_000_000  # longer than any of the kernel's half seconds
# What the reference decides; the rest is counted before or after it.
REASONS = {
    Count.MALFORMED_RTP,
    Count.UNKNOWN_PAYLOAD_TYPE,
    Count.UNKNOWN_LAYER,
    Count.SECOND_SSRC,
    Count.PUBLISH_LAPSED,
    Count.DUPLICATE,
    Count.TOO_OLD,
    Count.TOO_LARGE,
    Count.NOT_ADMITTED,
    Count.LAPSED,
    Count.ROOM_CLOSED,
    Count.AWAITING_KEYFRAME,
    Count.BEFORE_ANCHOR,
    Count.RETRANSMISSION_BUDGET,
    Count.RETRANSMISSION_GONE,
    Count.PADDING,
    Count.NACKS_IGNORED,
    Count.OVERTAKEN,
    Count.MALFORMED_RED,
    Count.OTHER_LAYER,
    Count.SKIPPED,
}


@dataclass
class Sent:
    payload_type: int
    rtx_payload_type: int | None
    ssrc: int
    rtx_ssrc: int | None
    stamp: int = 0
    passed: Mapping[Passed, int] = field(default_factory=dict)
    red_payload_type: int | None = None


@dataclass
class Watching:
    """A viewer on both sides."""

    end: End
    viewer: decisions.Viewer
    rows: list[int] = field(default_factory=list)
    got: list[Packet] = field(default_factory=list)


class Both:
    """The kernel and the reference, told the same. With `simulcast` the video has two layers, named in `RIDS`."""

    codec = Codec.VP8  # of the video

    def __init__(self, turns: Turns, first: int, *, simulcast: bool = False) -> None:
        self.turns, self.forwarder = turns, turns.forwarder
        self.room_row = self.forwarder.open_room()
        self.room = decisions.Room(0)
        self.require(0)
        rids = list(RIDS.values()) if simulcast else []
        video = self.forwarder.open_track(self.room_row, "video", self.codec, 90_000, rids)
        audio = self.forwarder.open_track(self.room_row, "audio", Codec.OPUS, 48_000)
        names = ["video", "low"] if simulcast else ["video"]
        self.rows = {**dict(zip(names, self.forwarder.layers(video), strict=True)), "audio": audio}
        self.tracks = {name: tracks.Track(VIDEO, self.codec, 90_000) for name in names}
        if simulcast:
            for name, track in self.tracks.items():
                track.layers, track.rid = list(self.tracks.values()), RIDS[name].encode()
        self.tracks["audio"] = tracks.Track(AUDIO, Codec.OPUS, 48_000)
        self.watching: list[Watching] = []
        self.last = dict.fromkeys(("video", "low", "audio"), first)
        self.timestamps = {"video": 2**32 - 9000, "low": 77, "audio": 0}
        self.pictures = {"video": 32_700, "low": 120}
        self.probes = {"video": 0, "low": 0}
        self.feed()

    def feed(self) -> None:
        """Connect a new publisher to both tracks; the former one is disconnected."""
        self.publisher = Publisher(
            FOREVER, rid_id=RID_ID, repaired_rid_id=REPAIRED_RID_ID, passed=PASSED, red_payload_types={RED_PT}
        )
        self.end = self.turns.end(self.room_row, publishes=True)
        self.forwarder.admission.publish_until(self.end.row, FOREVER)
        for kind, payload_type, rtx in (("video", VIDEO_PT, VIDEO_RTX_PT), ("audio", AUDIO_PT, None)):
            self.forwarder.feed_track(
                self.rows[kind],
                self.end.row,
                payload_type=payload_type,
                rtx_payload_type=rtx,
                twcc_extension_id=None,
                nack=True,
                rid_extension_id=RID_ID,
                repaired_rid_extension_id=REPAIRED_RID_ID,
                passed=PASSED,
                red_payload_type=RED_PT if kind == "audio" else None,
            )
            track = self.tracks[kind]
            for layer in track.layers or [track]:
                layer.ssrc = layer.rtx_ssrc = None
            self.publisher.payload_types[payload_type] = (track, False)
            if rtx is not None:
                self.publisher.payload_types[rtx] = (track, True)
        self.publisher.payload_types[RED_PT] = (self.tracks["audio"], False)

    def join(self, *, rtx: bool) -> Watching:
        viewer = decisions.Viewer(self.room, 0)
        watching = Watching(self.turns.end(self.room_row, publishes=False), viewer)
        for kind in ("video", "audio"):
            number = 1000 * len(self.watching) + (1 if kind == "video" else 2)
            red = 99 if rtx else None
            described = DESCRIBED[len(self.watching) % len(DESCRIBED)]
            passed = VIEWERS | ({Passed.DEPENDENCY: described} if described else {})
            sent = Sent(120, 121 if rtx else None, number, number + 100 if rtx else None, 0, passed, red)
            row = self.forwarder.subscribe(self.rows[kind], watching.end.row, sent, first_seq=32_767 - number % 7)
            record = self.turns.tables.subscriptions[row]
            subscription = decisions.Subscription(
                self.tracks[kind],
                self.tracks[kind],
                viewer,
                sent.payload_type,
                sent.ssrc,
                sent.rtx_payload_type,
                sent.rtx_ssrc,
                last_seq=int(record["last_seq"]),
                rtx_seq=int(record["rtx_seq"]),
                passed=passed,
                red_payload_type=red,
            )
            viewer.subscriptions.append(subscription)
            self.tracks[kind].subscriptions.insert(0, subscription)
            watching.rows.append(row)
        self.watching.append(watching)
        self.hold(watching, 1, FOREVER, 0)
        return watching

    def want(self, watching: Watching, layer: str) -> None:
        """Have a viewer get another layer of the video, if there is one."""
        if layer in self.rows:
            self.forwarder.want_layer(watching.rows[0], self.rows[layer])
            watching.viewer.subscriptions[0].wanted = self.tracks[layer]

    def reserve(self, layer: str, grants: int) -> None:
        """Have a layer of the video require more than the room does."""
        if layer in self.rows:
            self.forwarder.admission.require_for_layer(self.rows[layer], Grant(grants))
            self.tracks[layer].requires = grants

    def require(self, grants: int) -> None:
        self.room.requires = grants
        self.forwarder.admission.require(self.room_row, Grant(grants))
        self._note_opening()

    def open_until(self, until_ns: int) -> None:
        self.room.open_until = until_ns
        self.forwarder.admission.open_until(self.room_row, until_ns)
        self._note_opening()

    def _note_opening(self) -> None:
        self.room.opened_ns = int(self.turns.tables.rooms["opened_ns"][self.room_row])

    def publish_until(self, until_ns: int) -> None:
        self.publisher.publish_until = until_ns
        self.forwarder.admission.publish_until(self.end.row, until_ns)

    def hold(self, watching: Watching, holds: int, until_ns: int, keeps: int) -> None:
        viewer = watching.viewer
        viewer.holds, viewer.until, viewer.keeps = holds, until_ns, keeps
        self.forwarder.admission.hold(watching.end.row, Holding(Grant(holds), until_ns, Grant(keeps)))

    def age(self) -> None:
        """Let more than half a second pass, by moving everything that happened into the past."""
        tables = self.turns.tables
        tables.rooms["opened_ns"][self.room_row] -= AGE_NS
        self._note_opening()
        for column in ("last_ns", "last_keyframe_ns"):
            tables.tracks[column][: len(self.rows)] -= AGE_NS
        for track in self.tracks.values():
            track.last_ns -= AGE_NS
            track.key_ns -= AGE_NS
        for watching in self.watching:
            for row, subscription in zip(watching.rows, watching.viewer.subscriptions, strict=True):
                if subscription.last_ns is not None:
                    tables.subscriptions["last_ns"][row] -= AGE_NS
                    subscription.last_ns -= AGE_NS
                if subscription.backlog is not None:
                    tables.backlogs["since_ns"][row] -= AGE_NS
                    subscription.backlog.since_ns -= AGE_NS

    def pace(self, watching: Watching, octet_ns: int) -> None:
        """Have an octet take a viewer's way for so long from now on; the way is free."""
        watching.viewer.pace = Pace(octet_ns)
        record = self.turns.tables.transports
        record["octet_ns"][watching.end.row], record["taken_ns"][watching.end.row] = octet_ns, 0

    def step(self, arriving: list[tuple[Watching | None, bytes]]) -> None:
        """Let both take the same datagrams in one turn, and compare all that came of it."""
        sent: list[tuple[Publisher | decisions.Viewer, bytes]] = []
        lapsed = self.publisher.publish_until <= time.monotonic_ns()
        for watching, data in arriving:
            end = self.end if watching is None else watching.end
            datagram = protected(end, data, rtcp=watching is not None)
            if datagram is None:
                continue
            end.send(datagram)
            if watching is not None:
                sent.append((watching.viewer, data))
            elif lapsed or protected_is_fresh(end, datagram):
                sent.append((self.publisher, data))
        before = self.turns.counts()
        self.turns.tables.shared[Shared.WAITING_DUE] = 0
        self.turns.turn()
        counted = {count: number - before[count] for count, number in self.turns.counts().items()}
        rows = [self.end.row, *(watching.end.row for watching in self.watching)]
        now = int(self.turns.tables.transports["last_media_ns"][rows].max()) or time.monotonic_ns()
        if lapsed:
            now = time.monotonic_ns()
        looked_ns = int(self.turns.tables.shared[Shared.WAITING_DUE])  # at what waited, also where nothing arrived
        now = looked_ns - EVERY_NS if looked_ns else now
        outcomes = reference_turn(sent, list(self.tracks.values()), now)
        for watching in self.watching:
            expected = [
                Packet(o.payload_type, o.ssrc, o.sequence_number, o.timestamp, o.marker, o.payload, dict(o.extensions))
                for o in outcomes
                if isinstance(o, decisions.Outgoing) and o.subscription.viewer is watching.viewer
            ]
            assert watching.end.drain()[0] == expected
            watching.got += expected
        reasons = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, decisions.Dropped))
        assert reasons == Counter({count: counted[count] for count in REASONS if counted[count]})
        for kind, row in self.rows.items():
            assert bool(self.turns.tables.tracks["keyframe_wanted"][row]) == self.tracks[kind].keyframe_wanted
        for watching in self.watching:
            for row, subscription in zip(watching.rows, watching.viewer.subscriptions, strict=True):
                assert int(self.turns.tables.subscriptions["track"][row]) == self.row_of(subscription.track)
        assert counted[Count.PROTECT_FAILED] == 0

    def row_of(self, track: tracks.Track) -> int:
        """Return the row of a track."""
        return next(row for kind, row in self.rows.items() if self.tracks[kind] is track)

    def rtp(
        self,
        kind: str,
        ahead: int,
        what: str,
        *,
        marker: bool = False,
        repairs: bool = False,
        same_frame: bool = False,
        ssrc: int = 5,
        numbering: str = "none",
        is_named: bool = True,
        told: tuple[tuple[Passed, bytes], ...] = (),
        redundancy: str = "none",
    ) -> bytes:
        """Write a publisher's next packet, `ahead` of the last; as a repair it comes through RTX.

        `numbering` says which of VP8's picture numbers it has, `is_named` whether it says of which layer it is, `told`
        what else its header has, `redundancy` what sound has before it.
        """
        kind = kind if kind in self.rows else "video"
        number = (self.last[kind] + ahead) & 0xFFFF
        timestamp = self.timestamps[kind]
        if not repairs:
            self.last[kind] = number if 0 < ahead < 0x8000 else self.last[kind]
            self.timestamps[kind] = timestamp = (timestamp + (0 if same_frame else 3000)) & 0xFFFFFFFF
        payload_type = AUDIO_PT if kind == "audio" else VIDEO_PT
        self.pictures[kind] = self.pictures.get(kind, 0) + (what != "empty" and not repairs and not same_frame)
        body = self.payload(kind, what, number, numbering)
        ssrc += LOW_SSRC if kind == "low" and ssrc else 0
        extensions = {RID_ID: RIDS[kind].encode()} if kind != "audio" and is_named else {}
        if repairs and kind != "audio":
            self.probes[kind] += 1
            payload_type, body, number = VIDEO_RTX_PT, number.to_bytes(2) + body, self.probes[kind]
            ssrc = 77 + (LOW_SSRC if kind == "low" else 0)
            extensions = {REPAIRED_RID_ID: RIDS[kind].encode()} if is_named else {}
        if kind == "audio" and redundancy != "none":
            payload_type, body = RED_PT, RED_HEADS[redundancy] + body
        extensions |= {PASSED[passed]: value for passed, value in told}
        header = RtpHeader(payload_type, number, timestamp, ssrc, marker, extensions=extensions)
        return build_rtp(header, body, padding=1 if what == "empty" and not repairs else 0)

    def payload(self, kind: str, what: str, number: int, numbering: str) -> bytes:
        """Write what a packet carries: for each number the same."""
        body = PAYLOADS[what] + (number.to_bytes(2) if what != "empty" else b"")
        return numbered(body, self.pictures[kind], numbering) if kind != "audio" and body else body


def numbered(payload: bytes, picture: int, numbering: str) -> bytes:
    """Give a payload of VP8 a descriptor with numbers (RFC 7741 section 4.2)."""
    numbers = {
        "none": b"",
        "short": b"\x80" + bytes([picture & 0x7F]),
        "long": b"\x80" + (0x8000 | picture & 0x7FFF).to_bytes(2),
        "base": b"\x60" + bytes([picture & 0xFF, 0x20]),
        "all": b"\xe0" + (0x8000 | picture & 0x7FFF).to_bytes(2) + bytes([picture & 0xFF, 0x20]),
    }[numbering]
    return bytes([payload[0] | (0x80 if numbers else 0)]) + numbers + payload[1:]


def protected_is_fresh(end: End, datagram: bytes) -> bool:
    """Whether libsrtp takes it: the kernel's context has seen exactly what this one has."""
    try:
        end.shadow.unprotect(datagram)
    except Error:
        return False
    return True


def told(name: str) -> Iterator[bytes]:
    """Yield the dependency descriptors of a recording, of which the first brings a structure."""
    headers = (parse_rtp_untrusted(datagram).header for datagram in recorded(name, "rtp"))
    return (header.extensions[RECORDED_ID] for header in headers if RECORDED_ID in header.extensions)


# -- histories ---------------------------------------------------------------------------------------------------------

ODD_JUMPS = [0, -511, -512, -513, 5, -255, -256, -257, 300, 510, 511, 512, 513, 16_383, 16_384, 30_000]
TOLD = [
    ((Passed.AUDIO_LEVEL, b"\x85"), (Passed.CAPTURE_TIME, bytes(8))),
    ((Passed.CAPTURE_TIME, bytes(range(16))), (Passed.PLAYOUT_DELAY, b"abc"), (Passed.ORIENTATION, b"\x01")),
    ((Passed.PLAYOUT_DELAY, b"xyz"),),
    ((Passed.DEPENDENCY, bytes.fromhex("850102")), (Passed.CAPTURE_TIME, bytes(8))),
    ((Passed.DEPENDENCY, bytes.fromhex("8afffe")),),
    ((Passed.DEPENDENCY, next(told(L3T3_KEY))),),
    ((Passed.DEPENDENCY, b"\x80\0\1\xff"), (Passed.PLAYOUT_DELAY, b"xyz")),
    ((Passed.PLAYOUT_DELAY, b"xy"), (Passed.CAPTURE_TIME, bytes(9)), (Passed.AUDIO_LEVEL, b"ab")),
]
packets = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["video"] * 4 + ["low"] * 3 + ["audio"]),
        "ahead": st.sampled_from([1] * 60 + ODD_JUMPS + [-1, -2, -3, 2, 3] * 2),
        "what": st.sampled_from(["delta"] * 8 + ["key", "key", "part", "empty"]),
        "marker": st.booleans(),
        "same_frame": st.booleans(),
        "repairs": st.sampled_from([False] * 12 + [True]),
        "ssrc": st.sampled_from([5] * 40 + [6, 0]),
        "numbering": st.sampled_from(["all"] * 4 + ["none", "short", "long", "base"]),
        "is_named": st.sampled_from([True] * 3 + [False]),
        "told": st.sampled_from([()] * 2 + TOLD),
        "redundancy": st.sampled_from(["none"] * 2 + ["red"] * 2 + ["bare", "broken", "short"]),
    }
)
bursts = st.lists(packets, min_size=1, max_size=8)
viewers = st.integers(0, 2)
paces = st.sampled_from([0, AGES_NS, AGES_NS])
changes = st.one_of(
    st.tuples(st.just("require"), st.integers(0, 3)),
    st.tuples(st.just("hold"), viewers, st.integers(0, 3), st.sampled_from([0, FOREVER]), st.integers(0, 3)),
    st.tuples(st.just("closed")),
    st.tuples(st.just("silenced")),
)
steps = st.one_of(
    *[st.tuples(st.just("packets"), bursts)] * 4,
    st.tuples(st.just("nack"), viewers, st.integers(0, 1), st.lists(st.integers(0, 40), min_size=1, max_size=8)),
    st.tuples(st.just("want"), viewers, st.sampled_from([Pli, Fir])),
    st.tuples(st.just("during"), changes, bursts),
    st.tuples(st.just("join"), st.booleans(), paces),
    st.tuples(st.just("switch"), viewers, st.sampled_from(["video", "low"])),
    st.tuples(st.just("reserve"), st.sampled_from(["video", "low"]), st.integers(0, 3)),
    st.tuples(st.just("age")),
    st.tuples(st.just("feed")),
    *[st.tuples(st.just("pace"), viewers, paces)] * 2,
    *[st.tuples(st.just("quiet"), viewers, st.integers(0, 4), st.none() | changes)] * 2,
)


def carry_out(both: Both, step: tuple) -> None:  # type: ignore[type-arg]
    match step:
        case "packets", specs:
            both.step([(None, both.rtp(**spec)) for spec in specs])
        case "nack", number, which, behind if number < len(both.watching):
            watching = both.watching[number]
            subscription = watching.viewer.subscriptions[which]
            numbers = tuple(sorted({(subscription.last_seq - back) & 0xFFFF for back in behind}))
            both.step([(watching, build_rtcp(Nack(9, subscription.ssrc, numbers)))])
        case "want", number, kind if number < len(both.watching):
            watching = both.watching[number]
            ssrc = watching.viewer.subscriptions[0].ssrc
            both.step([(watching, build_rtcp(Pli(9, ssrc) if kind is Pli else Fir(9, ((4, 1), (ssrc, 1)))))])
        case "during", change, specs:
            make(both, change)
            carry_out(both, ("packets", specs))
            for number in range(len(both.watching)):
                carry_out(both, ("nack", number, 0, [0, 1]))
            allow_all(both)
        case "switch", number, layer if number < len(both.watching):
            both.want(both.watching[number], layer)
        case "reserve", layer, grants:
            both.reserve(layer, grants)
        case "join", rtx, octet_ns if len(both.watching) < 3:
            both.pace(both.join(rtx=rtx), octet_ns)
        case ("age",):
            both.age()
        case "quiet", number, ages, change if number < len(both.watching):
            watching = both.watching[number]
            both.pace(watching, watching.viewer.pace.octet_ns)
            for _ in range(ages):
                both.age()
            if change:
                make(both, change)
            both.step([])
            allow_all(both)
        case "pace", number, octet_ns if number < len(both.watching):
            both.pace(both.watching[number], octet_ns)
        case ("feed",) if len(both.turns.ends) < 10:
            both.feed()


def allow_all(both: Both) -> None:
    for watching in both.watching:
        both.hold(watching, 1, FOREVER, 0)
    both.require(1)
    both.open_until(FOREVER)
    both.publish_until(FOREVER)


def make(both: Both, change: tuple) -> None:  # type: ignore[type-arg]
    match change:
        case "require", grants:
            both.require(grants)
        case "hold", number, holds, until_ns, keeps if number < len(both.watching):
            both.hold(both.watching[number], holds, until_ns, keeps)
        case ("closed",):
            both.open_until(0)
        case ("silenced",):
            both.publish_until(0)


@settings(
    max_examples=400,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(EDGES), st.booleans(), paces, st.lists(steps, min_size=8, max_size=40))
def test_the_kernel_sends_what_the_reference_sends(
    first: int,
    simulcast: bool,
    octet_ns: int,
    history: list[tuple],  # type: ignore[type-arg]
) -> None:
    with open_turns() as turns:
        both = Both(turns, first, simulcast=simulcast)
        both.require(1)
        both.pace(both.join(rtx=True), octet_ns)
        both.step([(None, a_packet(both, "key"))])
        for step in history:
            carry_out(both, step)


def a_packet(both: Both, what: str, ahead: int = 1, kind: str = "video") -> bytes:
    return both.rtp(kind, ahead, what)


@pytest.mark.parametrize("first", EDGES)
def test_a_long_history_agrees_at_every_edge(first: int) -> None:
    with open_turns() as turns:
        both = Both(turns, first)
        both.join(rtx=True)
        both.join(rtx=False)
        both.step([(None, a_packet(both, "key"))])
        for number in range(60):
            order = [1, 2, -1, 1, 1, 3, -2, 1]
            both.step([(None, a_packet(both, "delta", ahead)) for ahead in order])
            if number % 10 == 5:
                for watching in both.watching:
                    last = watching.viewer.subscriptions[0].last_seq
                    lost = tuple((last - back) & 0xFFFF for back in range(30, 0, -1))
                    both.step([(watching, build_rtcp(Nack(9, watching.viewer.subscriptions[0].ssrc, lost)))])
            if number == 30:
                both.step([(None, a_packet(both, "key"))])
                both.join(rtx=True)


def test_a_keyframe_whose_followers_are_gone_is_not_replayed() -> None:
    with open_turns() as turns:
        both = Both(turns, 0)
        both.step([(None, a_packet(both, "key"))])
        for _ in range(5):
            both.step([(None, a_packet(both, "delta", 300))])  # never the keyframe's own place
        both.join(rtx=True)
        both.step([(None, a_packet(both, "delta"))])
        assert turns.tables.counters[Count.REPLAYED] == 0
        assert both.tracks["video"].keyframe_wanted


def test_those_who_come_back_after_a_one_to_one_see_nothing_of_its_end() -> None:
    with open_turns() as turns:
        both = Both(turns, 0)
        chosen, waiting = both.join(rtx=True), both.join(rtx=True)
        both.require(Grant.CHOSEN)
        both.hold(chosen, Grant.CHOSEN, FOREVER, 0)
        both.step([(None, a_packet(both, "key")), (None, a_packet(both, "delta"))])
        both.require(0)
        both.step([(None, a_packet(both, "delta"))])
        assert waiting.viewer.subscriptions[0].last_ns is None
        assert both.tracks["video"].keyframe_wanted
        both.step([(None, a_packet(both, "key")), (None, a_packet(both, "delta"))])
        assert waiting.viewer.subscriptions[0].last_ns is not None


def test_what_a_closed_room_was_sent_is_not_replayed_when_it_opens_again() -> None:
    with open_turns() as turns:
        both = Both(turns, 0)
        watching = both.join(rtx=True)
        both.open_until(0)
        both.step([(None, a_packet(both, "key"))])
        both.open_until(FOREVER)
        both.step([(None, a_packet(both, "delta"))])
        assert watching.viewer.subscriptions[0].last_ns is None


def test_who_has_no_rtx_gets_the_same_octets_again_padding_included() -> None:
    with open_turns() as turns:
        both = Both(turns, 0)
        watching = both.join(rtx=False)
        both.step([(None, a_packet(both, what)) for what in ("key", "part", "delta", "empty")])
        subscription = watching.viewer.subscriptions[0]
        lost = tuple(subscription.last_seq - back for back in (3, 2, 1, 0))
        both.step([(watching, build_rtcp(Nack(9, subscription.ssrc, lost)))])  # its end compares the octets
        late = both.join(rtx=False)
        both.step([(None, a_packet(both, "delta"))])
        subscription = late.viewer.subscriptions[0]
        lost = tuple(subscription.last_seq - back for back in (4, 3, 2, 1, 0))
        both.step([(late, build_rtcp(Nack(9, subscription.ssrc, lost)))])
        assert turns.tables.counters[Count.RETRANSMITTED] == 9


def of_layer(both: Both, layer: str, what: str, numbering: str = "all") -> tuple[None, bytes]:
    return None, both.rtp(layer, 1, what, numbering=numbering)


def test_a_viewer_goes_over_to_another_layer_at_its_keyframe_and_notices_no_gap() -> None:
    with open_turns() as turns:
        both = Both(turns, 0, simulcast=True)
        watching = both.join(rtx=True)
        both.step([of_layer(both, "video", "key"), of_layer(both, "low", "key")])
        both.step([of_layer(both, "video", "delta")])
        both.age()  # no keyframe of the other layer is young enough to be replayed
        both.want(watching, "low")
        both.step([of_layer(both, "video", "delta"), of_layer(both, "low", "delta")])
        subscription = watching.viewer.subscriptions[0]
        assert subscription.track is both.tracks["video"]
        assert both.tracks["low"].keyframe_wanted
        before = subscription.last_seq, subscription.last_picture, subscription.last_base
        both.step([of_layer(both, "low", "key"), of_layer(both, "video", "delta")])
        assert subscription.track is both.tracks["low"]
        seq, picture, base = before
        # The delta of the former layer came in the same turn, after its viewer had gone over or before.
        assert subscription.last_seq - seq in (1, 2)
        assert subscription.last_picture - picture == subscription.last_seq - seq
        assert (subscription.last_base - base) & 0xFF == subscription.last_seq - seq
        assert turns.counts()[Count.SWITCHES] == 1


def test_a_young_keyframe_of_the_wanted_layer_is_replayed_at_once() -> None:
    with open_turns() as turns:
        both = Both(turns, 0, simulcast=True)
        watching = both.join(rtx=False)
        both.step([of_layer(both, "video", "key"), of_layer(both, "low", "key")])
        both.want(watching, "low")
        both.step([of_layer(both, "low", "delta")])
        assert watching.viewer.subscriptions[0].track is both.tracks["low"]
        assert turns.counts()[Count.REPLAYED] == 2
        assert not both.tracks["low"].keyframe_wanted


def test_a_reserved_layer_goes_to_nobody_without_the_grant() -> None:
    with open_turns() as turns:
        both = Both(turns, 0, simulcast=True)
        with_hd, without = both.join(rtx=True), both.join(rtx=True)
        both.reserve("video", Grant.ENTITLED)
        both.hold(with_hd, Grant.ENTITLED | 1, FOREVER, 0)
        both.want(without, "low")
        both.step([of_layer(both, "video", "key"), of_layer(both, "low", "key")])
        both.want(without, "video")
        both.step([of_layer(both, "video", "key"), of_layer(both, "low", "delta")])
        subscription = without.viewer.subscriptions[0]
        assert subscription.track is both.tracks["low"]
        assert with_hd.viewer.subscriptions[0].track is both.tracks["video"]
        both.step([(without, build_rtcp(Nack(9, subscription.ssrc, (subscription.last_seq & 0xFFFF,))))])
        assert turns.counts()[Count.NOT_ADMITTED] > 0


@pytest.mark.parametrize("numbering", ["short", "long", "base"])
def test_picture_numbers_wrap(numbering: str) -> None:
    with open_turns() as turns:
        both = Both(turns, 0, simulcast=True)
        watching = both.join(rtx=True)
        for number in range(300):
            layer = "low" if number % 20 > 10 else "video"
            both.want(watching, layer)
            both.step([of_layer(both, name, "key", numbering) for name in ("video", "low")])
        assert turns.counts()[Count.SWITCHES] == 29


def test_a_packet_that_names_no_layer_before_its_ssrc_is_known_goes_nowhere() -> None:
    with open_turns() as turns:
        both = Both(turns, 0, simulcast=True)
        both.join(rtx=True)
        both.step([(None, both.rtp("low", 1, "key", is_named=False))])
        assert turns.counts()[Count.UNKNOWN_LAYER] == 1
        both.step([of_layer(both, "low", "key")])
        both.step([(None, both.rtp("low", 1, "delta", is_named=False))])
        assert turns.counts()[Count.UNKNOWN_LAYER] == 1


def test_retransmission_stops_at_its_budget_and_flows_again_later() -> None:
    with open_turns() as turns:
        both = Both(turns, 0)
        watching = both.join(rtx=True)
        both.step([(None, a_packet(both, "key") + bytes(1100)) for _ in range(40)])
        subscription = watching.viewer.subscriptions[0]
        lost = tuple((subscription.last_seq - back) & 0xFFFF for back in range(39, -1, -1))
        ask = protected(watching.end, build_rtcp(*[Nack(9, subscription.ssrc, lost)] * 6), rtcp=True)
        assert ask is not None
        watching.end.send(ask)
        began = time.monotonic_ns()
        turns.turn()
        size = len(PAYLOADS["key"]) + 2 + 1100 + decisions.RTX_HEADERS
        counts = turns.counts()
        burst = decisions.RTX_BURST // size
        refilled = (time.monotonic_ns() - began) * decisions.RTX_BYTES_PER_S // 1_000_000_000
        assert burst <= counts[Count.RETRANSMITTED] <= (decisions.RTX_BURST + refilled) // size
        assert counts[Count.RETRANSMITTED] + counts[Count.RETRANSMISSION_BUDGET] == 240
        now = time.monotonic_ns()
        granted = sum(isinstance(subscription.retransmit(lost[0], now), decisions.Outgoing) for _ in range(240))
        assert granted == burst
        turns.tables.subscriptions["rtx_refilled_ns"][watching.rows[0]] -= 500_000_000
        again = protected(watching.end, build_rtcp(Nack(9, subscription.ssrc, lost)), rtcp=True)
        assert again is not None
        watching.end.send(again)
        turns.turn()
        assert turns.counts()[Count.RETRANSMITTED] - counts[Count.RETRANSMITTED] == 40


# -- functions that both have ------------------------------------------------------------------------------------------

bits = st.integers(0, 31)
times = st.integers(0, 4) | st.just(FOREVER)


@given(bits, times, bits, times, bits, st.integers(0, 4))
def test_both_give_the_same_verdict(
    requires: int, open_until: int, holds: int, until: int, keeps: int, now: int
) -> None:
    viewer = decisions.Viewer(decisions.Room(requires, open_until), holds, until, keeps)
    compiled = verdicts.verdict(
        np.uint8(requires), np.int64(open_until), np.uint8(holds), np.int64(until), np.uint8(keeps), np.int64(now)
    )
    assert compiled == (decisions.verdict(viewer, now) or verdicts.ADMITTED)


@given(st.integers(0, 2**40), st.integers(0, 65_535))
def test_both_extend_numbers_alike(highest: int, seq: int) -> None:
    extended = tracks.unwrap(highest, seq)
    assert rtp_headers.unwrap(np.int64(highest), np.int64(seq)) == extended
    assert extended & 0xFFFF == seq
    assert -0x8000 <= extended - highest < 0x8000


HEADS = ["", "10", "9080", "90f0", "08", "a8", "18000165", "1800", "7c85", "0801"]


@settings(max_examples=500)
@given(st.sampled_from(Codec), st.sampled_from(HEADS).map(bytes.fromhex), st.binary(max_size=40))
def test_both_find_the_same_keyframes(codec: Codec, head: bytes, tail: bytes) -> None:
    data = head + tail
    # What lies behind the payload must not matter: it is another packet's bytes.
    for behind in (b"\x00", b"\x65", b"\xff"):
        array = np.frombuffer(data + behind * 8, np.uint8)
        compiled = payload.starts_keyframe(np.uint8(codec), array, np.int64(len(data)))
        assert bool(compiled) == starts_keyframe(codec, data)


@settings(max_examples=500)
@given(st.sampled_from(["", "90", "9080", "90e0", "9060", "10"]).map(bytes.fromhex), st.binary(max_size=8))
def test_both_find_the_same_picture_numbers(head: bytes, tail: bytes) -> None:
    data = head + tail
    array = np.frombuffer(data + b"\xff" * 8, np.uint8)
    assert payload.vp8_numbers(array, np.int64(len(data))) == vp8_numbers(data)


def messages_of(sizes: list[int]) -> int:
    """Count the GSO messages that packets of these sizes need: equal segments, and perhaps a smaller last one."""
    count, at = 0, 0
    while at < len(sizes):
        end = at + 1
        while end < len(sizes) and sizes[end] == sizes[at]:
            end += 1
        at = end + (end < len(sizes) and sizes[end] < sizes[at])
        count += 1
    return count


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=256))
def test_padding_is_small_and_never_makes_more_messages(sizes: list[int]) -> None:
    pads = np.full(256, -1, np.int64)
    fanout.plan_padding(np.array(sizes, np.int64), pads, np.int64(len(sizes)))
    assert all(0 <= pad <= fanout.PAD_LIMIT for pad in pads[: len(sizes)])
    assert (pads[len(sizes) :] == -1).all()
    assert messages_of([size + int(pad) for size, pad in zip(sizes, pads, strict=False)]) <= messages_of(sizes)

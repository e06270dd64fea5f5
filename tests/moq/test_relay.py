"""What the relay gives to whom: joining, falling behind, priorities, admission and the cut, on wires in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from media.moq.carriers.carrier import Code
from media.moq.protocol import events
from media.moq.protocol.events import Event
from media.moq.protocol.frames import Frame
from media.moq.protocol.messages import TrackInfo
from media.moq.protocol.session import Session
from media.moq.protocol.versions import Version
from media.moq.relaying.delivery import GRACE_NS, MAX_LIVE_GROUPS, Delivery
from media.moq.relaying.origin import MAX_CACHED_BYTES, MAX_CACHED_GROUPS, Broadcast, Group, Origin, Track, track_info
from media.moq.relaying.relay import MAX_FETCHES, MAX_LISTENING, MAX_SUBSCRIPTIONS, Peer, Relay
from tests.moq.nodes import Everything
from tests.moq.wires import Reset, Sent, Wire, Written, deliver

PATH = "room/bob"


@dataclass
class Clock:
    ns: int = 1_000_000_000

    def __call__(self) -> int:
        return self.ns


@dataclass(eq=False)
class Client:
    """A client's session joined in memory to a peer of the relay."""

    relay: Relay
    version: Version = Version.LITE_05
    rights: Everything = field(default_factory=Everything)

    def __post_init__(self) -> None:
        self.up, self.down = Wire(is_server=False), Wire()
        self.session = Session(self.up, self.version, origin=7)
        self.peer: Peer = self.relay.join(Session(self.down, self.version, origin=9), self.down, self.rights)
        self.settle()

    def settle(self) -> list[Event]:
        """Exchange everything there is; returns what the client sees."""
        found: list[Event] = []
        while True:
            self.peer.handle(deliver(self.up, self.peer.session))
            self.peer.write()
            if not self.down.out:
                return found
            found += deliver(self.down, self.session)

    def subscribe(self, track: str = "video", **wish: int) -> int:
        number = self.session.subscribe(PATH, track, **wish)
        assert number is not None
        return number


@dataclass
class Stage:
    """A relay with one broadcast of one track."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.origin = Origin()
        self.relay = Relay(self.origin, self.clock)
        self.broadcast = Broadcast(PATH)
        self.origin.begin(self.broadcast)
        self.video = self.broadcast.add_track("video", track_info(60))

    def group(self, sequence: int, *payloads: bytes, track: Track | None = None, finished: bool = True) -> Group:
        track = track or self.video
        group = track.begin_group(sequence, self.clock.ns)
        for number, payload in enumerate(payloads):
            track.append(group, Frame(number, payload, is_keyframe=number == 0))
        if finished:
            track.finish_group(group)
        return group


@pytest.fixture
def stage() -> Stage:
    return Stage()


def payloads(found: list[Event]) -> list[bytes]:
    return [event.payload for event in found if isinstance(event, events.FrameArrived)]


def groups(found: list[Event]) -> list[int]:
    return [event.sequence for event in found if isinstance(event, events.GroupBegan)]


def test_a_joiner_begins_with_the_latest_group(stage: Stage) -> None:
    stage.group(1, b"old")
    stage.group(2, b"key", b"delta", finished=False)
    viewer = Client(stage.relay)
    viewer.subscribe()
    found = viewer.settle()
    assert (groups(found), payloads(found)) == ([2], [b"key", b"delta"])
    stage.video.append(stage.video.groups[2], Frame(9, b"more"))
    assert payloads(viewer.settle()) == [b"more"]


def test_a_subscriber_may_ask_for_groups_of_the_past_and_for_no_more_than_some(stage: Stage) -> None:
    for sequence in range(5):
        stage.group(sequence, b"%d" % sequence)
    viewer = Client(stage.relay)
    viewer.subscribe(start=3)
    assert sorted(payloads(viewer.settle())) == [b"2", b"3", b"4"]


def test_frames_are_written_as_there_is_room_and_the_most_urgent_first(stage: Stage) -> None:
    audio = stage.broadcast.add_track("audio", track_info(80))
    viewer = Client(stage.relay)
    viewer.down.space = 0
    low, high = viewer.subscribe("video", priority=1), viewer.subscribe("audio", priority=2)
    viewer.settle()
    stage.group(1, b"v" * 100)
    stage.group(1, b"a" * 100, track=audio)
    assert payloads(viewer.settle()) == []
    viewer.down.space = 1
    assert [event.subscription for event in viewer.settle() if isinstance(event, events.FrameArrived)] == [high]
    viewer.down.space = 1
    assert [event.subscription for event in viewer.settle() if isinstance(event, events.FrameArrived)] == [low]


def test_where_a_subscriber_does_not_care_the_publishers_priority_decides(stage: Stage) -> None:
    audio = stage.broadcast.add_track("audio", track_info(80))
    viewer = Client(stage.relay)
    viewer.subscribe("video", priority=0)
    viewer.subscribe("audio", priority=0)
    viewer.settle()
    stage.group(1, b"v")
    stage.group(1, b"a", track=audio)
    assert payloads(viewer.settle()) == [b"a", b"v"]


def test_newer_groups_go_first_unless_they_are_wanted_in_order(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    stage.group(1, b"1")
    stage.group(2, b"2")
    assert payloads(viewer.settle()) == [b"2", b"1"]


def test_a_group_that_is_late_is_reset_and_the_next_one_comes(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe(max_latency_ms=500)
    viewer.settle()
    stage.group(1, b"begun", finished=False)
    viewer.settle()
    viewer.down.space = 0
    stage.video.append(stage.video.groups[1], Frame(1, b"never"))
    stage.group(2, b"fresh")
    stage.clock.ns += 500_000_001
    assert viewer.settle() == [events.GroupEnded(0, 1, is_complete=False)]
    viewer.down.space = 1_000
    assert payloads(viewer.settle()) == [b"fresh"]
    assert stage.relay.counters()["moq_groups_expired"] == 1


def test_a_group_just_overtaken_is_still_finished_when_only_the_latest_is_wanted(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe(max_latency_ms=0)
    viewer.settle()
    viewer.down.space = 0
    stage.group(1, b"tail")
    stage.group(2, b"head")
    viewer.settle()
    stage.clock.ns += GRACE_NS
    viewer.down.space = 1_000
    assert payloads(viewer.settle()) == [b"head", b"tail"]


def test_a_subscriber_far_behind_costs_a_bounded_number_of_groups_and_no_other_subscriber(stage: Stage) -> None:
    slow, quick = Client(stage.relay), Client(stage.relay)
    for viewer in (slow, quick):
        viewer.down.grants = 1_000
        viewer.subscribe(max_latency_ms=1 << 40)
        viewer.settle()
    slow.down.space = 0
    for sequence in range(100):
        stage.group(sequence, b"x" * 100)
        assert len(payloads(quick.settle())) == 1
        slow.settle()
    (delivery,) = slow.peer.deliveries.values()
    assert len(delivery.cursors) == MAX_LIVE_GROUPS  # type: ignore[union-attr]
    assert delivery.counts["groups_too_many"] == 100 - MAX_LIVE_GROUPS
    assert not slow.down.out


def test_groups_that_no_stream_is_granted_for_wait_and_are_dropped_without_a_trace(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe(max_latency_ms=100)
    viewer.settle()
    viewer.down.grants = viewer.down.opened[True]
    stage.group(1, b"1")
    stage.group(2, b"2")
    stage.clock.ns += GRACE_NS + 1
    assert viewer.settle() == []
    viewer.down.grants += 1
    found = viewer.settle()
    assert (groups(found), payloads(found)) == ([2], [b"2"])


def test_a_stream_whose_window_is_full_gets_no_more_than_it_takes(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    viewer.down.stream_space = 1_000
    stage.group(1, b"x" * 50_000)
    viewer.peer.write()
    pieces = [len(one.data) for one in viewer.down.out if isinstance(one, Written)]
    assert max(pieces) < 1_100
    viewer.down.stream_space = 0
    viewer.settle()
    stage.group(2, b"y")
    assert viewer.settle() == [events.GroupBegan(0, 2)]


def test_what_the_peer_stops_is_written_no_more(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    stage.group(1, b"begun", finished=False)
    viewer.peer.write()
    (stream,) = {one.stream for one in viewer.down.out if isinstance(one, Written) and one.stream & 2}
    viewer.settle()
    viewer.down.refused.add(stream)
    viewer.peer.handle(viewer.peer.session.stopped_untrusted(stream, 0))
    stage.video.append(stage.video.groups[1], Frame(1, b"unwanted"))
    assert viewer.settle() == []
    stage.group(2, b"next")
    assert payloads(viewer.settle()) == [b"next"]


# -- admission and the cut ---------------------------------------------------------------------------------------------


def test_each_piece_needs_admission_and_what_was_missed_is_not_shown_later(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    stage.group(1, b"seen", finished=False)
    assert payloads(viewer.settle()) == [b"seen"]
    viewer.rights.is_admitted = False
    stage.video.append(stage.video.groups[1], Frame(1, b"secret"))
    assert viewer.settle() == [events.GroupEnded(0, 1, is_complete=False)]
    stage.group(2, b"secret")
    assert viewer.settle() == []
    viewer.rights.is_admitted = True
    stage.video.append(stage.video.groups[1], Frame(2, b"secret"))
    assert viewer.settle() == []
    stage.group(3, b"open again")
    assert payloads(viewer.settle()) == [b"open again"]


def test_admission_is_asked_anew_after_a_fault_of_ours(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    written = Delivery.write_piece

    def write_and_fail(delivery: Delivery) -> int:
        written(delivery)
        raise RuntimeError

    monkeypatch.setattr(Delivery, "write_piece", write_and_fail)
    stage.group(1, b"shown", finished=False)
    with pytest.raises(RuntimeError):
        viewer.peer.write()
    monkeypatch.undo()
    viewer.rights.is_admitted = False
    stage.group(2, b"SECRET")
    assert payloads(viewer.settle()) == [b"shown"]


def test_a_group_that_begins_without_admission_is_missed_whole(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    viewer.rights.is_admitted = False
    group = stage.video.begin_group(1, stage.clock.ns)
    viewer.rights.is_admitted = True
    stage.video.append(group, Frame(1, b"of a group begun before"))
    assert viewer.settle() == []


@pytest.mark.parametrize("begins", [True, False])
def test_what_was_recorded_without_admission_is_not_sent_once_there_is_room_and_admission(begins: bool) -> None:
    stage = Stage()
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    group = stage.group(1, b"seen", finished=False)
    viewer.settle()
    viewer.rights.is_admitted = False
    if begins:
        stage.group(2, b"secret")
    else:
        stage.video.append(group, Frame(1, b"secret"))
    stage.video.send_datagram(7, Frame(1, b"secret"))
    viewer.rights.is_admitted = True
    found = viewer.settle()
    assert payloads(found) == []
    assert not [event for event in found if isinstance(event, events.DatagramArrived)]
    stage.group(3, b"open again")
    assert payloads(viewer.settle()) == [b"open again"]


def test_a_cut_takes_back_what_is_written_and_not_yet_gone(stage: Stage) -> None:
    viewer = Client(stage.relay)
    number = viewer.subscribe()
    viewer.settle()
    stage.group(1, b"secret" * 9_000, finished=False)
    stage.group(2, b"whole")
    viewer.peer.write()
    assert b"secret" in b"".join(one.data for one in viewer.down.out if isinstance(one, Written))
    viewer.rights.watches = viewer.rights.is_admitted = False
    viewer.peer.cut()
    assert not [one for one in viewer.down.out if isinstance(one, Written) and one.stream & 2]
    resets = {one.stream for one in viewer.down.out if isinstance(one, Reset) and one.code == Code.CUT}
    assert len(resets) == 3  # both groups, the one written whole as well, and the subscription
    stage.group(3, b"after")
    found = viewer.settle()
    assert payloads(found) == []
    assert events.SubscriptionEnded(number, Code.CUT) in found


def test_what_is_acknowledged_whole_needs_no_reset(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    stage.group(1, b"one")
    viewer.peer.write()
    (first,) = {one.stream for one in viewer.down.out if isinstance(one, Written) and one.stream & 2}
    viewer.settle()
    viewer.down.acknowledged.add(first)
    stage.group(2, b"two")
    viewer.settle()
    viewer.peer.cut()
    assert first not in {one.stream for one in viewer.down.out if isinstance(one, Reset)}


def test_a_cut_ends_announcements_datagrams_and_requests_that_wait(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.session.request_announcements("")
    viewer.subscribe()
    assert events.BroadcastAnnounced(PATH, ()) in viewer.settle()
    stage.video.send_datagram(1, Frame(1, b"secret"))
    assert any(isinstance(one, Sent) for one in viewer.down.out)
    viewer.rights.watches = viewer.rights.is_admitted = False
    viewer.peer.cut()
    assert not any(isinstance(one, Sent) for one in viewer.down.out)
    assert events.BroadcastRetracted(PATH) in viewer.settle()
    viewer.subscribe()
    assert any(isinstance(event, events.SubscriptionEnded) for event in viewer.settle())


def test_a_cut_from_one_broadcast_leaves_the_others(stage: Stage) -> None:
    other = Broadcast("room/eve")
    stage.origin.begin(other)
    track = other.add_track("video", track_info(60))
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.session.subscribe("room/eve", "video")
    viewer.settle()
    viewer.peer.cut(path=PATH)
    stage.group(1, b"bob")
    stage.group(1, b"eve", track=track)
    assert payloads(viewer.settle()) == [b"eve"]


def test_an_ejected_session_is_closed_with_its_code(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    viewer.peer.eject(4_403, "ticket expired")
    assert viewer.down.closed == (4_403, "ticket expired")
    assert not stage.relay.peers
    assert not stage.video.readers


def test_nobody_learns_which_broadcasts_exist_without_the_right(stage: Stage) -> None:
    viewer = Client(stage.relay, rights=Everything(watches=False))
    viewer.session.request_announcements("")
    viewer.session.request_track(PATH, "video")
    number = viewer.subscribe()
    found = viewer.settle()
    assert not [event for event in found if isinstance(event, events.BroadcastAnnounced)]
    assert events.TrackUnknown(PATH, "video") in found
    assert events.SubscriptionEnded(number, Code.NOT_FOUND) in found
    viewer.rights.watches = True
    viewer.peer.review()
    assert events.BroadcastAnnounced(PATH, ()) in viewer.settle()
    viewer.rights.watches = False
    viewer.peer.review()
    assert events.BroadcastRetracted(PATH) in viewer.settle()


# -- publishers --------------------------------------------------------------------------------------------------------


@dataclass
class Publishing:
    """A client that publishes one track, by hand."""

    client: Client

    def __post_init__(self) -> None:
        client = self.client
        (wanted,) = [event for event in client.settle() if isinstance(event, events.AnnouncementsWanted)] or [None]
        self.request = 1 if wanted is None else wanted.request
        client.session.begin_announcements(self.request, ["room/eve"])
        client.settle()

    def serve(self, timescale: int = 90_000) -> int:
        """Answer what the relay asks about a track; returns its subscription's request."""
        for _ in range(3):
            for event in self.client.settle():
                if isinstance(event, events.TrackWanted):
                    self.client.session.describe_track(event.request, TrackInfo(60, timescale=timescale))
                if isinstance(event, events.SubscriptionWanted):
                    self.client.session.accept(event.request, TrackInfo(60, timescale=timescale))
                    self.client.settle()
                    return event.request
        raise AssertionError("the relay asked for nothing")


@pytest.mark.parametrize("version", list(Version))
def test_a_publishers_frames_reach_a_subscriber_of_any_version_with_their_times(version: Version) -> None:
    stage = Stage()
    eve, viewer = Client(stage.relay, version), Client(stage.relay)
    publishing = Publishing(eve)
    assert viewer.session.request_track("room/eve", "video")
    viewer.session.subscribe("room/eve", "video")
    viewer.settle()
    request = publishing.serve()
    assert eve.session.open_group(request, 4)
    stream, writer = eve.session.open_group(request, 5)  # type: ignore[misc]
    frame = Frame(90_000, b"key")
    eve.up.write(stream, writer.header(frame) + frame.payload)
    eve.settle()
    found = viewer.settle()
    timestamp = 1_000_000 if version.traits.stamps_frames else stage.clock.ns // 1_000
    assert [event.timestamp for event in found if isinstance(event, events.FrameArrived)] == [timestamp]
    eve.peer.end()
    found = viewer.settle()
    assert events.GroupEnded(0, 5, is_complete=False) in found
    assert stage.origin.find("room/eve") is None


def test_without_the_right_nothing_is_published_and_with_its_end_everything_ends(stage: Stage) -> None:
    eve = Client(stage.relay, rights=Everything(publishes=False))
    Publishing(eve)
    assert stage.origin.find("room/eve") is None

    eve, viewer = Client(stage.relay), Client(stage.relay)
    publishing = Publishing(eve)
    viewer.session.subscribe("room/eve", "video")
    viewer.settle()
    request = publishing.serve()
    stream, writer = eve.session.open_group(request, 1)  # type: ignore[misc]
    for payload in (b"good", b"late"):
        frame = Frame(1, payload)
        eve.up.write(stream, writer.header(frame) + payload)
        eve.settle()
        eve.rights.publishes = False
    assert payloads(viewer.settle()) in ([b"good"], [])
    assert stage.origin.find("room/eve") is None


def test_a_publisher_does_not_hear_of_its_own_broadcast(stage: Stage) -> None:
    eve = Client(stage.relay)
    Publishing(eve)
    eve.session.request_announcements("")
    assert [event.path for event in eve.settle() if isinstance(event, events.BroadcastAnnounced)] == [PATH]


def test_a_track_that_nobody_reads_any_more_is_not_brought_any_more(stage: Stage) -> None:
    eve, viewer = Client(stage.relay), Client(stage.relay)
    publishing = Publishing(eve)
    number = viewer.session.subscribe("room/eve", "video")
    viewer.settle()
    request = publishing.serve()
    assert number is not None
    viewer.session.unsubscribe(number)
    viewer.settle()
    assert events.RequestEnded(request) in eve.settle()


def test_a_publisher_without_the_track_makes_the_subscriber_wait_no_longer(stage: Stage) -> None:
    eve, viewer = Client(stage.relay), Client(stage.relay)
    Publishing(eve)
    number = viewer.session.subscribe("room/eve", "smell")
    viewer.settle()
    (wanted,) = [event for event in eve.settle() if isinstance(event, events.TrackWanted)]
    eve.session.refuse(wanted.request, Code.NOT_FOUND)
    eve.settle()
    assert events.SubscriptionEnded(number, Code.NOT_FOUND) in viewer.settle()  # type: ignore[arg-type]


def test_the_newer_of_two_publishers_of_one_path_is_the_one_that_counts(stage: Stage) -> None:
    before = stage.broadcast
    after = Broadcast(PATH)
    stage.origin.begin(after)
    assert before.is_ended
    assert stage.origin.find(PATH) is after
    stage.origin.end(before)
    assert stage.origin.find(PATH) is after


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_track_keeps_no_more_groups_and_bytes_than_its_limits() -> None:
    stage = Stage()
    for sequence in range(MAX_CACHED_GROUPS + 10):
        stage.group(sequence, b"x")
    assert len(stage.video.groups) == MAX_CACHED_GROUPS
    for sequence in range(100, 110):
        stage.group(sequence, *[b"x" * (1 << 20)] * 4)
    assert stage.video.bytes <= MAX_CACHED_BYTES + 4 * (1 << 20)
    assert stage.video.bytes == sum(group.bytes for group in stage.video.groups.values())


def test_a_group_without_end_is_given_up(stage: Stage) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe()
    viewer.settle()
    group = stage.group(1, b"x", finished=False)
    viewer.settle()
    for _ in range(17):
        stage.video.append(group, Frame(1, bytes(1 << 20)))
    assert group.is_dropped
    assert events.GroupEnded(0, 1, is_complete=False) in viewer.settle()
    assert stage.video.counts["groups_too_long"] == 1
    assert stage.video.bytes == 0


def test_what_was_is_forgotten_when_a_room_opens(stage: Stage) -> None:
    stage.group(1, b"paid for", finished=False)
    stage.video.forget()
    viewer = Client(stage.relay)
    viewer.subscribe()
    assert payloads(viewer.settle()) == []
    stage.group(2, b"free")
    assert payloads(viewer.settle()) == [b"free"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_group_of_the_past_is_fetched_and_followed_while_it_grows(stage: Stage, finished: bool) -> None:
    group = stage.group(3, b"a", b"b" * 40_000, finished=finished)
    viewer = Client(stage.relay)
    viewer.session.fetch(PATH, "video", 3)
    found = viewer.settle()
    if not finished:
        stage.video.append(group, Frame(2, b"c"))
        stage.video.finish_group(group)
        found += viewer.settle()
    frames = [event.payload for event in found if isinstance(event, events.FetchedFrame)]
    assert frames == [b"a", b"b" * 40_000] + ([] if finished else [b"c"])
    assert [event.is_complete for event in found if isinstance(event, events.FetchEnded)] == [True]
    assert not viewer.peer.deliveries
    assert not stage.video.readers


@pytest.mark.parametrize("regained", [True, False])
def test_a_fetch_needs_admission_for_each_piece(stage: Stage, regained: bool) -> None:
    group = stage.group(3, b"a", finished=False)
    viewer = Client(stage.relay)
    viewer.session.fetch(PATH, "video", 3)
    viewer.settle()
    viewer.rights.is_admitted = False
    stage.video.append(group, Frame(2, b"secret"))
    viewer.rights.is_admitted = regained
    found = viewer.settle()
    assert not [event for event in found if isinstance(event, events.FetchedFrame)]
    assert [event.is_complete for event in found if isinstance(event, events.FetchEnded)] == [False]
    assert not viewer.peer.deliveries


def test_requests_beyond_the_limits_are_refused_and_nothing_else(stage: Stage) -> None:
    stage.group(1, b"x", finished=False)
    viewer = Client(stage.relay)
    viewer.up.grants = 10_000
    for _ in range(MAX_LISTENING + 1):
        viewer.session.request_announcements("")
    for _ in range(MAX_FETCHES + 1):
        viewer.session.fetch(PATH, "video", 1)
    found = viewer.settle()
    assert viewer.peer.counts["listeners_refused"] == 1
    assert viewer.peer.counts["requests_refused"] == 1
    for _ in range(MAX_SUBSCRIPTIONS):
        viewer.subscribe()
    found = viewer.settle()
    refused = [event for event in found if isinstance(event, events.SubscriptionEnded)]
    assert len(refused) == MAX_FETCHES
    assert viewer.down.closed is None

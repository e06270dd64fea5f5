"""Two sessions talk: every request, its answers, its end, in every version and cut into any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.moq.carriers.carrier import Code
from media.moq.protocol import events
from media.moq.protocol.frames import Frame
from media.moq.protocol.messages import Subscribe, SubscribeUpdate, TrackInfo, UniType, write_message
from media.moq.protocol.session import MAX_MALFORMED, PROBE_NS, Session
from media.moq.protocol.varint import varint
from media.moq.protocol.versions import Version
from tests.moq.wires import Pair, Reset, Stopped, Wire, Written

VERSIONS = list(Version)
STAMPED = [version for version in Version if version.traits.stamps_frames]
INFO = TrackInfo(60, max_latency_ms=500, timescale=1_000_000)


def subscribed(pair: Pair) -> tuple[int, int]:
    """Subscribe the client; returns its number and the server's request."""
    number = pair.client.subscribe("room/bob", "video", priority=3, max_latency_ms=40)
    assert number is not None
    (wanted,) = [event for event in pair.to_server() if isinstance(event, events.SubscriptionWanted)]
    assert (wanted.wish.broadcast, wanted.wish.track, wanted.wish.priority) == ("room/bob", "video", 3)
    pair.server.accept(wanted.request, INFO)
    assert (events.SubscriptionAccepted(number) in pair.to_client()) is not pair.version.traits.has_track_stream
    return number, wanted.request


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
@pytest.mark.parametrize("version", VERSIONS)
def test_broadcasts_are_announced_and_retracted(version: Version, piece: int) -> None:
    pair = Pair(version, piece)
    assert pair.client.request_announcements("room")
    (wanted,) = [event for event in pair.to_server() if isinstance(event, events.AnnouncementsWanted)]
    assert wanted.prefix == "room"
    pair.server.begin_announcements(wanted.request, ["room/bob", "room"])
    pair.server.announce(wanted.request, "room/eve")
    pair.server.retract(wanted.request, "room/bob")
    found = [event for event in pair.to_client() if not isinstance(event, events.SetupReceived)]
    assert [(type(event).__name__, event.path) for event in found] == [  # type: ignore[union-attr]
        ("BroadcastAnnounced", "room/bob"),
        ("BroadcastAnnounced", "room"),
        ("BroadcastAnnounced", "room/eve"),
        ("BroadcastRetracted", "room/bob"),
    ]
    assert {event.path for event in pair.client.ended()} == {"room", "room/eve"}  # type: ignore[union-attr]


@pytest.mark.parametrize("version", [Version.LITE_03, Version.LITE_04, Version.LITE_05])
def test_a_broadcast_announced_again_has_been_restarted(version: Version) -> None:
    pair = Pair(version)
    pair.client.request_announcements("")
    (wanted,) = [event for event in pair.to_server() if isinstance(event, events.AnnouncementsWanted)]
    pair.server.begin_announcements(wanted.request, ["bob"])
    pair.server.announce(wanted.request, "bob")
    found = [type(event).__name__ for event in pair.to_client() if not isinstance(event, events.SetupReceived)]
    assert found == ["BroadcastAnnounced", "BroadcastRetracted", "BroadcastAnnounced"]


@pytest.mark.parametrize("version", [version for version in Version if version.traits.has_setup])
def test_both_sides_say_who_they_are(version: Version) -> None:
    pair = Pair(version)
    assert pair.to_server() == [events.SetupReceived("/anon?jwt=abc", 7)]
    assert pair.to_client() == [events.SetupReceived(None, 9)]


@pytest.mark.parametrize("version", [version for version in Version if version.traits.has_track_stream])
def test_a_track_is_described_before_it_is_subscribed_to(version: Version) -> None:
    pair = Pair(version)
    assert pair.client.request_track("bob", "video")
    assert not [one for one in pair.up.out if isinstance(one, Written) and one.is_last and not one.stream & 2]
    (wanted,) = [event for event in pair.to_server() if isinstance(event, events.TrackWanted)]
    pair.server.describe_track(wanted.request, INFO)
    assert pair.to_client()[-1] == events.TrackDescribed("bob", "video", INFO)
    assert pair.client.request_track("bob", "smell")
    (wanted,) = [event for event in pair.to_server() if isinstance(event, events.TrackWanted)]
    pair.server.refuse(wanted.request, Code.NOT_FOUND)
    assert pair.to_client() == [events.TrackUnknown("bob", "smell")]


@pytest.mark.parametrize("version", VERSIONS)
def test_where_there_are_no_track_streams_none_is_opened(version: Version) -> None:
    assert Pair(version).client.request_track("bob", "video") is version.traits.has_track_stream


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
@pytest.mark.parametrize("version", VERSIONS)
def test_groups_arrive_with_their_frames(version: Version, piece: int) -> None:
    pair = Pair(version, piece)
    number, request = subscribed(pair)
    opened = pair.server.open_group(request, 5)
    assert opened is not None
    stream, writer = opened
    for frame in (Frame(1_000, b"key"), Frame(900, b""), Frame(34_000, b"x" * 300)):
        pair.down.write(stream, writer.header(frame) + frame.payload)
    pair.down.write(stream, b"", is_last=True)
    stamps = [1_000, 900, 34_000] if version.traits.stamps_frames else [None] * 3
    began = [events.SubscriptionAccepted(number)] if version.traits.has_track_stream else []
    assert pair.to_client() == [
        *began,
        events.GroupBegan(number, 5),
        events.FrameArrived(number, 5, stamps[0], b"key"),
        events.FrameArrived(number, 5, stamps[1], b""),
        events.FrameArrived(number, 5, stamps[2], b"x" * 300),
        events.GroupEnded(number, 5, is_complete=True),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_that_is_reset_is_incomplete(version: Version) -> None:
    pair = Pair(version)
    number, request = subscribed(pair)
    opened = pair.server.open_group(request, 5)
    assert opened is not None
    pair.to_client()
    pair.down.reset(opened[0], Code.EXPIRED)
    assert pair.to_client() == [events.GroupEnded(number, 5, is_complete=False)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_of_a_subscription_that_ended_is_stopped(version: Version) -> None:
    pair = Pair(version)
    number, request = subscribed(pair)
    opened = pair.server.open_group(request, 5)
    assert opened is not None
    pair.client.unsubscribe(number)
    assert pair.to_client() == []
    assert Stopped(opened[0], Code.NOT_FOUND) in pair.up.out
    found = pair.to_server()
    assert events.RequestEnded(request) in found
    assert events.GroupRefused(opened[0]) in found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subscription_changes_and_ends(version: Version) -> None:
    pair = Pair(version)
    number, request = subscribed(pair)
    own = next(one for one in pair.client._subscriptions.values() if one.number == number)
    pair.up.write(own.id, write_message(version, SubscribeUpdate(9, max_latency_ms=70)))
    assert pair.to_server() == [events.SubscriptionChanged(request, SubscribeUpdate(9, max_latency_ms=70))]
    pair.server.finish_subscription(request, 6)
    final = [events.FinalGroup(number, 6)] if version.traits.has_track_stream else []
    assert pair.to_client() == [*final, events.SubscriptionEnded(number, None)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_that_overtakes_the_end_of_its_subscription_still_counts(version: Version) -> None:
    pair = Pair(version)
    number, request = subscribed(pair)
    opened = pair.server.open_group(request, 5)
    assert opened is not None
    late = [one for one in pair.down.out if one.stream == opened[0]]  # type: ignore[union-attr]
    pair.down.out.clear()
    pair.server.finish_subscription(request, 6)
    assert events.SubscriptionEnded(number, None) in pair.to_client()
    pair.down.out.extend(late)
    assert pair.to_client() == [events.GroupBegan(number, 5)]
    pair.client.unsubscribe(number)
    pair.down.out.extend([Written(opened[0] + 4, late[0].data, is_last=False)])  # type: ignore[union-attr]
    assert pair.to_client() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subscription_is_refused_with_a_reason(version: Version) -> None:
    pair = Pair(version)
    number = pair.client.subscribe("bob", "video")
    (wanted,) = [event for event in pair.to_server() if isinstance(event, events.SubscriptionWanted)]
    pair.server.refuse(wanted.request, Code.FORBIDDEN)
    assert pair.to_client() in (
        [events.SubscriptionEnded(number, Code.FORBIDDEN)],  # type: ignore[arg-type]
        [events.SetupReceived(None, 9), events.SubscriptionEnded(number, Code.FORBIDDEN)],  # type: ignore[arg-type]
    )
    assert pair.to_server() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_of_the_past_is_fetched(version: Version) -> None:
    pair = Pair(version)
    assert pair.client.fetch("bob", "video", 12, priority=1)
    (wanted,) = [event for event in pair.to_server() if isinstance(event, events.FetchWanted)]
    assert (wanted.broadcast, wanted.track, wanted.priority, wanted.group) == ("bob", "video", 1, 12)
    writer = pair.server.frame_writer()
    pair.down.write(wanted.request, writer.header(Frame(77, b"old")) + b"old", is_last=True)
    found = [event for event in pair.to_client() if not isinstance(event, events.SetupReceived)]
    stamp = 77 if version.traits.stamps_frames else None
    assert found[0].timestamp == stamp  # type: ignore[union-attr]
    assert found[-1].is_complete  # type: ignore[union-attr]


@pytest.mark.parametrize("version", VERSIONS)
def test_who_asks_is_told_what_the_path_carries(version: Version) -> None:
    pair = Pair(version)
    assert pair.client.probe()
    pair.to_server()
    now_ns = pair.server.deadline_ns()
    pair.server.handle_timeout(now_ns)
    rtt_ms = 0 if version is Version.LITE_03 else 40
    assert pair.to_client()[-1] == events.ProbeReceived(3_000_000, rtt_ms)
    assert pair.server.deadline_ns() == now_ns + PROBE_NS
    pair.client.ended()
    pair.up.reset(0, 0)
    pair.to_server()
    pair.server.handle_timeout(now_ns + PROBE_NS)
    assert pair.to_client() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_peer_is_asked_to_leave_where_there_are_words_for_it(version: Version) -> None:
    pair = Pair(version)
    pair.server.send_goaway("https://elsewhere")
    told = [event for event in pair.to_client() if isinstance(event, events.GoawayReceived)]
    assert told == ([events.GoawayReceived("https://elsewhere")] if version.traits.has_goaway else [])


@pytest.mark.parametrize("version", STAMPED)
def test_a_frame_travels_as_a_datagram(version: Version) -> None:
    pair = Pair(version)
    number, request = subscribed(pair)
    assert pair.server.send_datagram(request, 4, Frame(123, b"word"))
    assert pair.to_client() == [events.DatagramArrived(number, 4, 123, b"word")]
    pair.client.unsubscribe(number)
    assert pair.server.send_datagram(request, 5, Frame(124, b"word"))
    assert pair.to_client() == []
    assert pair.client.counts["datagrams_unexpected"] == 1


def test_a_stream_of_an_unknown_kind_is_turned_away_and_the_rest_of_it_ignored() -> None:
    wire = Wire()
    server = Session(wire, Version.LITE_05, origin=9)
    wire.out.clear()
    assert server.receive_untrusted(0, varint(0x1F * 7 + 0x21) + b"grease", is_last=False) == []
    assert server.receive_untrusted(2, varint(0x1F * 7 + 0x21) + b"grease", is_last=True) == []
    assert [type(one) for one in wire.out] == [Stopped, Reset, Stopped]
    # These bytes would be a request, were they the stream's first.
    assert server.receive_untrusted(0, b"\x01\x02\x00\x00", is_last=True) == []
    assert wire.closed is None
    assert server._streams == {}


def test_a_peer_that_sends_nonsense_again_and_again_is_turned_out() -> None:
    wire = Wire()
    server = Session(wire, Version.LITE_05, origin=9)
    for number in range(MAX_MALFORMED):
        server.receive_untrusted(number * 4, b"\x02\x01\xff", is_last=True)
    assert wire.closed is None
    server.receive_untrusted(MAX_MALFORMED * 4, b"\x02\x01\xff", is_last=True)
    assert wire.closed == (Code.MALFORMED, "malformed messages")
    assert server.receive_untrusted(4_000, b"\x02", is_last=False) == []


def test_no_more_is_kept_unread_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.moq.protocol.session.MAX_UNREAD_BYTES", 1_000)
    wire = Wire()
    server = Session(wire, Version.LITE_05, origin=9)
    subscription = server.subscribe("bob", "video")
    assert subscription == 0
    for number in range(3):
        header = varint(UniType.GROUP) + b"\x02\x00" + varint(number) + b"\x00" + varint(2_000)
        server.receive_untrusted(2 + 4 * number, header + b"x" * 300, is_last=False)
        assert wire.closed is None
    server.receive_untrusted(2, b"x" * 300, is_last=False)
    assert wire.closed == (Code.TOO_MUCH, "too much unfinished")


def test_a_peer_may_not_keep_any_number_of_streams_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.moq.protocol.session.MAX_OPEN_STREAMS", 4)
    wire = Wire()
    server = Session(wire, Version.LITE_05, origin=9)
    for number in range(5):
        server.receive_untrusted(number * 4, b"", is_last=False)
    assert wire.closed == (Code.TOO_MUCH, "too many streams")


def test_without_streams_granted_nothing_is_opened() -> None:
    wire = Wire(grants=0)
    server = Session(wire, Version.LITE_05, origin=9)
    assert not server.request_announcements("")
    assert server.subscribe("bob", "video") is None
    assert server.counts["streams_not_granted"] == 3
    assert not wire.out


TYPED = st.builds(lambda kind, body: varint(kind) + varint(len(body)) + body, st.integers(0, 7), st.binary(max_size=20))
SOUP = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.one_of(st.binary(max_size=30), TYPED),
        st.booleans(),
        st.sampled_from(["data", "reset", "stop", "datagram"]),
    ),
    max_size=25,
)


@given(version=st.sampled_from(VERSIONS), soup=SOUP)
@settings(max_examples=300)
def test_nothing_a_peer_sends_breaks_a_session(version: Version, soup: list[tuple[int, bytes, bool, str]]) -> None:
    wire = Wire()
    server = Session(wire, version, origin=9)
    server.request_announcements("")
    server.request_track("bob", "video")
    server.subscribe("bob", "video")
    over: set[int] = set()
    for stream, data, is_last, what in soup:
        if stream in over or (what != "stop" and stream & 3 == 3):
            continue
        match what:
            case "data":
                server.receive_untrusted(stream, data, is_last=is_last)
                over |= {stream} if is_last else set()
            case "reset":
                server.reset_untrusted(stream, 5)
                over.add(stream)
            case "stop":
                server.stopped_untrusted(stream, 5)
            case "datagram":
                server.datagram_untrusted(data)
    assert server._unread == sum(len(stream.reader) for stream in server._streams.values())
    server.ended()
    assert server._unread == sum(len(stream.reader) for stream in server._streams.values()) == 0


@given(version=st.sampled_from(VERSIONS), wish=st.builds(Subscribe, st.integers(0, 99), st.just("a/b"), st.just("v")))
def test_whatever_a_subscription_is_numbered_its_groups_carry_the_number(version: Version, wish: Subscribe) -> None:
    wire = Wire()
    server = Session(wire, version, origin=9)
    wire.out.clear()
    server.receive_untrusted(0, varint(2) + write_message(version, wish), is_last=False)
    opened = server.open_group(0, 1)
    assert opened is not None
    body = wire.bytes_of(opened[0])
    assert body[2:3] == varint(wish.id)[:1]

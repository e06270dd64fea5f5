"""What of a publisher's tracks is taken in, and that what nobody reads is let go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from media.bridge.intake import Intake
from media.moq.protocol import events
from media.moq.protocol.frames import Frame
from media.moq.protocol.hang import CATALOG_TRACK, Catalog, Video, VideoSection, write_catalog
from media.moq.protocol.messages import TrackInfo
from media.moq.relaying.upstream import UNREAD_NS
from media.webrtc.formats import CodecDescription, Kind
from media.wire.rtcp import SenderReport
from tests.moq.test_relay import Client, Publishing, Stage

Say = Callable[[Client, int], None]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def say_group(eve: Client, request: int) -> None:
    eve.session.open_group(request, 7)
    eve.settle()


def say_datagram(eve: Client, request: int) -> None:
    eve.session.send_datagram(request, 8, Frame(0, b"x"))
    eve.settle()


@pytest.mark.parametrize("say", [say_group, say_datagram])
def test_a_track_of_which_only_the_properties_were_asked_is_let_go(stage: Stage, say: Say) -> None:
    eve, viewer = Client(stage.relay), Client(stage.relay)
    publishing = Publishing(eve)
    viewer.session.request_track("room/eve", "video")
    viewer.settle()
    request = publishing.serve()
    say(eve, request)
    assert not [event for event in eve.settle() if isinstance(event, events.RequestEnded)]
    stage.clock.ns += UNREAD_NS
    say(eve, request)
    broadcast = stage.origin.find("room/eve")
    assert broadcast is not None
    assert not broadcast.tracks
    assert stage.relay.counters()["moq_tracks_unread"] == 1
    eve.peer.end()
    assert stage.relay.counters()["moq_tracks_unread"] == 1


def test_a_track_that_is_read_is_kept_however_long(stage: Stage) -> None:
    eve, viewer = Client(stage.relay), Client(stage.relay)
    publishing = Publishing(eve)
    viewer.session.subscribe("room/eve", "video")
    viewer.settle()
    request = publishing.serve()
    stage.clock.ns += 100 * UNREAD_NS
    say_group(eve, request)
    assert not eve.peer.upstream.counts["tracks_unread"]


class Sink:
    """Takes whatever comes."""

    def open(self, kind: Kind, codec: CodecDescription, payload_type: int) -> bool:
        return True

    def send(self, packets: list[bytes], report: SenderReport | None) -> None:
        raise AssertionError("nothing of it is read")


def test_a_track_that_comes_when_its_catalog_names_it_no_longer_is_let_go(stage: Stage) -> None:
    eve = Client(stage.relay)
    publishing = Publishing(eve)
    broadcast = stage.origin.find("room/eve")
    assert broadcast is not None
    intake = Intake(broadcast, ("audio", "video"), Sink(), stage.clock)
    intake.begin()
    catalog = publishing.serve()
    say_catalog(eve, catalog, 0, VideoSection({"video": Video("vp8")}))
    (asked,) = [event for event in eve.settle() if isinstance(event, events.TrackWanted)]
    say_catalog(eve, catalog, 1, None)
    eve.session.describe_track(asked.request, TrackInfo(60, timescale=90_000))
    (wanted,) = [event for event in eve.settle() if isinstance(event, events.SubscriptionWanted)]
    eve.session.accept(wanted.request, TrackInfo(60, timescale=90_000))
    say_group(eve, wanted.request)
    assert broadcast.tracks.keys() == {CATALOG_TRACK, "video"}
    stage.clock.ns += UNREAD_NS
    eve.session.open_group(wanted.request, 9)
    assert events.RequestEnded(wanted.request) in eve.settle()
    assert broadcast.tracks.keys() == {CATALOG_TRACK}
    assert intake.counts == Counter()


def say_catalog(eve: Client, request: int, sequence: int, video: VideoSection | None) -> None:
    stream, writer = eve.session.open_group(request, sequence)  # type: ignore[misc]
    frame = Frame(0, write_catalog(Catalog(video)))
    eve.up.write(stream, writer.header(frame) + frame.payload, is_last=True)

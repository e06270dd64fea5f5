"""What is reserved of a broadcast: who gets it, who gets what is for all in its place, and what a lost right cuts."""

from __future__ import annotations

import pytest

from media.moq.carriers.carrier import Code
from media.moq.protocol import events
from media.moq.relaying.origin import Track, track_info
from tests.moq.nodes import Everything
from tests.moq.test_relay import PATH, Client, Stage, groups, payloads


class Reserved(Stage):
    """A broadcast whose best rendition is reserved, with a catalog for each of the two kinds of viewers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.best = self.broadcast.add_track("best", track_info(60))
        self.best.is_reserved = True
        self.catalog = self.broadcast.add_track("catalog.json", track_info(100))
        self.best_catalog = self.broadcast.add_reserved("catalog.json", track_info(100))
        self.write(self.catalog, b"lesser")
        self.write(self.best_catalog, b"all")

    def write(self, track: Track, text: bytes) -> None:
        self.group(track.next_sequence, text, track=track)


@pytest.fixture
def stage() -> Reserved:
    return Reserved()


def judged(viewer: Client, has_best: bool) -> list[events.Event]:
    viewer.rights.has_best = has_best
    viewer.peer.review(PATH)
    return viewer.settle()


def test_under_one_name_each_gets_the_catalog_that_its_rights_give(stage: Reserved) -> None:
    for has_best, text in ((True, b"all"), (False, b"lesser")):
        viewer = Client(stage.relay, rights=Everything(has_best=has_best))
        viewer.subscribe("catalog.json")
        assert payloads(viewer.settle()) == [text]


def test_what_is_reserved_is_not_there_for_others_however_they_ask(stage: Reserved) -> None:
    stage.group(0, b"sharp", track=stage.best)
    viewer = Client(stage.relay, rights=Everything(has_best=False))
    viewer.subscribe("best")
    viewer.session.fetch(PATH, "best", 0)
    viewer.session.request_track(PATH, "best")
    found = viewer.settle()
    assert not payloads(found)
    assert stage.best.readers == []
    assert viewer.peer.counts["requests_refused"] == 3


def test_a_right_that_ends_cuts_the_best_at_once_and_then_the_catalog_says_so(stage: Reserved) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe("catalog.json")
    best, lesser = viewer.subscribe("best"), viewer.subscribe("video")
    growing = stage.group(1, b"sharp", track=stage.best, finished=False)
    stage.group(1, b"blurred")
    assert sorted(payloads(viewer.settle())) == [b"all", b"blurred", b"sharp"]
    viewer.down.space = 0
    stage.best.append(growing, growing.frames[0])
    viewer.rights.has_best = False
    viewer.peer.review(PATH)
    assert viewer.down.recalled == 1
    viewer.down.space = 1 << 20
    assert stage.best.readers == []
    found = viewer.settle()
    assert payloads(found) == [b"lesser"]
    ended = [event.subscription for event in found if isinstance(event, events.SubscriptionEnded)]
    assert ended == [best]
    stage.group(2, b"sharper", track=stage.best)
    stage.group(2, b"goes on")
    assert [
        (event.subscription, event.payload) for event in viewer.settle() if isinstance(event, events.FrameArrived)
    ] == [(lesser, b"goes on")]
    assert viewer.peer.counts["renditions_cut"] == 1


def test_an_object_is_judged_by_the_right_of_its_moment_though_nobody_has_looked_anew(stage: Reserved) -> None:
    viewer = Client(stage.relay)
    viewer.subscribe("best")
    stage.group(1, b"sharp", track=stage.best)
    assert payloads(viewer.settle()) == [b"sharp"]
    viewer.rights.has_best = False
    stage.group(2, b"sharper", track=stage.best)
    stage.best.send_datagram(3, stage.best.groups[1].frames[0])
    assert viewer.settle() == []


def test_a_catalog_changes_to_and_fro_with_the_right_and_its_groups_only_rise(stage: Reserved) -> None:
    viewer = Client(stage.relay, rights=Everything(has_best=False))
    viewer.subscribe("catalog.json")
    found = viewer.settle()
    for has_best in (True, False, True):
        found += judged(viewer, has_best)
    stage.write(stage.best_catalog, b"more")
    stage.write(stage.catalog, b"not theirs")
    found += viewer.settle()
    assert payloads(found) == [b"lesser", b"all", b"lesser", b"all", b"more"]
    assert groups(found) == sorted(set(groups(found)))
    assert judged(viewer, True) == [], "what has not changed is not said again"


def test_many_who_change_at_once_share_one_group_and_who_stays_hears_nothing(stage: Reserved) -> None:
    staying = Client(stage.relay, rights=Everything(has_best=False))
    viewers = [Client(stage.relay) for _ in range(5)]
    for viewer in (staying, *viewers):
        viewer.subscribe("catalog.json")
        viewer.settle()
    assert all(payloads(judged(viewer, False)) == [b"lesser"] for viewer in viewers)
    assert stage.catalog.next_sequence == 2
    assert staying.settle() == []
    for text in (b"less", b"least"):
        stage.write(stage.catalog, text)
    staying.settle()
    again = Client(stage.relay)
    again.subscribe("catalog.json")
    again.settle()
    assert groups(judged(again, False)) == [3]
    assert stage.catalog.next_sequence == 4
    late = Client(stage.relay, rights=Everything(has_best=False))
    late.subscribe("catalog.json")
    assert payloads(late.settle()) == [b"least"]


def test_a_track_that_comes_to_be_reserved_is_cut_for_those_without_the_right(stage: Reserved) -> None:
    with_right, without = Client(stage.relay), Client(stage.relay, rights=Everything(has_best=False))
    for viewer in (with_right, without):
        viewer.subscribe("video")
    stage.group(1, b"picture", finished=False)
    assert payloads(with_right.settle()) == payloads(without.settle()) == [b"picture"]
    stage.video.is_reserved = True
    for viewer in (with_right, without):
        viewer.peer.review_tracks(PATH)
    stage.video.append(stage.video.groups[1], stage.video.groups[1].frames[0])
    assert payloads(with_right.settle()) == [b"picture"]
    found = without.settle()
    assert not payloads(found)
    assert any(isinstance(event, events.SubscriptionEnded) and event.code == Code.CUT for event in found)


def test_a_broadcast_that_ends_ends_what_is_reserved_of_it(stage: Reserved) -> None:
    viewer = Client(stage.relay)
    subscription = viewer.subscribe("catalog.json")
    viewer.settle()
    stage.origin.end(stage.broadcast)
    ended = [event for event in viewer.settle() if isinstance(event, events.SubscriptionEnded)]
    assert [event.subscription for event in ended] == [subscription]
    assert not stage.broadcast.reserved

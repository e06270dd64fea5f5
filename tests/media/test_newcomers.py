"""Who has just become able to receive begins with what is cached at once, by the rules for everybody else."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from media.forwarding.admission import Grant, Holding
from media.forwarding.tables import NEWCOMERS, Count
from tests.media.test_kernel_robustness import DELTA, KEY, Sent, Stage, set_stage
from tests.media.turns import End, open_turns

SECOND_NS = 1_000_000_000
PICTURES = [KEY + b"first", DELTA + b"second", DELTA + b"third"]


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage whose publisher has sent three pictures, the first a keyframe."""
    with open_turns() as turns:
        stage = set_stage(turns, 1000)
        for seq, payload in enumerate(PICTURES):
            stage.publish(seq, payload, ts=seq * 3000)
            stage.turn()
        turns.welcome()
        yield stage


def come(stage: Stage, holding: Holding | None = None) -> tuple[End, int]:
    """Let one more viewer come, secured and subscribed."""
    viewer = stage.turns.end(stage.room, publishes=False)
    stage.turns.forwarder.admission.hold(viewer.row, holding or Holding(Grant.WELCOME))
    return viewer, stage.turns.forwarder.subscribe(stage.video, viewer.row, Sent(5000), first_seq=200)


def payloads(viewer: End) -> list[bytes]:
    return [packet.payload for packet in viewer.drain()[0]]


def test_a_newcomer_begins_with_the_keyframe_before_another_packet_comes_and_goes_on_from_there(stage: Stage) -> None:
    viewer, _ = come(stage)
    stage.turns.welcome()
    packets = viewer.drain()[0]
    assert [packet.payload for packet in packets] == PICTURES
    stage.publish(3, DELTA + b"fourth", ts=9000)
    stage.turn()
    packets += viewer.drain()[0]
    assert packets[-1].payload == DELTA + b"fourth"
    assert [packet.sequence_number for packet in packets] == [200, 201, 202, 203]
    assert [packet.timestamp for packet in packets] == sorted({packet.timestamp for packet in packets})
    assert stage.turns.tables.tracks["keyframe_wanted"][stage.video] == 0


def test_nobody_is_welcomed_twice_and_who_was_there_gets_nothing_again(stage: Stage) -> None:
    viewer, _ = come(stage)
    stage.turns.welcome()
    assert len(payloads(viewer)) == len(PICTURES)
    for end in (viewer, stage.viewer):
        stage.turns.forwarder.workers.welcome(0, end.row)
    stage.turns.welcome()
    assert payloads(viewer) == payloads(stage.viewer) == []


def test_when_a_keyframe_has_just_begun_it_is_that(stage: Stage) -> None:
    stage.publish(3, KEY + b"new", ts=9000)
    stage.turn()
    viewer, _ = come(stage)
    stage.turns.welcome()
    assert payloads(viewer) == [KEY + b"new"]


def test_who_may_not_watch_gets_nothing_by_coming(stage: Stage) -> None:
    viewer, _ = come(stage, Holding(Grant.TICKET))
    stage.turns.welcome()
    assert payloads(viewer) == []
    assert stage.counted(Count.NOT_ADMITTED) == 1


def test_what_came_before_the_room_opened_is_not_for_newcomers(stage: Stage) -> None:
    stage.turns.tables.rooms["opened_ns"][stage.room] = time.monotonic_ns()
    viewer, _ = come(stage)
    stage.turns.welcome()
    assert payloads(viewer) == []


def test_an_old_keyframe_is_not_replayed_and_a_new_one_is_asked_for_at_once(stage: Stage) -> None:
    stage.turns.tables.tracks["last_keyframe_ns"][stage.video] -= SECOND_NS
    viewer, _ = come(stage)
    stage.turns.welcome()
    assert payloads(viewer) == []
    assert stage.turns.tables.tracks["keyframe_wanted"][stage.video] == 1


def test_who_went_meanwhile_or_has_no_address_yet_gets_nothing(stage: Stage) -> None:
    gone, subscription = come(stage)
    stage.turns.forwarder.unsubscribe(subscription)
    stage.turns.forwarder.close_transport(gone.row)
    unplaced, _ = come(stage)
    stage.turns.tables.transports["address_size"][unplaced.row] = 0
    stage.turns.welcome()
    assert payloads(gone) == payloads(unplaced) == []


def test_of_too_many_at_once_the_rest_begins_with_the_next_packet(stage: Stage) -> None:
    workers = stage.turns.forwarder.workers
    for _ in range(NEWCOMERS):
        workers.welcome(0, stage.viewer.row)
    viewer, _ = come(stage)
    assert workers.counters()["newcomers_late"] == 1
    stage.turns.welcome()
    assert payloads(viewer) == []
    stage.publish(3, DELTA + b"fourth", ts=9000)
    stage.turn()
    assert payloads(viewer) == [*PICTURES, DELTA + b"fourth"]

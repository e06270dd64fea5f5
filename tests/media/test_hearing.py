"""From the levels in a publisher's packets to who speaks in a room."""

from __future__ import annotations

import pytest

from media.door import Speaking
from media.facts import RoomRow, TransportId
from media.forwarding.admission import FOREVER, NOTHING
from media.forwarding.tables import LEVELS, Tables
from media.hearing import Hearing
from media.rooms import Room, Track
from media.speakers import STEP_NS
from media.webrtc.negotiation import CodecDescription
from media.wire.codecs import Codec
from media.wire.extensions import Passed
from tests.media.test_extensions import one_byte
from tests.media.test_kernel_robustness import AUDIO_PT, PASSED, Stage, set_stage
from tests.media.turns import open_turns

OPUS = CodecDescription(Codec.OPUS, 48_000, 2, "")
SPEECH, SILENCE = 20, 120
LEVEL = PASSED[Passed.AUDIO_LEVEL]


def say(stage: Stage, level: int, packets: int = 15) -> None:
    first = int(stage.turns.tables.tracks["levels"][stage.audio])
    for seq in range(first, first + packets):
        stage.publish(seq, b"sound", pt=AUDIO_PT, ssrc=9, block=one_byte({LEVEL: bytes([level])}))
    stage.turns.turn()


class Ears:
    def __init__(self, tables: Tables, **rows: int) -> None:
        self.told: list[Speaking] = []
        self.room = Room(RoomRow(3), NOTHING)
        self.room.sources = {
            name: {"audio": Track(row, OPUS, feeder=TransportId(row + 1))} for name, row in rows.items()
        }
        self.hearing = Hearing(tables, {self.room.row: self.room}, self.told.append)
        self.now_ns = STEP_NS

    def step(self) -> list[Speaking]:
        self.told.clear()
        self.now_ns += STEP_NS
        self.hearing.look(self.now_ns)
        return list(self.told)


def test_who_of_two_publishers_speaks_is_told_once_and_when_it_changes() -> None:
    with open_turns() as turns:
        ann, ben = set_stage(turns, 1000), set_stage(turns, 2000)
        ears = Ears(turns.tables, ann=ann.audio, ben=ben.audio)
        ears.step()
        for loud, quiet, name in ((ann, ben, "ann"), (ben, ann, "ben")):
            told = []
            for _ in range(6):
                say(loud, SPEECH)
                say(quiet, SILENCE)
                told += ears.step()
            assert (told[-1].room, told[-1].speaker) == (RoomRow(3), name)
            assert sorted(told[-1].levels.values()) == [SPEECH, SILENCE]
            assert len(told) <= 3
        ears.hearing.look(ears.now_ns + STEP_NS - 1)  # before its time
        assert ears.hearing.next_look_ns() == ears.now_ns + STEP_NS


@pytest.mark.parametrize("gone", ["track", "feeder"])
def test_where_one_is_left_nothing_is_told_and_nothing_is_looked_at(gone: str) -> None:
    with open_turns() as turns:
        ann, ben = set_stage(turns, 1000), set_stage(turns, 2000)
        ears = Ears(turns.tables, ann=ann.audio, ben=ben.audio)
        assert len(ears.step()) == 1
        if gone == "track":
            del ears.room.sources["ben"]["audio"]
        else:
            ears.room.sources["ben"]["audio"].feeder = None
        assert ears.step() == []
        assert ears.hearing.next_look_ns() == FOREVER
        ears.room.sources["ben"] = {"audio": Track(ben.audio, OPUS, feeder=TransportId(9))}
        ears.hearing.listen()
        assert len(ears.step()) == 1


def test_more_levels_than_are_kept_and_a_row_that_is_used_again_are_read_as_far_as_they_are_there() -> None:
    with open_turns() as turns:
        ann, ben = set_stage(turns, 1000), set_stage(turns, 2000)
        ears = Ears(turns.tables, ann=ann.audio, ben=ben.audio)
        ears.step()
        say(ann, SILENCE, packets=LEVELS)
        say(ann, SPEECH, packets=30)
        (told,) = ears.step()
        assert told.levels == {"ann": SPEECH, "ben": 127}
        turns.tables.tracks["levels"][ann.audio] = 2
        turns.tables.levels[ann.audio, :2] = (60, 50)
        (told,) = ears.step()
        assert told.levels == {"ann": 50, "ben": 127}

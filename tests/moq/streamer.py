"""The test picture published straight into an origin, as whatever bridges RTP to frames will do."""

from __future__ import annotations

import time

import msgspec
import trio

from media.moq.protocol.containers import wrap_legacy, wrap_loc
from media.moq.protocol.frames import Frame
from media.moq.protocol.hang import (
    AUDIO_PRIORITY,
    CATALOG_PRIORITY,
    CATALOG_TRACK,
    VIDEO_PRIORITY,
    Audio,
    AudioSection,
    Catalog,
    Container,
    Display,
    Video,
    VideoSection,
    write_catalog,
)
from media.moq.relaying.origin import Broadcast, Group, Origin, Track, track_info
from media.testpicture import Format, MovingPicture

FORM = Format(width=320, height=240, video_bps=400_000)
GROUP_S = 2
DESCRIPTOR = 4  # bytes of VP8's in front of each RTP payload: the test picture has picture ids of 15 bits


def catalog(container: str) -> Catalog:
    kind = Container(kind=container)  # type: ignore[arg-type]
    return Catalog(
        video=VideoSection(
            {"video": Video("vp8", kind, FORM.width, FORM.height, FORM.frame_rate)}, Display(FORM.width, FORM.height)
        ),
        audio=AudioSection({"audio": Audio("opus", 48_000, 2, kind)}),
    )


async def stream_picture(
    origin: Origin, path: str, container: str = "legacy", picture_from: trio.Event | None = None
) -> None:
    """Publish picture and sound until cancelled; the picture is not named before `picture_from`, where it is given."""
    broadcast = Broadcast(path)
    video = broadcast.add_track("video", track_info(VIDEO_PRIORITY))
    audio = broadcast.add_track("audio", track_info(AUDIO_PRIORITY))
    named = broadcast.add_track(CATALOG_TRACK, track_info(CATALOG_PRIORITY))
    listed = catalog(container)
    put_alone(named, 0, write_catalog(listed if picture_from is None else msgspec.structs.replace(listed, video=None)))
    origin.begin(broadcast)
    wrap = wrap_loc if container == "loc" else wrap_legacy
    started_ns = time.monotonic_ns()
    picture = MovingPicture(FORM, started_ns=started_ns, wall_ns=time.time_ns())
    writers = {"video": GroupWriter(video), "audio": GroupWriter(audio)}
    parts: list[bytes] = []
    keyframe, keyframe_at_ns = False, started_ns
    while True:
        now_ns = time.monotonic_ns()
        if picture_from is not None and picture_from.is_set():
            put_alone(named, 1, write_catalog(listed))
            picture_from = None
        if now_ns - keyframe_at_ns > GROUP_S * 1_000_000_000:
            picture.request_keyframe()
            keyframe_at_ns = now_ns
        for payload in picture.due(now_ns):
            timestamp_us = (payload.at_ns - started_ns) // 1000
            if payload.kind == "audio":
                writers["audio"].write(Frame(timestamp_us, wrap(timestamp_us, payload.payload), is_keyframe=True))
                continue
            parts.append(payload.payload[DESCRIPTOR:])
            keyframe |= payload.keyframe
            if payload.marker:
                frame = Frame(timestamp_us, wrap(timestamp_us, b"".join(parts)), keyframe)
                writers["video"].write(frame)
                parts, keyframe = [], False
        await trio.sleep(0.005)


def put_alone(track: Track, sequence: int, payload: bytes) -> None:
    """Write a group of one frame."""
    group = track.begin_group(sequence, time.monotonic_ns())
    track.append(group, Frame(0, payload, is_keyframe=True))
    track.finish_group(group)


class GroupWriter:
    """Begins a group at each keyframe."""

    def __init__(self, track: Track) -> None:
        self.track, self.sequence = track, 0
        self.group: Group | None = None

    def write(self, frame: Frame) -> None:
        if frame.is_keyframe:
            if self.group is not None:
                self.track.finish_group(self.group)
            self.group = self.track.begin_group(self.sequence, time.monotonic_ns())
            self.sequence += 1
        assert self.group is not None
        self.track.append(self.group, frame)

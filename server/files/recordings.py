"""Puts the sound and pictures of a recording into a new file of its kind, and leaves all else of the old one behind.

Nothing is decoded but for the small picture. Where a recording was made, tracks of positions, covers and chapters are
not copied; nor is anything that a second reader might take the file for.
"""

from __future__ import annotations

import os
from typing import Any

import av
from av.error import FFmpegError

from server.files.judged import NotTaken, raise_when_full
from server.files.pictures import MAX_PIXELS, MAX_SIDE, write_preview
from server.files.sniffing import MP4, WEBM, Kind

MAX_STREAMS = 64  # that are looked at
MAX_SOUNDS = 8  # that are copied
LOOKED_AT = 300  # packets: a first picture comes earlier, or there is none
DEMUXERS = {"mp4": "mov", "webm": "matroska", "ogg": "ogg", "mp3": "mp3"}
ONLY_HEARD = {MP4: "audio/mp4", WEBM: "audio/webm"}
FAULTS = (FFmpegError, OSError, ValueError, OverflowError, IndexError)


def remux(kind: Kind, source: int, content: int, preview: int) -> dict[str, object]:
    """Write a recording and a small picture of it; returns its type, sizes and length. Raises NotTaken."""
    try:
        with _open(kind, source) as given:
            chosen = _choose(given)
            facts = _facts(kind, given, chosen)
            _copy(kind, given, chosen, content)
        _draw(kind, source, preview)
        return facts
    except FAULTS as error:
        raise_when_full(error)
        raise NotTaken("file_broken") from error


def _open(kind: Kind, source: int) -> Any:
    # By a descriptor and a format that is named: nothing in a file can have another one opened.
    os.lseek(source, 0, os.SEEK_SET)
    return av.open(os.fdopen(os.dup(source), "rb"), format=DEMUXERS[kind.name], metadata_errors="ignore")


def _choose(given: Any) -> list[Any]:
    if len(given.streams) > MAX_STREAMS:
        raise NotTaken("file_too_demanding")
    pictures = [stream for stream in given.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
    chosen = [*pictures[:1], *list(given.streams.audio)[:MAX_SOUNDS]]
    if not chosen:
        raise NotTaken("file_broken")
    return chosen


def _facts(kind: Kind, given: Any, chosen: list[Any]) -> dict[str, object]:
    facts: dict[str, object] = {}
    if given.duration is not None and given.duration > 0:
        facts["duration_ms"] = given.duration // 1000
    first = chosen[0]
    if first.type != "video":
        return {**facts, "type": ONLY_HEARD.get(kind, kind.type)}
    width, height = first.codec_context.width, first.codec_context.height
    if width <= 0 or height <= 0:
        raise NotTaken("file_broken")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise NotTaken("file_too_demanding")
    return {**facts, "width": width, "height": height}


def _copy(kind: Kind, given: Any, chosen: list[Any], content: int) -> None:
    # By a path, as its beginning is written last where it plays while it loads.
    options = {"movflags": "faststart"} if kind is MP4 else {}
    with av.open(f"/proc/self/fd/{content}", "w", format=kind.name, options=options) as made:
        copies = {stream.index: made.add_stream_from_template(stream) for stream in chosen}
        for packet in given.demux(chosen):
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                made.mux(packet)


def _draw(kind: Kind, source: int, preview: int) -> None:
    """Write a small picture of the first frame, if there is one."""
    try:
        with _open(kind, source) as given:
            pictures = _choose(given)[0]
            if pictures.type != "video":
                return
            pictures.codec_context.thread_count = 1
            for count, packet in enumerate(given.demux(pictures)):
                for frame in packet.decode():
                    write_preview(_upright(frame), preview)
                    return
                if count == LOOKED_AT:
                    break
    except FAULTS:
        pass  # it plays all the same where somebody knows its codec


def _upright(frame: Any) -> Any:
    if frame.width * frame.height > MAX_PIXELS:
        raise NotTaken("file_too_demanding")
    picture = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture

"""moq-rs, a native client that nobody here wrote, watches a stream that was published over WHIP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from media.moq.protocol.containers import wrap_legacy
from tests.bridge.decoding import decoded
from tests.bridge.shows import Show, open_show
from tests.server.nodes import Person

WANTED = {"video": 60, "audio": 100}


class Seen(NamedTuple):
    """One frame as moq-rs has it: both of its times in µs, that of MoQ's frame and that in the container."""

    group: int
    frame_us: int
    container_us: int
    unit: bytes


def as_sent(frame: Seen) -> tuple[int, int | None, bytes]:
    return frame.group, frame.frame_us, wrap_legacy(frame.container_us, frame.unit)


async def watch(show: Show, viewer: Person, scheme: str) -> dict[str, list[Seen]]:
    """Return a stream's frames by track, enough of each to be judged."""
    host, port = show.address
    url = f"{scheme}://{host}:{port}{show.target(viewer)}"
    fingerprint = (await show.site.http.get("/certificate.sha256")).text
    command = [sys.executable, "-m", "tests.bridge.moqrs_frames", url, fingerprint, show.stream]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    seen: defaultdict[str, list[Seen]] = defaultdict(list)
    assert process.stdout is not None
    try:
        buffer = b""
        while any(len(seen[name]) < count for name, count in WANTED.items()):
            part = await process.stdout.receive_some()
            assert part, "moq-rs ended early"
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                name, group, frame_us, container_us, unit = json.loads(line)
                seen[name].append(Seen(group, frame_us, container_us, bytes.fromhex(unit)))
    finally:
        process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.wait()
        await trio.aclose_forcefully(process.stdout)
    return seen


@pytest.mark.parametrize("scheme", ["moqt", "https"])
async def test_moqrs_watches_a_stream_published_over_whip_and_its_frames_have_the_times_of_their_container(
    tmp_path: Path, scheme: str
) -> None:
    with trio.fail_after(60):
        async with open_show(tmp_path) as show:
            seen = await watch(show, await show.site.person("viewer"), scheme)
    for frames in seen.values():
        assert [frame.frame_us for frame in frames] == [frame.container_us for frame in frames]
        assert min(frame.frame_us for frame in frames) < 60_000_000, "times begin with the broadcast"
    decoded(*(map(as_sent, seen[name]) for name in WANTED))

"""How far this server parts sound from picture: the times of the very same frames, as they came and as they leave.

A publisher may part them itself. Over MoQ its times are passed on untouched; what WebRTC viewers get of them is held to
that, frame by frame, and so to nothing that a player, or a busy machine, does to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from media.moq.protocol.containers import unwrap_legacy_untrusted
from media.wire.codecs import Codec
from server.client import Kind, watch
from tests.bridge.players import Player, open_player
from tests.bridge.viewers import Watcher
from tests.matrix.stage import Stage

TRACKS: dict[Kind, str] = {"video": "video/hd", "audio": "audio/data"}  # as @moq/publish calls them
ENOUGH = 25  # frames of either kind
TAIL = 64  # octets by which frames are told apart; how H264's units begin is written in two ways
KEPT = 100_000  # frames of a scene
REPLAYED = 32  # frames at first: who joins is sent up to half a second at once, with its times pressed together


@dataclass
class Comparison:
    """The same broadcast, taken over MoQ and over WHEP."""

    player: Player
    watcher: Watcher
    tracks: Mapping[Kind, int] = field(default_factory=dict)

    @property
    def is_enough(self) -> bool:
        return all(len(self._late_us(kind)) >= ENOUGH for kind in TRACKS)

    def parted_ms(self) -> float:
        """Return how much further apart any two frames became."""
        video, audio = self._late_us("video"), self._late_us("audio")
        return max(max(video) - min(audio), max(audio) - min(video)) / 1_000

    def _late_us(self, kind: Kind) -> list[int]:
        """Return by how much the times of those frames differ that came both ways."""
        frames = [unwrap_legacy_untrusted(payload) for _, _, payload in self.player.frames[self.tracks[kind]][-KEPT:]]
        came = _told_apart((unit[-TAIL:], at_us) for at_us, unit in frames)
        watcher = self.watcher
        if kind not in watcher.reports:
            return []
        lasting = watcher.frames[kind][REPLAYED:]
        left = _told_apart((frame.unit[-TAIL:], watcher.time_us(kind, frame)) for frame in lasting)
        return [left[unit] - came[unit] for unit in left.keys() & came.keys()]


def _told_apart(frames: Iterable[tuple[bytes, int]]) -> dict[bytes, int]:
    found = list(frames)
    count = Counter(unit for unit, _ in found)
    return {unit: at_us for unit, at_us in found if count[unit] == 1}


@asynccontextmanager
async def comparing(stage: Stage, codec: Codec) -> AsyncIterator[Comparison]:
    """Take the stream both ways for as long as the block runs."""
    person = await stage.person("both ways")
    host, _, port = stage.server.listen.rpartition(":")
    watcher = Watcher(codec)
    url = f"{stage.server.url}/whep/{stage.stream}"
    async with (
        open_player((host, int(port)), f"/moq/{stage.stream}?jwt={person.token}") as player,
        watch(stage.http, url, person.token, on_rtp=watcher.take) as endpoint,
    ):
        endpoint.on_rtcp = watcher.hear
        await player.until(lambda: stage.stream in player.announced)
        tracks = {kind: player.subscribe(stage.stream, name) for kind, name in TRACKS.items()}
        yield Comparison(player, watcher, tracks)


async def enough(comparison: Comparison) -> float:
    """Wait for enough frames, and return how far apart they became (ms)."""
    with trio.fail_after(30):
        while not comparison.is_enough:  # noqa: ASYNC110 -- frames come in other tasks, which tell nobody
            await trio.sleep(0.2)
    return comparison.parted_ms()

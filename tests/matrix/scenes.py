"""Plays a scene: one publishes, everybody watches, until each has seen sound and picture together for long enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import trio

from media.wire.codecs import Codec
from tests.browser.browsers import Browser
from tests.browser.servers import Server
from tests.matrix.clients import (
    PARTED_BY_ITSELF,
    PUBLISHERS,
    SEES_TIMES_UNTOUCHED,
    VIEWERS,
    Look,
    shows_no_picture,
)
from tests.matrix.stage import open_stage, until
from tests.matrix.unparted import comparing, enough

TOGETHER_MS = 60.0  # what nobody notices between sound and picture
CLAPS = 5  # that are judged, the last ones: players take their time to bring the two together
LIVE_WITHIN_S, SETTLE_WITHIN_S = 30.0, 30.0
NEIGHBOURS_MS = 500.0  # flash and beep of one clap: the next one is a second away
STEADY_MS = 20.0  # a frame of sound: by so much what is found of a clap may be off
NOTHING: dict[str, Any] = {"beeps": [], "flashes": []}


@dataclass
class Scene:
    """What each viewer saw and heard, and how far apart that was in the end, or further than it came."""

    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    apart_ms: dict[str, float] = field(default_factory=dict)
    model: str | None = None  # the viewer to whose claps those of the others are held, None: to no time apart
    parted_ms: float = 0.0  # how much further apart this server brought what it was given

    @property
    def swing_ms(self) -> float:
        """How far the model's own claps went to and fro: nobody can keep up with a publisher whose times move."""
        claps = [] if self.model is None else offsets_ms(self.seen.get(self.model, NOTHING))[-2 * CLAPS :]
        return max(claps, default=0.0) - min(claps, default=0.0)

    @property
    def is_steady(self) -> bool:
        """Whether there was something to keep up with."""
        return self.swing_ms <= STEADY_MS

    def of(self, viewer: str) -> dict[str, Any]:
        """Return what a viewer saw; raises what kept it from seeing."""
        if viewer in self.failures:
            raise self.failures[viewer]
        return self.seen[viewer]


def offsets_ms(seen: dict[str, Any], expected_ms: float = 0.0) -> list[float]:
    """Return how much later than expected after its sound each clap was seen; negative: sooner."""
    beeps = [at for at, _ in seen["beeps"]]
    flashes = [at - expected_ms for at in seen["flashes"]]
    if not beeps or not flashes:
        return []
    pairs = [(flash, min(beeps, key=lambda beep: abs(beep - flash))) for flash in flashes]
    # A picture that flickers while a player catches up has flashes that are no beep's own.
    own = [(flash, beep) for flash, beep in pairs if min(flashes, key=lambda one: abs(beep - one)) == flash]
    return [flash - beep for flash, beep in own if abs(flash - beep) < NEIGHBOURS_MS]


@dataclass
class Visit:
    """One viewer at its place."""

    scene: Scene
    viewer: str
    look: Look

    async def is_settled(self, *, shows_picture: bool) -> bool:
        """Look again; whether all that can be judged has been seen and heard."""
        seen = self.scene.seen[self.viewer] = await self.look()
        if not shows_picture:
            return len(seen["beeps"]) >= CLAPS
        expected_ms = self._expected_ms()
        offsets = [] if expected_ms is None else offsets_ms(seen, expected_ms)
        if len(offsets) < CLAPS:
            return False
        apart_ms = self.scene.apart_ms[self.viewer] = median(offsets[-CLAPS:])
        return abs(apart_ms) < TOGETHER_MS or (len(offsets) >= 2 * CLAPS and not self.scene.is_steady)

    def _expected_ms(self) -> float | None:
        if self.scene.model is None:
            return 0.0
        claps = offsets_ms(self.scene.seen.get(self.scene.model, NOTHING))
        return median(claps[-CLAPS:]) if len(claps) >= CLAPS else None


async def play(server: Server, browsers: tuple[Browser, ...], publisher: str) -> Scene:
    """Play one publisher's scene: to all at once, then to each alone whose player has not brought the two together.

    Players that share two cores with four others run out of sound, and wait for it with the picture gone ahead.
    """
    scene = Scene(model=SEES_TIMES_UNTOUCHED if publisher in PARTED_BY_ITSELF else None)
    async with (
        open_stage(server, publisher.replace("/", " "), *browsers) as stage,
        PUBLISHERS[publisher](stage),
    ):
        assert await until(stage.is_live, LIVE_WITHIN_S), f"{publisher} is not live"

        async def attend(viewer: str) -> None:
            try:
                async with VIEWERS[viewer](stage) as looks:
                    visit = Visit(scene, viewer, looks)
                    shows_picture = not shows_no_picture(publisher, viewer, await looks())
                    with trio.move_on_after(SETTLE_WITHIN_S):
                        while not await visit.is_settled(shows_picture=shows_picture):  # noqa: ASYNC110
                            await trio.sleep(0.5)
            except Exception as failure:
                scene.failures[viewer] = failure  # the test of this viewer raises it

        async def be_model(viewer: str) -> None:
            """Look on until the others have settled."""
            try:
                async with VIEWERS[viewer](stage) as looks:
                    while True:
                        scene.seen[viewer] = await looks()
                        await trio.sleep(0.5)
            except Exception as failure:
                scene.failures[viewer] = failure

        async def compare(codec: Codec) -> None:
            async with comparing(stage, codec) as comparison:
                scene.parted_ms = await enough(comparison)

        async with trio.open_nursery() as longest:
            if scene.model is not None:
                longest.start_soon(be_model, scene.model)
            async with trio.open_nursery() as nursery:
                if scene.model is not None:
                    nursery.start_soon(compare, PARTED_BY_ITSELF[publisher])
                for viewer in (viewer for viewer in VIEWERS if viewer != scene.model):
                    nursery.start_soon(attend, viewer)
            late = [viewer for viewer, apart_ms in scene.apart_ms.items() if abs(apart_ms) >= TOGETHER_MS]
            for viewer in late if scene.is_steady else ():
                await attend(viewer)
            longest.cancel_scope.cancel()
    return scene

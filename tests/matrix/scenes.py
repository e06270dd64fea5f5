"""Plays a scene: one publishes, everybody watches, until each has seen sound and picture together for long enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import trio

from tests.browser.browsers import Browser
from tests.browser.servers import Server
from tests.matrix.clients import PUBLISHERS, VIEWERS, Look, shows_no_picture
from tests.matrix.stage import open_stage, until

TOGETHER_MS = 60.0  # what nobody notices between sound and picture
CLAPS = 5  # that are judged, the last ones: players take their time to bring the two together
LIVE_WITHIN_S, SETTLE_WITHIN_S = 30.0, 30.0
NEIGHBOURS_MS = 500.0  # flash and beep of one clap: the next one is a second away


@dataclass
class Scene:
    """What each viewer saw and heard, and how far apart that was in the end."""

    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    apart_ms: dict[str, float] = field(default_factory=dict)

    def of(self, viewer: str) -> dict[str, Any]:
        """Return what a viewer saw; raises what kept it from seeing."""
        if viewer in self.failures:
            raise self.failures[viewer]
        return self.seen[viewer]


def offsets_ms(seen: dict[str, Any]) -> list[float]:
    """Return how long after its sound each of the last claps was seen; negative: before."""
    beeps = [at for at, _ in seen["beeps"]]
    if not beeps or not seen["flashes"]:
        return []
    pairs = [(flash, min(beeps, key=lambda beep: abs(beep - flash))) for flash in seen["flashes"]]
    # A picture that flickers while a player catches up has flashes that are no beep's own.
    own = [(flash, beep) for flash, beep in pairs if min(seen["flashes"], key=lambda one: abs(beep - one)) == flash]
    return [flash - beep for flash, beep in own if abs(flash - beep) < NEIGHBOURS_MS][-CLAPS:]


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
        offsets = offsets_ms(seen)
        if len(offsets) < CLAPS:
            return False
        apart_ms = self.scene.apart_ms[self.viewer] = median(offsets)
        return abs(apart_ms) < TOGETHER_MS


async def play(server: Server, browsers: tuple[Browser, ...], publisher: str) -> Scene:
    """Play one publisher's scene: to all at once, then to each alone whose player has not brought the two together.

    Players that share two cores with four others run out of sound, and wait for it with the picture gone ahead.
    """
    scene = Scene()
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

        async with trio.open_nursery() as nursery:
            for viewer in VIEWERS:
                nursery.start_soon(attend, viewer)
        for viewer in [viewer for viewer, apart_ms in scene.apart_ms.items() if abs(apart_ms) >= TOGETHER_MS]:
            await attend(viewer)
    return scene

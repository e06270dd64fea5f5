"""Plays a scene: one publishes, everybody watches, until each has seen sound and picture together for long enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import trio

from tests.browser.browsers import Browser
from tests.browser.servers import Server
from tests.matrix.clients import HAVE_PUBLISHERS_TIMES, PUBLISHERS, VIEWERS, Look, shows_no_picture
from tests.matrix.stage import open_stage, until

TOGETHER_MS = 60.0  # what nobody notices between sound and picture
CLAPS = 5  # that are judged, the last ones: players take their time to bring the two together
LIVE_WITHIN_S, SETTLE_WITHIN_S = 30.0, 30.0
NEIGHBOURS_MS = 500.0  # flash and beep of one clap: the next one is a second away


@dataclass
class Scene:
    """What each viewer saw and heard, and what the publisher's own times said meanwhile, in the end."""

    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    apart_ms: dict[str, float] = field(default_factory=dict)

    def of(self, viewer: str) -> dict[str, Any]:
        """Return what a viewer saw; raises what kept it from seeing."""
        if viewer in self.failures:
            raise self.failures[viewer]
        return self.seen[viewer]


class Clap(NamedTuple):
    """One flash that was seen: its own time, when that was (ms since the epoch), and how long after its sound."""

    flash_ms: float
    seen_ms: float
    apart_ms: float  # negative: before


def claps_of(seen: dict[str, Any]) -> list[Clap]:
    """Pair what was seen with what was heard."""
    beeps = [at for at, _ in seen["beeps"]]
    if not beeps or not seen["flashes"]:
        return []
    pairs = [
        (wall, flash, min(beeps, key=lambda beep, flash=flash: abs(beep - flash)))  # type: ignore[misc]
        for wall, flash in zip(seen["walls"], seen["flashes"], strict=True)
    ]
    # A picture that flickers while a player catches up has flashes that are no beep's own.
    own = [pair for pair in pairs if min(seen["flashes"], key=lambda one: abs(pair[2] - one)) == pair[1]]
    return [Clap(flash, wall, flash - beep) for wall, flash, beep in own if abs(flash - beep) < NEIGHBOURS_MS]


def added_ms(seen: list[Clap], published: list[Clap], *, has_publishers_times: bool) -> list[float]:
    """Return how much further apart than it was published each clap was seen.

    On a busy machine a publisher's own sound and picture drift apart from one clap to the next.
    """

    def is_of(own: Clap, clap: Clap) -> bool:
        return own.flash_ms <= clap.flash_ms + 1 if has_publishers_times else own.seen_ms <= clap.seen_ms

    pairs = [(clap, [own for own in published if is_of(own, clap)][-1:]) for clap in seen]
    apart = [clap.apart_ms - own[0].apart_ms for clap, own in pairs if own]
    return [(one + NEIGHBOURS_MS) % (2 * NEIGHBOURS_MS) - NEIGHBOURS_MS for one in apart]


@dataclass
class Visit:
    """One viewer at its place; `publisher` tells what the publisher's times say, where there are any."""

    scene: Scene
    viewer: str
    look: Look
    publisher: Look | None

    async def is_settled(self, *, shows_picture: bool) -> bool:
        """Look again; whether all that can be judged has been seen and heard."""
        seen = self.scene.seen[self.viewer] = await self.look()
        if not shows_picture:
            return len(seen["beeps"]) >= CLAPS
        offsets = [clap.apart_ms for clap in claps_of(seen)]
        if self.publisher is not None:
            published = claps_of(await self.publisher())
            offsets = added_ms(claps_of(seen), published, has_publishers_times=self.viewer in HAVE_PUBLISHERS_TIMES)
        if len(offsets) < CLAPS:
            return False
        apart_ms = self.scene.apart_ms[self.viewer] = median(offsets[-CLAPS:])
        return abs(apart_ms) < TOGETHER_MS


async def play(server: Server, browsers: tuple[Browser, ...], publisher: str) -> Scene:
    """Play one publisher's scene."""
    scene = Scene()
    async with (
        open_stage(server, publisher.replace("/", " "), *browsers) as stage,
        PUBLISHERS[publisher](stage) as look,
    ):
        assert await until(stage.is_live, LIVE_WITHIN_S), f"{publisher} is not live"

        async def attend(viewer: str) -> None:
            try:
                async with VIEWERS[viewer](stage) as looks:
                    visit = Visit(scene, viewer, looks, look)
                    shows_picture = not shows_no_picture(publisher, viewer, await looks())
                    with trio.move_on_after(SETTLE_WITHIN_S):
                        while not await visit.is_settled(shows_picture=shows_picture):  # noqa: ASYNC110
                            await trio.sleep(0.5)
            except Exception as failure:
                scene.failures[viewer] = failure  # the test of this viewer raises it

        async with trio.open_nursery() as nursery:
            for viewer in VIEWERS:
                nursery.start_soon(attend, viewer)
    return scene

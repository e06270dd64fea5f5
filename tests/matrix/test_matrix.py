"""Who publishes, whichever way, is seen and heard by who watches, whichever way, with sound and picture together.

Each publisher plays one scene, to all viewers at once, and each test judges what one of them saw and heard in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.browser.browsers import start_chromium, start_firefox
from tests.browser.servers import Server, running
from tests.matrix.clapper import BARS, BLUE, WHITE
from tests.matrix.clients import PUBLISHERS, VIEWERS, shows_no_picture
from tests.matrix.scenes import TOGETHER_MS, Scene, play
from tests.matrix.sound_card import sound_card

NEAR = 45  # of 255: what encoders and the ways between colour spaces may do to a colour

Scenes = Callable[[str], Scene]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """Return what plays a publisher's scene, each once."""
    played: dict[str, Scene | Exception] = {}
    folder = Path(tmp_path_factory.mktemp("matrix"))
    with (
        running(Server(folder)) as server,
        start_chromium() as chromium,
        sound_card(folder),
        start_firefox() as firefox,
    ):

        def scene_of(publisher: str) -> Scene:
            if publisher not in played:
                try:
                    played[publisher] = trio.run(play, server, (chromium, firefox), publisher)
                except Exception as failure:
                    played[publisher] = failure
            scene = played[publisher]
            if isinstance(scene, Exception):
                raise scene
            return scene

        yield scene_of


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("publisher", PUBLISHERS)
def test_it_is_seen_and_heard_together(scenes: Scenes, publisher: str, viewer: str) -> None:
    scene = scenes(publisher)
    seen = scene.of(viewer)
    hears(seen)
    if shows_no_picture(publisher, viewer, seen):
        assert seen["frames"] == 0
        pytest.skip("heard, not seen: this browser has no OpenH264 plug-in, so it takes no H264 over WebRTC")
    sees(seen)
    if viewer == scene.model:
        return
    assert scene.parted_ms < TOGETHER_MS
    if not scene.is_steady:
        return  # no player can keep up with times that move; what this server made of them was judged frame by frame
    assert viewer in scene.apart_ms, seen
    assert abs(scene.apart_ms[viewer]) < TOGETHER_MS, seen


def sees(seen: dict[str, Any]) -> None:
    """Judge the picture: its colours, and the bar, which goes on to the next of its places."""
    for colour, wanted in ((seen["blue"], BLUE), (seen["white"], WHITE)):
        assert colour is not None, seen
        assert all(abs(is_ - was) < NEAR for is_, was in zip(colour, wanted, strict=True)), colour
    assert set(seen["places"]) == set(range(BARS))
    steps = [(later - earlier) % BARS for earlier, later in zip(seen["places"], seen["places"][1:], strict=False)]
    assert sorted(steps)[len(steps) // 2] <= BARS // 2, seen["places"]  # forward, though a busy machine shows not all


def hears(seen: dict[str, Any]) -> None:
    """Judge the sound: beeps, and in them little but the tone."""
    purities = [purity for _, purity in seen["beeps"]]
    assert len(purities) >= 5
    assert sorted(purities)[len(purities) // 2] > 0.8

"""Publishers over MoQ for the load tools: each a process (bench/moq_publisher.py), which says what it has sent."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import trio

from bench.mesi import Mesi, Person, ServerFailed
from bench.payload import Rate

LIVE_S = 20.0  # from the process' start until its stream is live
SCHEMES = {"webtransport": "https", "quic": "moqt"}


@dataclass(frozen=True, slots=True)
class MoqPlace:
    """Where a publisher over MoQ publishes, and as whom; `core` is its processor core."""

    mesi: Mesi
    owner: Person
    stream: str
    carrier: str
    core: int | None = None

    async def is_live(self) -> bool:
        """Whether the server takes it for live."""
        view = await self.mesi.ask(self.owner, "GET", f"/streams/{self.stream}")
        return bool(view["card"]["state"] == "live")


@dataclass(slots=True)
class MoqPublishing:
    """One publisher: `number` is in its packets. Nobody can ask one for a keyframe, so `asked_ns` stays empty."""

    number: int
    place: MoqPlace
    rate: Rate
    sent: int = 0
    asked_ns: list[int] = field(default_factory=list)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish until cancelled; reports when the stream is live. Raises ServerFailed."""
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "bench.moq_publisher"], cwd=_ROOT, stdin=-1, stdout=-1
        )
        try:
            async with trio.open_nursery() as nursery:
                assert process.stdin is not None
                await process.stdin.send_all(json.dumps(await self._work()).encode() + b"\n")
                nursery.start_soon(self._listen, process)
                with trio.move_on_after(LIVE_S) as patience:
                    # The server tells nobody who publishes from elsewhere.
                    while not await self.place.is_live():  # noqa: ASYNC110
                        await trio.sleep(0.05)
                if patience.cancelled_caught:
                    raise ServerFailed(f"what is published over MoQ was not live after {LIVE_S:g} s")
                task_status.started()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

    async def _work(self) -> dict[str, object]:
        place, mesi = self.place, self.place.mesi
        address = urlsplit(mesi.url)
        url = f"{SCHEMES[place.carrier]}://{address.hostname}:{address.port}/moq/{place.stream}?jwt={place.owner.token}"
        return {
            "number": self.number,
            "url": url,
            "fingerprint": (await mesi.http.get(f"{mesi.url}/certificate.sha256")).text,
            "broadcast": place.stream,
            "video_bps": self.rate.video_bps,
            "sound": self.rate.sound,
            "core": place.core,
        }

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        buffer = b""
        async for part in process.stdout:
            *lines, buffer = (buffer + part).split(b"\n")
            if lines:
                self.sent = json.loads(lines[-1])["sent"]
        raise ServerFailed(f"publisher {self.number} ended")


_ROOT = Path(__file__).resolve().parent.parent

"""A tus client that nobody here wrote, over a network that breaks."""

from __future__ import annotations

import json
from pathlib import Path

import trio

from tests.files import samples
from tests.files.sending import filing_site, get, settled

MODULES = Path(__file__).resolve().parent.parent / "browser" / "node_modules"
SCRIPT = Path(__file__).with_name("tus_client.mjs")
BREAKS_AFTER = 1_500_000  # bytes of a connection, of the first two
PIECE = 65_536


class BreakingNetwork:
    """Carries connections to a server, and resets the first that carry much."""

    def __init__(self, port: int, breaks: int) -> None:
        self._port, self.breaks = port, breaks

    async def carry(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._back, far, near, nursery.cancel_scope)
            carried = 0
            async for part in near:
                await far.send_all(part)
                carried += len(part)
                if carried > BREAKS_AFTER and self.breaks:
                    self.breaks -= 1
                    break
            nursery.cancel_scope.cancel()

    async def _back(self, far: trio.SocketStream, near: trio.SocketStream, scope: trio.CancelScope) -> None:
        async for part in far:
            await near.send_all(part)
        scope.cancel()


async def test_a_stock_client_resumes_over_a_network_that_breaks(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    # A video with so much behind it that it takes several requests; what is behind it is not kept.
    film.write_bytes(samples.video() + bytes(10_000_000))
    async with filing_site(tmp_path / "data") as site, trio.open_nursery() as nursery:
        ann = await site.person("ann")
        port = ann.http.base_url.port
        assert port is not None
        network = BreakingNetwork(port, breaks=2)
        listeners = await nursery.start(trio.serve_tcp, network.carry, 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        with trio.fail_after(60):
            command = ["node", str(SCRIPT), str(MODULES), url, ann.token, str(film)]
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        said = json.loads(done.stdout)
        assert network.breaks == 0
        assert said["requests"] >= 4  # three of its own, and one for each break that it met in them
        view = await settled(ann, "/api/v1" + said["upload"].partition("/api/v1")[2])
        assert (view["state"], view["type"], view["name"]) == ("ready", "video/mp4", "film.mp4")
        kept = await get(ann, f"/api/v1/files/{view['id']}")
        assert kept.content[4:8] == b"ftyp"
        assert view["size"] == len(kept.content) < 1_000_000
        nursery.cancel_scope.cancel()

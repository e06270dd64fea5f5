"""A node in the test's own process, and the bench's stage in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from bench.crowd import open_http
from bench.mesi import Mesi
from bench.payload import Rate
from bench.stage import Stage, open_stage
from server.config import override
from tests.server.nodes import Site, open_site, small_config

SMALL = Rate(200_000)


@asynccontextmanager
async def open_bench(folder: Path, workers: int = 1) -> AsyncIterator[tuple[Site, Mesi, Stage]]:
    config = override(small_config(folder), workers=workers)
    async with open_site(folder, config) as site, open_http() as http:
        token = await trio.Path(folder, "admin.token").read_text()
        async with open_stage() as stage:
            yield site, Mesi(site.running.url, token.strip(), http), stage


async def wait_for_all(stage: Stage) -> None:
    """Let what is under way arrive: returns when nothing came for a while."""
    with trio.fail_after(10):
        before = -1
        while (now := int(stage.receiver.totals().counts.sum())) != before:
            before = now
            await trio.sleep(0.1)

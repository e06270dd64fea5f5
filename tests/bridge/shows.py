"""A whole node on which a stream is live over WHIP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from server.client import publish
from server.demo import send_picture
from tests.server.nodes import Person, Site, open_site


@dataclass
class Show:
    """A node with a stream that is live over WHIP."""

    site: Site
    owner: Person
    stream: str

    def target(self, viewer: Person) -> str:
        return f"/moq/{self.stream}?jwt={viewer.token}"

    @property
    def address(self) -> tuple[str, int]:
        return self.site.running.quic

    async def counter(self, name: str) -> float:
        text = (await self.site.http.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f"mesi_{name} ")]
        return float(lines[0].split()[1])

    async def switch(self, mode: str) -> dict[str, object]:
        prepared = await self.owner.ask("POST", f"/streams/{self.stream}/mode/prepare", {"mode": mode})
        done: dict[str, object] = await self.owner.ask(
            "POST", f"/streams/{self.stream}/mode/confirm", {"confirm_token": prepared["confirm_token"]}
        )
        return done


@asynccontextmanager
async def open_show(folder: Path, mode: str = "public") -> AsyncIterator[Show]:
    async with open_site(folder) as site:
        owner = await site.person("streamer")
        stream = await site.stream(owner, mode=mode)
        async with (
            publish(site.http, site.url("whip", stream), owner.token, ("audio", "video")) as sent,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(send_picture, sent)
            while (await owner.ask("GET", f"/streams/{stream}"))["card"]["state"] != "live":  # noqa: ASYNC110
                await trio.sleep(0.05)
            yield Show(site, owner, stream)
            nursery.cancel_scope.cancel()

"""moq-rs as a process of its own, called with URL FINGERPRINT BROADCAST: one JSON line for each frame it receives."""

from __future__ import annotations

import asyncio
import json
import sys

import moq


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def take(broadcast: moq.BroadcastConsumer, name: str) -> None:
    track = await broadcast.subscribe_track(name, moq.Subscription(priority=7, max_age_us=5_000_000))
    while (group := await track.recv_group()) is not None:
        async for frame in group:
            say(track=name, group=group.sequence, at=frame.timestamp_us, payload=frame.payload.hex())
    say(ended=name)


async def watch(url: str, fingerprint: str, path: str) -> None:
    client = moq.Client(url, tls_fingerprints=[fingerprint], reconnect=False, websocket_enabled=url.startswith("ws"))
    async with client as connection:
        async for announced in connection.announced():
            if announced.prefix == path:
                break
        broadcast = await connection.request_broadcast(path)
        await asyncio.gather(*(take(broadcast, name) for name in ("catalog.json", "video", "audio")))


if __name__ == "__main__":
    asyncio.run(watch(*sys.argv[1:4]))

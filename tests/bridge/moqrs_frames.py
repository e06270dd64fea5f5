"""moq-rs as a process of its own, called with URL FINGERPRINT BROADCAST: one JSON line for each frame of any track."""

from __future__ import annotations

import asyncio
import json
import sys

import moq

from media.moq.protocol.containers import unwrap_legacy_untrusted

TRACKS = ("video", "audio")


async def watch(url: str, fingerprint: str, path: str) -> None:
    """Say of each frame its track, group, times (of MoQ's frame and of the container, us), and access unit."""
    async with moq.Client(url, tls_fingerprints=[fingerprint], reconnect=False, websocket_enabled=False) as connection:
        async for announced in connection.announced():
            if announced.prefix == path:
                break
        broadcast = await connection.request_broadcast(path)
        async with asyncio.TaskGroup() as tasks:
            for name in TRACKS:
                wish = moq.Subscription(priority=7, max_age_us=5_000_000)
                tasks.create_task(follow(name, await broadcast.subscribe_track(name, wish)))


async def follow(name: str, track: moq.TrackConsumer) -> None:
    while (group := await track.recv_group()) is not None:
        async for frame in group:
            at_us, unit = unwrap_legacy_untrusted(frame.payload)
            said = [name, group.sequence, frame.timestamp_us, at_us, unit.hex()]
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(watch(*sys.argv[1:4]))

"""moq-rs as a process of its own, called with ROLE URL FINGERPRINT: one JSON line for each thing it sees."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import moq

PATH, TRACK = "room/bob", "events"
GROUPS, FRAMES, DATAGRAMS = 3, 4, 5


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def client(url: str, fingerprint: str) -> moq.Client:
    return moq.Client(url, tls_fingerprints=[fingerprint], reconnect=False, websocket_enabled=url.startswith("ws"))


async def publish(url: str, fingerprint: str) -> None:
    """Publish numbered groups of numbered frames, then datagrams, once each is asked for by a line on stdin."""
    async with client(url, fingerprint) as connection:
        broadcast = connection.create_broadcast(PATH)
        track = broadcast.publish_track(TRACK)
        broadcast.announce()
        say(announced=PATH)
        await track.demand().used()
        say(used=True)
        while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if command == "groups":
                for number in range(GROUPS):
                    group = track.append_group()
                    for frame in range(FRAMES):
                        group.write_frame(f"{number}.{frame}".encode() * 2_000, timestamp_us=number * 10_000 + frame)
                    group.finish()
            elif command == "datagrams":
                for number in range(DATAGRAMS):
                    track.append_datagram(f"d{number}".encode(), timestamp_us=90_000 + number)
            elif command == "finish":
                track.finish()
            elif command == "vanish":
                os._exit(0)  # without a word to the server


async def watch(url: str, fingerprint: str) -> None:
    """Say what is announced, then each group with its frames, each datagram, and the end."""
    async with client(url, fingerprint) as connection:
        async for announced in connection.announced():
            if announced.prefix == PATH:
                break
        say(announced=PATH)
        broadcast = await connection.request_broadcast(PATH)
        track = await broadcast.subscribe_track(TRACK, moq.Subscription(priority=7, max_age_us=5_000_000))
        info = track.info()
        say(timescale=getattr(info, "timescale", None))

        async def datagrams() -> None:
            while (datagram := await track.recv_datagram()) is not None:
                say(datagram=datagram.payload.decode(), at=datagram.timestamp_us)

        receiving = asyncio.create_task(datagrams())
        while (group := await track.recv_group()) is not None:
            frames = [(frame.payload[:3].decode(), len(frame.payload), frame.timestamp_us) async for frame in group]
            say(group=group.sequence, frames=frames)
        say(ended=True)
        receiving.cancel()


if __name__ == "__main__":
    asyncio.run({"publish": publish, "watch": watch}[sys.argv[1]](*sys.argv[2:4]))

"""A WHIP and WHEP server made of aiortc, as a process: a full ICE agent that opens DTLS itself.

Writes its port, then for each publisher what it decodes.
"""

from __future__ import annotations

import asyncio
import json
import sys

import aioice.ice
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

SECONDS = 60.0  # a process that nobody ends stops by itself
FRAMES = 20
CONNECTIONS: list[RTCPeerConnection] = []
READERS: list[asyncio.Future[None]] = []


def say(words: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def count(track: object) -> None:
    for _ in range(FRAMES):
        await track.recv()  # type: ignore[attr-defined]
    say({"decoded": track.kind})  # type: ignore[attr-defined]


async def answer(path: str, offer: str) -> str:
    connection = RTCPeerConnection()
    CONNECTIONS.append(connection)
    if path == "/whip":
        connection.on("track", lambda track: READERS.append(asyncio.ensure_future(count(track))))
    else:
        connection.addTrack(AudioStreamTrack())
        connection.addTrack(VideoStreamTrack())
    await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await connection.setLocalDescription(await connection.createAnswer())
    return connection.localDescription.sdp


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, path = head.split(" ")[:2]
    lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
    body = (await reader.readexactly(int(lengths[0]) if lengths else 0)).decode()
    status, said = ("201 Created", await answer(path, body)) if method == "POST" else ("200 OK", "")
    answered = f"HTTP/1.1 {status}\r\nLocation: {path}/1\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n"
    writer.write((answered + said).encode())
    await writer.drain()
    writer.close()


async def main() -> None:
    # aioice leaves out loopback, which is all that this test is to use.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    say({"port": server.sockets[0].getsockname()[1]})
    await asyncio.sleep(SECONDS)


if __name__ == "__main__":
    asyncio.run(main())

"""An aiortc publisher or viewer as a process: writes its offer, reads the answer, reports what it decodes."""

from __future__ import annotations

import asyncio
import json
import sys

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

SECONDS = 60.0  # a process that nobody ends stops by itself
FRAMES = 20  # before the first report
REPORTED = 5  # frames between two


def say(words: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def main(role: str) -> None:
    connection = RTCPeerConnection()
    decoded = {"audio": 0, "video": 0}
    readers = []

    async def count(track: object) -> None:
        while True:
            await track.recv()  # type: ignore[attr-defined]
            decoded[track.kind] += 1  # type: ignore[attr-defined]
            is_due = track.kind == "video" and decoded["video"] % REPORTED == 0  # type: ignore[attr-defined]
            if is_due and min(decoded.values()) >= FRAMES:
                say({"decoded": decoded})

    if role == "publish":
        connection.addTransceiver(AudioStreamTrack(), direction="sendonly")
        connection.addTransceiver(VideoStreamTrack(), direction="sendonly")
    else:
        connection.on("track", lambda track: readers.append(asyncio.ensure_future(count(track))))
        connection.addTransceiver("audio", direction="recvonly")
        connection.addTransceiver("video", direction="recvonly")
        channel = connection.createDataChannel("mesi.events")
        channel.on("message", lambda text: channel.send(f"{len(text)} {text[-5:]}"))
    await connection.setLocalDescription(await connection.createOffer())
    say({"offer": connection.localDescription.sdp})
    answer = json.loads(await asyncio.to_thread(sys.stdin.readline))["answer"]
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await asyncio.sleep(SECONDS)
    for reader in readers:
        reader.cancel()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

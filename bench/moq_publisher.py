"""A publisher over MoQ in a process of its own: moq-rs, a client of other makers, over real QUIC.

Started by bench/moq_publishing.py with a JSON object on its first line of input: its `number` in the packets, `url`,
`fingerprint` of the server's certificate, `broadcast`, `video_bps`, `sound`, and the processor `core`. Says on a line
of output how many packets it has sent, once it is asked for any. It runs on asyncio, as moq-rs does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import moq

from bench.cores import pin
from bench.payload import DESCRIPTOR_SIZE, FRAME_HEADER_SIZE, STAMP_SIZE, Packet, Rate, Source
from media.bridge.packetising import MAX_PAYLOAD

MAX_PART = MAX_PAYLOAD - DESCRIPTOR_SIZE
GROUP_S = 2.0  # as browsers' publishers have it: nobody can ask one for a keyframe
TELL_S = 0.05
OPUS_HEAD = b"OpusHead" + bytes([1, 2]) + (312).to_bytes(2, "little") + (48_000).to_bytes(4, "little") + bytes(3)


def cut_as_bridge(total: int) -> list[int]:
    """Return the sizes of the payloads that the bridge to WebRTC makes of a frame of `total` bytes."""
    total = max(total, FRAME_HEADER_SIZE + STAMP_SIZE)
    length = -(-total // -(-total // MAX_PART))
    return [DESCRIPTOR_SIZE + min(length, total - at) for at in range(0, total, length)]


class Writer:
    """Puts packets together to the frames that they were before they were cut."""

    def __init__(self, tracks: dict[str, moq.MediaProducer]) -> None:
        self._tracks, self._parts = tracks, b""

    def write(self, packet: Packet, started_ns: int) -> None:
        """Take a packet of a frame, and write it with the frame's last one."""
        payload = packet.stamp(time.time_ns())
        at_us = (packet.at_ns - started_ns) // 1_000
        if packet.kind == "audio":
            self._tracks["audio"].write_frame(payload, timestamp_us=at_us)
            return
        self._parts += payload[DESCRIPTOR_SIZE:]
        if packet.marker:
            self._tracks["video"].write_frame(self._parts, timestamp_us=at_us)
            self._parts = b""


async def publish(work: dict[str, Any]) -> None:
    """Publish until the process is ended."""
    client = moq.Client(work["url"], tls_fingerprints=[work["fingerprint"]], reconnect=False, websocket_enabled=False)
    async with client as connection:
        broadcast = connection.create_broadcast(work["broadcast"])
        tracks = {"video": broadcast.publish_video(moq.VideoFormat.VP8, track="video")}
        if work["sound"]:
            tracks["audio"] = broadcast.publish_audio(moq.AudioFormat.OPUS, OPUS_HEAD, track="audio")
        broadcast.announce()
        started_ns = told_ns = time.monotonic_ns()
        source = Source(
            work["number"], Rate(work["video_bps"], work["sound"]), started_ns=started_ns, cut=cut_as_bridge
        )
        writer, groups = Writer(tracks), 0
        while True:
            now_ns = time.monotonic_ns()
            if (now_ns - started_ns) / 1e9 >= groups * GROUP_S:
                groups += 1
                source.request_keyframe()
            for packet in source.due(now_ns):
                writer.write(packet, started_ns)
            if now_ns - told_ns >= TELL_S * 1e9:
                told_ns = now_ns
                sys.stdout.write(json.dumps({"sent": sum(source.sent.values())}) + "\n")
                sys.stdout.flush()
            await asyncio.sleep(max(0.0, (source.deadline_ns() - time.monotonic_ns()) / 1e9))


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    pin(given["core"])
    asyncio.run(publish(given))

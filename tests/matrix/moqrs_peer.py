"""moq-rs as a process of its own, called with ROLE URL FINGERPRINT BROADCAST: publishes a clapper board, or judges one.

Whoever watches says on one line of JSON what it has seen so far each time it is asked by a line on stdin.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time

import av
import moq

from tests.matrix.clapper import HEIGHT, RATE, SOUND_RATE, WIDTH, clips
from tests.matrix.decoding import Ears, Eyes, Seen

SECONDS = 60.0  # a process that nobody ends stops by itself
OPUS_HEAD = b"OpusHead" + bytes([1, 2]) + (312).to_bytes(2, "little") + SOUND_RATE.to_bytes(4, "little") + bytes(3)
CODECS = {"vp8": "vp8", "vp09": "vp9", "avc1": "h264", "avc3": "h264"}


# Late groups are waited for, as they come: a machine that is busy elsewhere stalls for longer than players like.
PATIENT = moq.Subscription(priority=7, max_age_us=5_000_000)


def client(url: str, fingerprint: str) -> moq.Client:
    return moq.Client(url, tls_fingerprints=[fingerprint], reconnect=False, websocket_enabled=False)


async def publish(url: str, fingerprint: str, path: str) -> None:
    async with client(url, fingerprint) as connection:
        broadcast = connection.create_broadcast(path)
        tracks = {
            "video": broadcast.publish_video(moq.VideoFormat.VP9),
            "audio": broadcast.publish_audio(moq.AudioFormat.OPUS, OPUS_HEAD),
        }
        encoders = {"video": av.CodecContext.create("libvpx-vp9", "w"), "audio": av.CodecContext.create("libopus", "w")}
        picture, sound = encoders["video"], encoders["audio"]
        picture.width, picture.height, picture.pix_fmt, picture.framerate = WIDTH, HEIGHT, "yuv420p", RATE
        picture.gop_size, picture.bit_rate, picture.thread_count = 2 * RATE, 500_000, 1
        picture.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
        sound.sample_rate, sound.layout, sound.format, sound.bit_rate = SOUND_RATE, "stereo", "s16", 64_000
        broadcast.announce()
        started = time.monotonic()
        for clip in clips(SECONDS):
            await asyncio.sleep(max(0.0, started + clip.at_s - time.monotonic()))
            for packet in encoders[clip.kind].encode(clip.frame):
                tracks[clip.kind].write_frame(bytes(packet), timestamp_us=int(clip.at_s * 1_000_000))


async def watch(url: str, fingerprint: str, path: str) -> None:
    seen = Seen()
    async with client(url, fingerprint) as connection:
        async for announced in connection.announced():
            if announced.prefix == path:
                break
        broadcast = await connection.request_broadcast(path)
        catalog = await broadcast.catalog()
        (video_name, video), (audio_name, audio) = *catalog.video.items(), *catalog.audio.items()
        eyes, ears = Eyes(CODECS[video.codec.partition(".")[0]], seen), Ears(seen)

        async def look() -> None:
            async for frame in await broadcast.subscribe_media(video_name, video, PATIENT):
                if frame.payload:  # an empty one only says when its group ends
                    eyes.look(frame.payload, frame.timestamp_us / 1_000)

        async def listen() -> None:
            async for frame in await broadcast.subscribe_media(audio_name, audio, PATIENT):
                ears.listen(frame.payload, frame.timestamp_us / 1_000)

        async def answer() -> None:
            while await asyncio.to_thread(sys.stdin.readline):
                sys.stdout.write(json.dumps({"seen": dataclasses.asdict(seen)}) + "\n")
                sys.stdout.flush()

        await asyncio.gather(look(), listen(), answer())


if __name__ == "__main__":
    asyncio.run({"publish": publish, "watch": watch}[sys.argv[1]](*sys.argv[2:5]))

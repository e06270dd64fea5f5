"""Files of every kind that is taken, made small; and some that are made to do harm."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

GPS = 0x8825  # the EXIF tag of the place
TURNED = 6  # EXIF's orientation of a telephone held upright


def picture(form: str = "PNG", size: tuple[int, int] = (64, 48), **how: Any) -> bytes:
    made = io.BytesIO()
    drawn = Image.linear_gradient("L").resize(size).convert("RGB")
    drawn.save(made, form, **how)
    return made.getvalue()


def placed_picture() -> bytes:
    """Return a photograph that says where it was taken, by which camera, and which way is up."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "SecretCamera", TURNED
    exif[GPS] = {1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)}
    return picture("JPEG", exif=exif, comment=b"SecretComment")


def moving_picture(frames: int = 3) -> bytes:
    made = io.BytesIO()
    drawn = [Image.new("RGB", (16, 16), (number % 256, number // 256, 99)) for number in range(frames)]
    drawn[0].save(made, "GIF", save_all=True, append_images=drawn[1:], duration=50, loop=0)
    return made.getvalue()


def bomb() -> bytes:
    """Return a PNG of some kilobytes that says it has 900 million pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def video(form: str = "mp4", seconds: float = 1.0, size: tuple[int, int] = (160, 120), **metadata: str) -> bytes:
    """Return a moving test picture with a tone."""
    made = io.BytesIO()
    pictures, sound = ("libx264", "aac") if form == "mp4" else ("libvpx", "libopus")
    with av.open(made, "w", format=form) as container:
        container.metadata.update(metadata)
        shown: Any = container.add_stream(pictures, rate=25)
        shown.width, shown.height, shown.pix_fmt = *size, "yuv420p"
        heard: Any = container.add_stream(sound, rate=48_000, layout="mono")
        for number in range(int(seconds * 25)):
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (number * 9 % 256, 99, 200)))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(shown.encode(frame))
        container.mux(shown.encode(None))
        for number in range(int(seconds * 50)):
            tone = av.AudioFrame("s16", "mono", 960)
            tone.planes[0].update(bytes(1920))
            tone.sample_rate, tone.pts, tone.time_base = 48_000, number * 960, Fraction(1, 48_000)
            container.mux(heard.encode(tone))
        container.mux(heard.encode(None))
    return made.getvalue()


def sound(form: str = "ogg") -> bytes:
    made = io.BytesIO()
    with av.open(made, "w", format=form) as container:
        container.metadata["title"] = "SecretTitle"
        heard: Any = container.add_stream("libopus" if form == "ogg" else "libmp3lame", rate=48_000, layout="mono")
        size = 960 if form == "ogg" else 1152
        for number in range(50):
            tone = av.AudioFrame("s16" if form == "ogg" else "s16p", "mono", size)
            tone.planes[0].update(bytes(size * 2))
            tone.sample_rate, tone.pts, tone.time_base = 48_000, number * size, Fraction(1, 48_000)
            container.mux(heard.encode(tone))
        container.mux(heard.encode(None))
    return made.getvalue()


def streams_of(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.type for stream in container.streams]

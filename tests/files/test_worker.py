"""The worker, as a process: what it makes of good files, and what it does about bad ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from server.files.confinement import landlock_version
from tests.files import samples

LARGEST = 50_000_000


@dataclass
class Made:
    """What a worker left."""

    code: int
    report: dict[str, Any]
    content: bytes
    preview: bytes


def work(folder: Path, given: bytes, sha256: str = "", largest: int = LARGEST) -> Made:
    (folder / "source").write_bytes(given)
    with (
        (folder / "source").open("rb") as source,
        (folder / "content").open("w+b") as content,
        (folder / "preview").open("w+b") as preview,
    ):
        numbers = [source.fileno(), content.fileno(), preview.fileno()]
        command = [sys.executable, "-I", "-m", "server.files.worker", *map(str, numbers), str(largest), sha256]
        done = subprocess.run(command, pass_fds=numbers, capture_output=True, check=False)
    said = json.loads(done.stdout) if done.stdout else {}
    return Made(done.returncode, said, (folder / "content").read_bytes(), (folder / "preview").read_bytes())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_picture_is_drawn_anew_with_a_small_one_of_it(tmp_path: Path, form: str) -> None:
    made = work(tmp_path, samples.picture(form, (1200, 900)))
    assert made.report == {"type": f"image/{form.lower()}", "width": 1200, "height": 900}
    with Image.open(io.BytesIO(made.content)) as kept, Image.open(io.BytesIO(made.preview)) as small:
        assert (kept.format, kept.size) == (form, (1200, 900))
        assert (small.format, small.size) == ("WEBP", (640, 480))


def test_where_a_photograph_was_taken_is_not_left_in_it_but_its_way_up_is(tmp_path: Path) -> None:
    given = samples.placed_picture()
    made = work(tmp_path, given)
    with Image.open(io.BytesIO(given)) as before, Image.open(io.BytesIO(made.content)) as kept:
        assert before.getexif().get_ifd(samples.GPS)
        assert before.size == (64, 48)
        assert kept.size == (48, 64)
        assert not dict(kept.getexif())
    assert b"SecretCamera" in given
    for secret in (b"Secret", b"Exif"):
        assert secret not in made.content
        assert secret not in made.preview


def test_a_moving_picture_goes_on_moving(tmp_path: Path) -> None:
    made = work(tmp_path, samples.moving_picture(5))
    with Image.open(io.BytesIO(made.content)) as kept:
        assert (kept.n_frames, kept.info["loop"], kept.info["duration"]) == (5, 0, 50)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_pictures_of_all_modes_are_drawn(tmp_path: Path, mode: str) -> None:
    given = io.BytesIO()
    Image.new(mode, (20, 10)).save(given, "JPEG" if mode == "CMYK" else "PNG")
    made = work(tmp_path, given.getvalue())
    assert (made.report["width"], made.report["height"]) == (20, 10)
    with Image.open(io.BytesIO(made.content)) as kept:
        kept.load()


@pytest.mark.parametrize(("form", "type"), [("mp4", "video/mp4"), ("webm", "video/webm")])
def test_of_a_video_its_picture_and_sound_are_kept_and_nothing_else(tmp_path: Path, form: str, type: str) -> None:
    given = samples.video(form, title="SecretTitle", location="+48.8577+002.295/")
    made = work(tmp_path, given + b"<script>SecretTail</script>")
    assert {**made.report, "duration_ms": 0} == {"type": type, "width": 160, "height": 120, "duration_ms": 0}
    assert 900 < made.report["duration_ms"] < 1200
    assert samples.streams_of(tmp_path / "content") == ["video", "audio"]
    assert b"SecretTitle" in given
    assert b"Secret" not in made.content
    with Image.open(io.BytesIO(made.preview)) as small:
        assert small.size == (160, 120)
    if form == "mp4":
        assert made.content.index(b"moov") < made.content.index(b"mdat")  # it plays while it loads


@pytest.mark.parametrize(("form", "type"), [("ogg", "audio/ogg"), ("mp3", "audio/mpeg")])
def test_of_a_sound_only_the_sound_is_kept(tmp_path: Path, form: str, type: str) -> None:
    given = samples.sound(form)
    made = work(tmp_path, given)
    assert made.report["type"] == type
    assert made.report["duration_ms"] > 800
    assert b"SecretTitle" in given
    assert b"SecretTitle" not in made.content
    assert not made.preview


def test_texts_and_documents_are_kept_as_they_are(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../etc/passwd", "x" * 100_000)
    texts = {"text/plain": "Grüße, 世界 🎉\n".encode() * 200_000, "application/pdf": b"%PDF-1.7\n" + bytes(range(256))}
    for type, given in {**texts, "application/zip": packed.getvalue()}.items():
        made = work(tmp_path, given)
        assert made.report == {"type": type}
        assert made.content == given


BROKEN = {
    "nothing known": (bytes(range(256)) * 8, "file_type_not_allowed"),
    "an SVG in UTF-16": ('<svg onload="alert(1)"/>'.encode("utf-16"), "file_type_not_allowed"),
    "a program": (b"\x7fELF" + bytes(600), "file_type_not_allowed"),
    "a text that turns out not to be one": (b"text " * 500_000 + b"\x00\xff", "file_type_not_allowed"),
    "a text cut in a character": (b"text " * 500 + "é".encode()[:1], "file_type_not_allowed"),
    "a bomb": (samples.bomb(), "file_too_demanding"),
    "half a picture": (samples.picture("PNG", (500, 500))[:700], "file_broken"),
    "a GIF that is a script": (b"GIF89a/*" + b"*/=alert(1)//" * 90, "file_broken"),
    "an mp4 of nothing": (b"\x00\x00\x00\x18ftypisom" + bytes(1000), "file_broken"),
    "half a video": (samples.video()[:3000], "file_broken"),
    "a playlist that names other files": (b"\x1a\x45\xdf\xa3webm#EXTM3U\nfile:///etc/passwd\n" * 20, "file_broken"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_can_not_be_taken_is_named(tmp_path: Path, name: str) -> None:
    given, problem = BROKEN[name]
    assert work(tmp_path, given).report == {"problem": problem}


def test_a_picture_that_is_a_page_as_well_is_only_a_picture_afterwards(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("Evil.class", "x")
    given = samples.picture("JPEG", comment=b"<script>alert(1)</script>") + packed.getvalue()
    made = work(tmp_path, given)
    assert made.report["type"] == "image/jpeg"
    for trace in (b"<script", b"PK\x03\x04", b"Evil"):
        assert trace in given
        assert trace not in made.content


def test_too_many_frames_are_too_much(tmp_path: Path) -> None:
    assert work(tmp_path, samples.moving_picture(1001)).report == {"problem": "file_too_demanding"}


def test_what_was_declared_to_have_another_hash_is_not_taken(tmp_path: Path) -> None:
    given = samples.picture()
    assert work(tmp_path, given, hashlib.sha256(given).hexdigest()).report["type"] == "image/png"
    assert work(tmp_path, given, hashlib.sha256(b"").hexdigest()).report == {"problem": "checksum_mismatch"}


def test_a_worker_can_write_no_more_than_it_may(tmp_path: Path) -> None:
    made = work(tmp_path, b"text " * 100_000, largest=100_000)
    assert (made.code, made.report) == (1, {})
    assert len(made.content) <= 100_000


BOUND = """
import os, resource, socket, sys
from server.files.confinement import bound, landlock_version, shut_in
bound(1000)
limits = resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE
print([resource.getrlimit(each)[1] for each in limits])
print(os.nice(0) == min(19, 10 + int(sys.argv[1])), "NoNewPrivs:\\t1" in open("/proc/self/status").read())
try:
    bytearray(2_000_000_000)
except MemoryError:
    print("bounded")
with open(sys.argv[2], "w") as kept, socket.socket() as network:
    version = landlock_version()
    shut_in([kept.fileno()])
    open(f"/proc/self/fd/{kept.fileno()}", "w").close()
    import colorsys
    for attempt in (
        lambda: open("/etc/passwd"),
        lambda: open(sys.argv[2] + ".other", "w"),
        lambda: os.listdir("/"),
        lambda: network.connect(("127.0.0.1", 9)) if version >= 4 else open("/etc/passwd"),
    ):
        try:
            attempt()
        except PermissionError:
            print("denied")
"""


def test_a_worker_is_confined_before_it_reads(tmp_path: Path) -> None:
    assert landlock_version(), "this test needs a kernel with Landlock"
    command = [sys.executable, "-c", BOUND, str(os.nice(0)), str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[1610612736, 120, 1000, 0]", "True True", "bounded", *["denied"] * 4]

"""What readers of uploads promise: their headers, their names, how they begin, and what a worker says of them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import unquote

from PIL import Image

from server.files.naming import MAX_NAME, disposition, name_untrusted
from server.files.processing import _read_report_untrusted
from server.files.ranges import range_untrusted
from server.files.sniffing import HEAD_BYTES, is_text_untrusted, sniff_untrusted
from server.files.tus import MAX_METADATA, checksum_untrusted, new_upload_untrusted
from server.problems import Problem
from signalling.refusals import TITLES
from tests.fuzz.target import TEXT, Target


def read_tus_headers(data: bytes) -> None:
    length, metadata, checksum = (*data.decode("latin-1").split("\n", 2), "", "")[:3]
    with suppress(Problem):
        new = new_upload_untrusted({"upload-length": length, "upload-metadata": metadata})
        assert 0 <= new.size < 10**15
        assert len(new.name) <= MAX_METADATA
        assert len(new.sha256) in (0, 64)
    with suppress(Problem):
        said = checksum_untrusted(checksum)
        assert said is None or len(said.digest) <= len(checksum)


def read_range(data: bytes) -> None:
    size = data[0] if data else 0
    with suppress(Problem):
        part = range_untrusted(data[1:].decode("latin-1"), size)
        assert part is None or 0 <= part[0] < part[1] <= size


def read_file_name(data: bytes) -> None:
    name = name_untrusted(data.decode("utf-8", "surrogateescape"))
    assert 0 < len(name) <= MAX_NAME
    assert name_untrusted(name) == name
    assert not set(name) & set('/\\\0\r\n"')
    assert not name.startswith(".")
    said = disposition(name, "image/png")
    assert said.isascii()
    assert unquote(said.partition("''")[2]) == name


def read_beginning(data: bytes) -> None:
    kind = sniff_untrusted(data[:HEAD_BYTES], whole=len(data) <= HEAD_BYTES)
    if kind is not None and kind.family == "text":
        data[:HEAD_BYTES].decode(errors="strict" if len(data) <= HEAD_BYTES else "ignore")
    if is_text_untrusted(data, whole=True):
        assert "\0" not in data.decode()


def read_report(data: bytes) -> None:
    with NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        report = _read_report_untrusted(Path(file.name), 0)
    assert report.problem in TITLES if report.problem else report.type


def beginnings() -> Iterator[bytes]:
    for form in ("PNG", "JPEG", "GIF", "WEBP"):
        made = io.BytesIO()
        Image.new("RGB", (4, 4)).save(made, form)
        yield made.getvalue()
    yield b"\x00\x00\x00\x18ftypisom"
    yield b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01webm"
    yield b"ID3\x04"
    yield b"\xff\xfb\x90\x00"
    yield "Grüße".encode()


FILE_TARGETS = {
    "tus-headers": Target(
        read_tus_headers,
        lambda: (
            b"12\nfilename YS5wbmc=,sha256 YQ==\nsha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
            b"1\nname\n",
            b"-1\n,\nmd5 ?",
        ),
        TEXT,
    ),
    "range": Target(read_range, lambda: (b"\x40bytes=0-5", b"\x40bytes=-5", b"\x40bytes=5-", b"\x00bytes=0-"), 100),
    "file-name": Target(
        read_file_name, lambda: (b"a.png", b"../../etc/passwd", b"C:\\x\\y.txt", "\u202egpj.exe\u0000".encode()), 600
    ),
    "file-beginning": Target(read_beginning, beginnings),
    "file-report": Target(
        read_report,
        lambda: (b'{"type":"image/png","width":1}', b'{"problem":"file_broken"}', b"{}", b'{"problem":1}'),
        500,
    ),
}

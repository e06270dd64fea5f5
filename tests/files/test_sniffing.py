"""What a file is and what it is called are two things, and neither leads anywhere."""

from __future__ import annotations

import pytest

from server.files.naming import MAX_NAME, disposition, name_untrusted
from server.files.sniffing import sniff_untrusted
from tests.files import samples

BEGINNINGS = {
    "image/png": samples.picture("PNG"),
    "image/jpeg": samples.picture("JPEG"),
    "image/gif": samples.picture("GIF"),
    "image/webp": samples.picture("WEBP"),
    "video/mp4": samples.video(),
    "video/webm": samples.video("webm"),
    "audio/ogg": samples.sound(),
    "audio/mpeg": samples.sound("mp3"),
    "application/pdf": b"%PDF-1.7",
    "application/zip": b"PK\x03\x04",
    "text/plain": "Grüße".encode(),
}
NONE = {
    "avif": b"\x00\x00\x00\x1cftypavif" + bytes(20),
    "heic": b"\x00\x00\x00\x1cftypheic" + bytes(20),
    "matroska": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
    "program": b"MZ\x90\x00",
    "bitmap": b"BM\x00\x00",
    "zeros": bytes(9),
    "utf-16": "text".encode("utf-16"),
    "latin-1": "Grüße".encode("latin-1"),
}


@pytest.mark.parametrize("type", BEGINNINGS)
def test_a_file_is_known_by_how_it_begins(type: str) -> None:
    kind = sniff_untrusted(BEGINNINGS[type][:512], whole=False)
    assert kind is not None
    assert kind.type == type


@pytest.mark.parametrize("name", NONE)
def test_what_is_not_taken_is_not_known(name: str) -> None:
    assert sniff_untrusted(NONE[name], whole=True) is None


def test_a_character_may_be_cut_only_where_more_comes() -> None:
    cut = "Grüß".encode()[:-1]
    assert sniff_untrusted(cut, whole=False) is not None
    assert sniff_untrusted(cut, whole=True) is None


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("holiday.jpg", "holiday.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\evil.txt", "evil.txt"),
        ("..", "file"),
        ("", "file"),
        (".htaccess", "htaccess"),
        ("a\x00b\r\nSet-Cookie: x", "abSet-Cookie x"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("\ud800x.png", "x.png"),
        ("日本 🎉.pdf", "日本 🎉.pdf"),
        ('"><script>.png', "' script .png"),
    ],
    ids=range(11),
)
def test_a_name_is_only_a_name(given: str, name: str) -> None:
    assert name_untrusted(given) == name


def test_a_name_that_is_too_long_keeps_its_end() -> None:
    name = name_untrusted("x" * 5000 + ".tar.gz")
    assert len(name) == MAX_NAME
    assert name.endswith("x.tar.gz")


def test_only_what_browsers_show_harmlessly_is_shown_in_place() -> None:
    assert disposition("ä.png", "image/png") == "inline; filename*=UTF-8''%C3%A4.png"
    for type in ("text/plain", "application/pdf", "application/zip", "text/html", "image/svg+xml"):
        assert disposition("a", type).startswith("attachment;")

"""Tells what a file is by how it begins, among the kinds that are taken; what it is called plays no part in it.

Signatures as in the MIME Sniffing Standard (section 6), but for what it has no use for here.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 512  # as many decide; a text is decided by its whole
ISO_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file: `family` is how it is made harmless, `name` what the family's reader calls it."""

    type: str
    family: str  # picture, recording, text, or opaque: kept as it is
    name: str = ""


PNG = Kind("image/png", "picture", "PNG")
JPEG = Kind("image/jpeg", "picture", "JPEG")
GIF = Kind("image/gif", "picture", "GIF")
WEBP = Kind("image/webp", "picture", "WEBP")
MP4 = Kind("video/mp4", "recording", "mp4")
WEBM = Kind("video/webm", "recording", "webm")
OGG = Kind("audio/ogg", "recording", "ogg")
MP3 = Kind("audio/mpeg", "recording", "mp3")
PDF = Kind("application/pdf", "opaque")
ZIP = Kind("application/zip", "opaque")
TEXT = Kind("text/plain", "text")
SHOWN = {"image/png", "image/jpeg", "image/gif", "image/webp", "video/mp4", "video/webm", "audio/mp4", "audio/ogg"}
SHOWN |= {"audio/mpeg", "audio/webm"}  # what browsers may show in place; all else is to be saved


def sniff_untrusted(head: bytes, *, whole: bool = False) -> Kind | None:
    """Return what a file is that begins with `head`, which is all of it if `whole`; None for what is not taken."""
    for mark, kind in ((b"\x89PNG\r\n\x1a\n", PNG), (b"\xff\xd8\xff", JPEG), (b"GIF87a", GIF), (b"GIF89a", GIF)):
        if head.startswith(mark):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[4:8] == b"ftyp":
        return None if head[8:12] in ISO_PICTURES else MP4
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return WEBM if b"webm" in head[:64] else None
    if head.startswith(b"OggS"):
        return OGG
    if head.startswith(b"ID3") or _is_mp3_frame(head):
        return MP3
    if head.startswith(b"%PDF-"):
        return PDF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZIP
    return TEXT if is_text_untrusted(head, whole=whole) else None


def is_text_untrusted(part: bytes, *, whole: bool) -> bool:
    """Whether bytes are UTF-8 as people write it; unless they are the `whole`, the last character may be cut."""
    try:
        text = part.decode()
    except UnicodeDecodeError as error:
        if whole or error.reason != "unexpected end of data" or error.start < len(part) - 3:
            return False
        text = part[: error.start].decode()
    return not any(character < " " and character not in "\t\n\r\f\x1b" for character in text)


def _is_mp3_frame(head: bytes) -> bool:
    # ISO/IEC 11172-3 section 2.4.1.3: sync, layer III, a bitrate and a rate that exist.
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[1] & 0x18 == 0x08:
        return False
    return head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3

"""What a file is called: shown to people and offered for saving, and never a place on this machine."""

from __future__ import annotations

from unicodedata import bidirectional, category, normalize
from urllib.parse import quote

from server.files.sniffing import SHOWN

MAX_NAME = 120  # characters: file systems take 255 bytes
UNNAMED = "file"
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # with them "gpj.exe" reads as "exe.jpg"
SEPARATORS = str.maketrans({"/": " ", "\\": " ", ":": " ", "*": " ", "?": " ", '"': "'", "<": " ", ">": " ", "|": " "})
KEPT_END = 16  # characters of a name that is too long: its end says what kind of file it is


def name_untrusted(name: str) -> str:
    """Return a name without what could lead elsewhere, hide, or pretend; "file" where nothing is left."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    seen = "".join(
        character
        for character in normalize("NFC", last)
        if category(character) not in ("Cc", "Cs", "Cf", "Zl", "Zp", "Cn") and bidirectional(character) not in TURNING
    )
    tidy = " ".join(seen.translate(SEPARATORS).split()).strip(". ")
    if len(tidy) > MAX_NAME:
        tidy = " ".join(f"{tidy[: MAX_NAME - KEPT_END]}{tidy[-KEPT_END:]}".split())
    return tidy or UNNAMED


def disposition(name: str, type: str) -> str:
    """Return a Content-Disposition (RFC 6266): in place for what browsers show, to be saved for all else."""
    way = "inline" if type in SHOWN else "attachment"
    return f"{way}; filename*=UTF-8''{quote(name, safe='')}"

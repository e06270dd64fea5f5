"""Brings what a streamer writes about a stream into one form, in which nothing invisible stands. Pure."""

from __future__ import annotations

import re
from unicodedata import category, normalize

from signalling.refusals import Refused

# Letters of Persian and of Indian scripts need them, and so do emoji of several people: between two characters.
JOINERS = {"\u200c", "\u200d"}
# Cc: controls; Cf: what has no width or turns the direction of writing; Cs: half characters; Zl, Zp: line ends.
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def title_untrusted(title: str) -> str:
    """Return a title in one line. Raises Refused("invalid_title")."""
    title = " ".join(_visible(" ".join(title.split())).split())
    if not title:
        raise Refused("invalid_title", "nothing of it can be seen")
    return title


def description_untrusted(description: str) -> str:
    """Return a description, whose lines stay lines, with one empty one between two at most."""
    lines = (_visible(line).strip() for line in description.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _visible(line: str) -> str:
    kept: list[str] = []
    for character in line.replace("\t", " "):
        joins = character in JOINERS and bool(kept) and kept[-1] not in JOINERS
        if joins or category(character) not in INVISIBLE:
            kept.append(character)
    return normalize("NFC", "".join(kept).strip("".join(JOINERS)))

"""What accounts may be called, and when two names are the same."""

from __future__ import annotations

from unicodedata import category, normalize

MAX_LENGTH = 64


class InvalidName(ValueError):
    """Nobody can be called that; the message says why."""


def tidy_untrusted(name: str) -> str:
    """Return a name in its one Unicode form; raises InvalidName."""
    name = normalize("NFKC", name)
    if name != name.strip() or not name:
        raise InvalidName("a name neither is empty nor begins or ends with a space")
    if len(name) > MAX_LENGTH:
        raise InvalidName(f"a name has at most {MAX_LENGTH} characters")
    # Cc, Cf: invisible ones, by which two names could look the same; Cs: half characters; Zl, Zp: line ends.
    if any(category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for character in name):
        raise InvalidName("a name has only characters that one can see")
    if "/" in name:
        raise InvalidName("a name has no slash: it stands in addresses")
    return name


def fold(name: str) -> str:
    """Return what two names have in common that differ in case alone."""
    return normalize("NFKC", normalize("NFKC", name).casefold())

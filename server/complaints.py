"""Says in plain words what msgspec found wrong with a value, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass

# msgspec's words (0.22) for types, and ours.
_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object with named fields",
    "null": "nothing (null)",
}
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_AT = re.compile(r" - at `(?:key in )?\$(?P<path>.*?)`$", re.DOTALL)


class ConfigError(Exception):
    """The configuration can't be used; the message names the file, the line where there is one, and the remedy."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """`where` leads to the value, by names and by positions in lists; `words` go on from it."""

    where: tuple[str | int, ...]
    words: str
    unknown: bool = False

    @property
    def path(self) -> str:
        """The place as people write it: "ice_servers[0].url", "" for the whole."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{_quoted(step)}" for step in self.where)
        return "".join(steps).removeprefix(".")

    def __str__(self) -> str:
        return f"{self.path}: {self.words}" if self.where else self.words


def explain(message: str) -> Complaint:
    """Turn the text of a msgspec.ValidationError into a complaint."""
    at = _AT.search(message)
    what = message[: at.start()] if at else message
    steps = re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", at["path"]) if at else []
    where: tuple[str | int, ...] = tuple(name or int(index) for name, index in steps)
    if unknown := _UNKNOWN.fullmatch(what):
        return Complaint((*where, unknown["name"]), "is not known here", unknown=True)
    if missing := _MISSING.fullmatch(what):
        return Complaint((*where, missing["name"]), "is missing")
    words = re.sub(r"`(\w+)(?: \| null)?`", lambda name: _NAMES.get(name[1], name[1]), what)
    words = words.replace("Expected", "must be", 1).replace(", got a number", ", got a fraction")
    words = words.replace(", got ", "; it is ").replace("text matching regex", "text that matches")
    return Complaint(where, words[:1].lower() + words[1:])


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w-]{1,64}", name) else repr(name[:64])

"""What may be written in a message, a title and a reaction; whatever is not is refused with what is wrong."""

from __future__ import annotations

import re
from unicodedata import bidirectional, category, normalize

from signalling.refusals import Refused

MAX_TEXT = 4000  # characters: four screens of a phone; what is longer is a file
MAX_TITLE = 100
MAX_REACTION = 16  # code points: the longest emoji sequence of Unicode has 10
MAX_MENTIONS = 20  # in a message; more is a notice for everybody
# Unicode's Cc without newline and tab, which a person may mean; Cs: halves of pairs, which no UTF-8 can carry.
UNSAYABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Explicit directions (Unicode Bidirectional Algorithm): with them a title can pretend to be another.
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
MENTION = re.compile(r"(?<!\w)@([^\s@,;:!?\"()<>]{1,64})")
PICTURED = {"So", "Sk", "Mn", "Me", "Cf", "Sm", "Po", "Nd", "Sc"}  # what emoji sequences are made of


def text_untrusted(text: str) -> str:
    """Return a message's text in one Unicode form, trimmed. Raises Refused (invalid_message, message_too_long)."""
    text = normalize("NFC", text).strip()
    if not text:
        raise Refused("invalid_message", "it is empty")
    if len(text) > MAX_TEXT:
        raise Refused("message_too_long", f"at most {MAX_TEXT} characters", max_length=MAX_TEXT)
    _check_controls(text)
    return text


def draft_untrusted(text: str) -> str:
    """Return what somebody has begun to write, maybe nothing. Raises Refused like `text_untrusted`."""
    return text_untrusted(text) if text.strip() else ""


def title_untrusted(title: str) -> str:
    """Return a group's title in one line. Raises Refused("invalid_title")."""
    title = normalize("NFC", title).strip()
    if not 0 < len(title) <= MAX_TITLE:
        raise Refused("invalid_title", f"1 to {MAX_TITLE} characters", max_length=MAX_TITLE)
    for character in title:
        if category(character) in ("Cc", "Cs", "Zl", "Zp") or bidirectional(character) in TURNING:
            raise Refused("invalid_title", "it contains characters that can't be seen")
    return title


def reaction_untrusted(reaction: str) -> str:
    """Return a reaction, which is one emoji. Raises Refused("invalid_reaction")."""
    reaction = normalize("NFC", reaction)
    kinds = {category(character) for character in reaction}
    if not 0 < len(reaction) <= MAX_REACTION or not kinds <= PICTURED or not kinds & {"So", "Sm", "Po", "Me"}:
        raise Refused("invalid_reaction", "one emoji")
    return reaction


def mentions_in(text: str) -> tuple[str, ...]:
    """Return the names that a text mentions by @name, each once, as far as there may be."""
    names = dict.fromkeys(found.rstrip(".") for found in MENTION.findall(text))
    return tuple(name for name in names if name)[:MAX_MENTIONS]


def _check_controls(text: str) -> None:
    if UNSAYABLE.search(text):
        raise Refused("invalid_message", "it contains control characters")

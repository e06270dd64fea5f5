"""What a notice says, in as few words as serve: who, and where to look; never what was written, paid or shown.

A notice lies on a locked screen. So messages, amounts, and what private and paid streams are called stay on the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import msgspec

Kind = Literal["message", "mention", "call", "live", "tip", "ticket", "case"]
DAY_S = 86_400
# How long a notice of a kind is of use: a push service drops it then, and so does this server.
USEFUL_S: dict[Kind, int] = {
    "message": 3 * DAY_S,
    "mention": 3 * DAY_S,
    "call": 90,
    "live": 3_600,
    "tip": 3 * DAY_S,
    "ticket": 3 * DAY_S,
    "case": 14 * DAY_S,
}
# These wake a sleeping device (RFC 8030 section 5.3).
URGENT: frozenset[Kind] = frozenset({"message", "mention", "call", "live"})
MAX_TITLE = 80  # characters of a public stream's title


class Kinds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What I want to be told of: messages, those that mention me, calls, who begins to stream, tips, tickets, cases."""

    message: bool = True
    mention: bool = True
    call: bool = True
    live: bool = True
    tip: bool = True
    ticket: bool = True
    case: bool = True

    def wants(self, kind: Kind) -> bool:
        """Whether it is one of them."""
        return bool(getattr(self, kind))


class Words(msgspec.Struct, frozen=True, omit_defaults=True):
    """What reaches a device: of one `tag` it shows the newest alone. `who` is a name, `title` a public stream's."""

    kind: Kind
    tag: str
    url: str
    at: int
    who: str = ""
    title: str = ""
    group: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """Words for one account."""

    account: str
    words: Words


def of_message(conversation: str, kind: Kind, at: int, who: str, *, group: bool) -> Words:
    """Somebody wrote, mentioned one, or calls."""
    return Words(kind, f"talk.{conversation}", f"/messages?c={quote(conversation)}", at, who, group=group)


def of_stream(stream: str, at: int, who: str, title: str) -> Words:
    """Somebody whom one follows has begun to stream; `title` is "" unless everybody may watch."""
    return Words("live", f"live.{stream}", f"/watch?stream={quote(stream)}", at, who, title[:MAX_TITLE])


def of_tip(at: int) -> Words:
    """One was tipped."""
    return Words("tip", "tip", "/wallet", at)


def of_ticket(stream: str, at: int) -> Words:
    """Something became of a ticket: one's own, or for one's own stream."""
    return Words("ticket", f"ticket.{stream}", f"/watch?stream={quote(stream)}", at)


def of_case(case: str, at: int) -> Words:
    """Something was decided in a case of one's own."""
    return Words("case", f"case.{case}", "/cases", at)

"""How a session asks to be let in, whatever carries it, and how that is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from media.moq.messages import normal_path
from media.moq.relay import Rights
from media.moq.versions import Version

MAX_FIELDS = 16  # of a query: there is one that we know


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a client showed: the path of its URL, the token of `?jwt=`, and the Origin of the page it is on."""

    path: str
    token: str | None
    version: Version
    carrier: str  # "webtransport", "quic" or "websocket"
    address: str
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The session is not let in; `status` is HTTP's, also where it has to travel as a code of QUIC's."""

    status: int
    reason: str


Admit = Callable[[SessionRequest], Rights | Refusal]


def split_target_untrusted(target: str) -> tuple[str, str | None]:
    """Return (path, token) of a request's target; what is no path of ours is "", and has no token.

    Not by urlsplit, which takes `//a/b` for a host.
    """
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        return "", None
    try:
        tokens = parse_qs(query, max_num_fields=MAX_FIELDS).get("jwt")
    except ValueError:
        return "", None
    return normal_path(unquote(path)), tokens[0] if tokens else None

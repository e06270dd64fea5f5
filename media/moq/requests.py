"""How a session asks to be let in, whatever carries it, and how that is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from media.moq.messages import normal_path
from media.moq.relay import Rights
from media.moq.versions import Version


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
    """Return (path, token) of a request's target; what is no URL has the path "" and no token."""
    try:
        parts = urlsplit(target)
        tokens = parse_qs(parts.query, max_num_fields=16).get("jwt")
    except ValueError:
        return "", None
    return normal_path(parts.path), tokens[0] if tokens else None

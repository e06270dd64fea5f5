"""How a session asks to be let in, whatever carries it, and how that is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, unquote

from media.moq.carriers.quic_carrier import QuicCarrier
from media.moq.protocol.messages import normal_path
from media.moq.protocol.versions import Version
from media.moq.relaying.rights import Rights

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


class OtherSession(Protocol):
    """A session of WebTransport's that is no MoQ, as its connection sees it."""

    is_closed: bool  # by us

    def receive_untrusted(self, stream: int, data: bytes, *, is_last: bool) -> None:
        """Take a part of a stream."""

    def reset_untrusted(self, stream: int) -> None:
        """Take note that the peer gave up its half of a stream."""

    def stopped_untrusted(self, stream: int) -> None:
        """Take note that the peer wants no more of our half."""

    def heard(self) -> None:
        """Take note that the peer is there."""

    def lose(self) -> None:
        """Take note that the peer has gone."""

    def write(self) -> None:
        """Write what there is room for."""


class OtherServices(Protocol):
    """What is served besides MoQ, at paths of its own."""

    def begin(
        self, path: str, token: str | None, offered: Sequence[str], carrier: QuicCarrier
    ) -> tuple[OtherSession, str] | Refusal | None:
        """Begin a session and return it with the protocol chosen of those offered; None where the path is MoQ's."""


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

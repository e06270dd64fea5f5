"""Which STUN and TURN servers clients are told of, with credentials that last for a while where a secret makes them."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Iterator

import msgspec

from server.config import IceServer
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import Actor

PATH = "/api/v1/ice_servers"
PROBLEMS = ("no_session", "rate_limited")


class IceServerView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server as `RTCPeerConnection` takes it."""

    urls: str
    username: str = ""
    credential: str = ""


class IceServersView(msgspec.Struct, frozen=True):
    """All servers, and for how many seconds they may be used to begin something."""

    ice_servers: tuple[IceServerView, ...]
    lifetime_s: int


class IceServers:
    """The servers of the configuration; `clock_s` is the time by which the TURN servers judge."""

    def __init__(self, servers: tuple[IceServer, ...], clock_s: Callable[[], float] = time.time) -> None:
        self._servers, self._clock_s = servers, clock_s

    def shown_to(self, actor: Actor) -> IceServersView:
        """Return the servers with credentials of this account's own."""
        lifetime_s = min((server.lifetime_s for server in self._servers), default=86_400)
        return IceServersView(tuple(self._each(actor)), lifetime_s)

    def link_header(self, actor: Actor) -> str:
        """Return the value of a Link header that lists them (RFC 9725 section 4.6)."""
        values = []
        for server in self._each(actor):
            value = f'<{server.urls}>; rel="ice-server"'
            if server.username:
                value += f'; username="{server.username}"; credential="{server.credential}"'
                value += '; credential-type="password"'
            values.append(value)
        return ", ".join(values)

    def _each(self, actor: Actor) -> Iterator[IceServerView]:
        for server in self._servers:
            username, credential = server.username, server.credential
            if server.secret:
                expires_s = int(self._clock_s()) + server.lifetime_s
                username, credential = turn_credentials(server.secret, expires_s, actor.account)
            yield IceServerView(server.url, username, credential)


def turn_credentials(secret: str, expires_s: int, account: str) -> tuple[str, str]:
    """Return (username, credential) that a TURN server with the same secret takes until `expires_s`.

    As draft-uberti-behave-turn-rest-00 has it, and coturn under `use-auth-secret`. The account is for its log.
    """
    username = f"{expires_s}:{account}"
    return username, base64.b64encode(hmac.digest(secret.encode(), username.encode(), "sha1")).decode()


def ice_server_routes(servers: IceServers) -> list[Route]:
    """Return the route by which pages hear of them before they make an offer."""

    async def show(asked: Asked) -> Answer:
        return Answer(servers.shown_to(asked.actor))

    return [Route("GET", PATH, "STUN and TURN servers to use", show, result=IceServersView, problems=PROBLEMS)]

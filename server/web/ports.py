"""What the web layer needs of the parts behind it, and of the configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from media.door import Wish
from server.auth import Account, LogIn
from server.config import IceServer, Limits, Rates
from server.money.assets import Surface
from server.tokens import Claims
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.rooms.directory import Wanted
from signalling.wire.views import BestPicture, Kind, Page, Reply, StreamView


class MediaSession(Protocol):
    """A WHIP or WHEP session that was just opened."""

    @property
    def session_id(self) -> str:
        """Unguessable; part of the session's address."""

    @property
    def answer_sdp(self) -> str:
        """What the client's description is answered with."""

    @property
    def etag(self) -> str:
        """The ICE session, as a strong entity tag with its quotation marks."""


class MediaSessions(Protocol):
    """The WHIP and WHEP sessions. Everything may raise Refused, and what media raises of an offer."""

    async def publish(self, stream_id: StreamId, actor: Actor, offer_sdp: str) -> MediaSession:
        """Answer a WHIP offer."""

    async def watch(self, stream_id: StreamId, actor: Actor, offer_sdp: str) -> MediaSession:
        """Answer a WHEP offer."""

    async def restart_ice(self, session_id: str, actor: Actor, if_match: str, sdpfrag: str) -> tuple[str, str] | None:
        """Take an ICE fragment: (new ETag, answer) for a restart, None for candidates that were trickled.

        `if_match` is "*" or one entity tag; another than the session's own is Refused("precondition_failed").
        """

    async def prefer(self, session_id: str, actor: Actor, wish: Wish) -> None:
        """Have a session of the actor's get the picture that it wishes for."""

    async def close_session(self, session_id: str, actor: Actor) -> None:
        """End a session of the actor's; another's, or none, is Refused("session_unknown")."""


class Rooms(Protocol):
    """The rooms. Everything may raise Refused."""

    @property
    def media_sessions(self) -> MediaSessions:
        """What is published into them and watched of them."""

    async def create_stream(
        self, actor: Actor, *, title: str, kind: Kind, mode: Mode, description: str, best_picture: BestPicture
    ) -> StreamView:
        """Open a stream."""

    async def show(self, stream_id: StreamId, viewer: Actor) -> StreamView:
        """Return one stream, and what the viewer may do there."""

    async def browse(self, viewer: Actor, *, cursor: str | None, limit: int, wanted: Wanted) -> Page:
        """Return a part of the directory."""

    async def command(self, stream_id: StreamId, actor: Actor, command: Any) -> Reply:
        """Do one of `signalling.policy.commands`; returns when it is done for the last packet, too."""


class Auth(Protocol):
    """Accounts and their tokens; raises Refused."""

    async def sign_up(self, name: str, password: str) -> Account:
        """Make an account."""

    async def add_account(self, name: str) -> Account:
        """Make an account without a password, or return the one of that name."""

    async def log_in(self, name: str, password: str) -> LogIn:
        """Return a token for who knows the password."""

    def issue(self, account: Account, expires_s: int, kind: str, surface: Surface = "web") -> str:
        """Return a bearer token; kind is "user" or "admin"."""

    def read(self, token: str, *, suspended_too: bool = False) -> Claims:
        """Return what a bearer token says."""


FindAccount = Callable[[str], Awaitable[AccountId | None]]


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What the web layer takes from the configuration, and where the page lies."""

    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    ice_servers: tuple[IceServer, ...] = ()
    longest_token_s: int = 31_536_000
    largest_file: int = 0
    page: Path = Path(__file__).resolve().parent.parent / "page"

"""Rooms and accounts in memory, for tests of what stands before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quart import Response
from quart_trio import QuartTrio

from media.door import Wish
from server.config import IceServer, Rates
from server.openapi import document
from server.tokens import Claims
from server.web.app import build_app
from server.web.ports import WebSettings
from signalling.identifiers import AccountId, Actor, Mode, StreamId
from signalling.refusals import Refused
from signalling.rooms.directory import Wanted
from signalling.wire import views as v

STREAMER = Actor(AccountId("a-streamer"), "streamer")
VIEWER = Actor(AccountId("a-viewer"), "viewer")
ADMIN = Actor(AccountId("a-admin"), "admin", admin=True)
ACTORS = {actor.name: actor for actor in (STREAMER, VIEWER, ADMIN)}


def a_stream(mode: Mode = Mode.PUBLIC) -> v.StreamView:
    card = v.Card(
        id=StreamId("s1"),
        title="A stream",
        description="",
        kind="video",
        mode=mode,
        state="live",
        streamer=v.Person(STREAMER.account, STREAMER.name),
        viewers=0,
        epoch=1,
        started_at=1,
        ends_at=None,
        one_to_one_ends_at=None,
    )
    return v.StreamView(card, v.You(admitted=True, reason=None, grants=("welcome",), role="viewer"), 1)


@dataclass(frozen=True)
class Session:
    session_id: str
    answer_sdp: str
    etag: str


@dataclass
class FakeRooms:
    """Remembers what it was asked; `failing` is raised instead of the next answer."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    failing: Exception | None = None
    reply: Any = field(default_factory=lambda: v.Done(2))
    sessions: dict[str, Actor] = field(default_factory=dict)
    etag: str = '"first"'

    @property
    def media_sessions(self) -> FakeRooms:
        return self

    def _note(self, *asked: Any) -> None:
        self.asked.append(asked)
        if self.failing is not None:
            raise self.failing

    async def create_stream(self, actor: Actor, **values: Any) -> v.StreamView:
        self._note("create", actor, values)
        return a_stream(values["mode"])

    async def show(self, stream_id: StreamId, viewer: Actor) -> v.StreamView:
        self._note("show", stream_id, viewer)
        return a_stream()

    async def browse(self, viewer: Actor, *, cursor: str | None, limit: int, wanted: Wanted) -> v.Page:
        self._note("browse", viewer, cursor, limit)
        return v.Page((a_stream().card,), None, 1, 1)

    async def command(self, stream_id: StreamId, actor: Actor, command: Any) -> Any:
        self._note("command", stream_id, actor, command)
        return self.reply

    async def publish(self, stream_id: StreamId, actor: Actor, offer_sdp: str) -> Session:
        self._note("publish", stream_id, actor, offer_sdp)
        return self._open(actor)

    async def watch(self, stream_id: StreamId, actor: Actor, offer_sdp: str) -> Session:
        self._note("watch", stream_id, actor, offer_sdp)
        return self._open(actor)

    def _open(self, actor: Actor) -> Session:
        session = Session(f"session{len(self.sessions)}", "v=0\r\n", self.etag)
        self.sessions[session.session_id] = actor
        return session

    async def restart_ice(self, session_id: str, actor: Actor, if_match: str, sdpfrag: str) -> tuple[str, str] | None:
        self._note("restart_ice", session_id, actor, if_match, sdpfrag)
        self._own(session_id, actor)
        if if_match not in ("*", self.etag):
            raise Refused("precondition_failed")
        return ('"second"', "a=ice-ufrag:new\r\n") if if_match == "*" else None

    async def prefer(self, session_id: str, actor: Actor, wish: Wish) -> None:
        self._own(session_id, actor)
        self._note("prefer", session_id, wish)

    async def close_session(self, session_id: str, actor: Actor) -> None:
        self._own(session_id, actor)
        del self.sessions[session_id]

    def _own(self, session_id: str, actor: Actor) -> None:
        if session_id not in self.sessions or not (actor.admin or self.sessions[session_id] == actor):
            raise Refused("session_unknown")


@dataclass(frozen=True)
class Known:
    id: AccountId
    name: str


class FakeAuth:
    """Knows the tokens "t-<name>" of ACTORS, and the password "right horse"."""

    async def sign_up(self, name: str, password: str) -> Known:
        return Known(AccountId(f"a-{name}"), name)

    async def add_account(self, name: str) -> Known:
        return Known(AccountId(f"a-{name}"), name)

    async def log_in(self, name: str, password: str) -> Any:
        if password != "right horse":
            raise Refused("no_session")
        return {"token": f"t-{name}", "expires_at": 5, "account": {"id": f"a-{name}", "name": name}}

    def issue(self, account: Any, expires_s: int, kind: str, surface: str = "web") -> str:
        return f"t-{account.name}-{kind}-{expires_s}"

    def read(self, token: str, *, suspended_too: bool = False) -> Claims:
        if (actor := ACTORS.get(token.removeprefix("t-"))) is None:
            raise Refused("no_session", "the token is not one of ours")
        return Claims(actor, 2**53)


async def find_account(name: str) -> AccountId | None:
    return ACTORS[name].account if name in ACTORS else None


class Site:
    """The application over fakes, and requests to it."""

    def __init__(self, rooms: Any = None, **settings: Any) -> None:
        self.rooms = FakeRooms() if rooms is None else rooms
        settings = {"ice_servers": (), "rates": Rates(), **settings}
        self.app: QuartTrio = build_app(
            self.rooms,
            FakeAuth(),
            WebSettings(**settings),
            find_account=find_account,
            metrics=lambda: b"up 1\n",
            quic=lambda: (4433, "ab" * 32),
        )

    def document(self) -> dict[str, Any]:
        """Return the OpenAPI document, as it was made of the routes."""
        return document(self.app.extensions["interface"])

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "t-streamer",
        body: bytes | str | None = None,
        content_type: str | None = None,
        address: str = "192.0.2.9",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if content_type is not None:
            sent["Content-Type"] = content_type
        raw = body.encode() if isinstance(body, str) else body
        client = self.app.test_client()
        answer = await client.open(
            path, method=method, headers=sent, data=raw or b"", scope_base={"client": (address, 5)}
        )
        assert isinstance(answer, Response)
        return answer


TURN = IceServer("turn:turn.example.org:3478", "user", "secret")


async def problem(answer: Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is this problem, and return its members."""
    members = await answer.get_json(force=True)
    assert (answer.status_code, members["code"]) == (status, code), members
    assert answer.content_type == "application/problem+json"
    assert members["type"] == f"/problems/{code}"
    assert members["status"] == status
    assert members["title"]
    assert members["detail"]
    return dict(members)

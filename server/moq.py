"""Lets MoQ sessions in by their tokens, and ends those whose token or stream has ended."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import structlog
import trio

from media.moq.protocol.requests import Refusal, SessionRequest
from media.moq.relaying.relay import Relay
from server.problems import CATALOGUE
from server.tokens import Claims
from signalling.identifiers import StreamId
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.broadcasts import SessionRights
from signalling.sessions.moq_sessions import MoqSessions

ROOT = "moq"  # sessions are at /moq for all streams, and at /moq/<stream> for one
ROUND_S = 1.0  # how late a session ends whose stream has; what it may no longer have ends at once

log = structlog.get_logger("moq")


class AuthPort(Protocol):
    """Who knows the tokens."""

    def read(self, token: str) -> Claims:
        """Return what a token says; raises Refused."""


class MoqReception:
    """Judges who asks for a session; `run` it in a nursery."""

    def __init__(self, relay: Relay, rules: MoqSessions, auth: AuthPort, clock: Clock) -> None:
        self._relay, self._rules, self._auth, self._clock = relay, rules, auth, clock
        self._nursery: trio.Nursery | None = None
        self._news = trio.Event()
        self.counts = Counter({"moq_sessions_admitted": 0, "moq_sessions_refused": 0, "moq_sessions_ended": 0})

    def counters(self) -> dict[str, int]:
        """How many sessions were let in, refused, and ended because their right had, by name."""
        return dict(self.counts)

    def admit(self, request: SessionRequest) -> SessionRights | Refusal:
        """Return the rights of whoever asks, or why there is no session."""
        answer = self._judge(request)
        self.counts["moq_sessions_refused" if isinstance(answer, Refusal) else "moq_sessions_admitted"] += 1
        return answer

    def _judge(self, request: SessionRequest) -> SessionRights | Refusal:
        root, _, stream = request.path.partition("/")
        if root != ROOT or "/" in stream:
            return Refusal(404, f"Sessions are at /{ROOT} and /{ROOT}/<stream>.")
        if request.token is None:
            return Refusal(401, "Show a bearer token of this server as ?jwt=.")
        try:
            claims = self._auth.read(request.token)
        except Refused as refused:
            return _refusal(refused.code)
        rights = SessionRights(self._rules, self._clock, claims.actor, claims.expires_at, StreamId(stream) or None)
        over = rights.over()
        if over is not None:
            return _refusal(over)
        if self._nursery is not None and rights.stream is None:
            self._nursery.start_soon(self._roam, rights)
        self._news.set()  # its token may be the next that expires
        return rights

    async def _roam(self, rights: SessionRights) -> None:
        try:
            await self._rules.roam(rights)
        except Refused as refused:
            rights.denied = refused.code

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """End sessions whose token has expired, or whose stream has ended or ejected them, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                self._news = trio.Event()
                with trio.move_on_after(self._pause_s()):
                    await self._news.wait()
                self._end_sessions()

    def _pause_s(self) -> float:
        expiries = [peer.rights.expires_at for peer in self._relay.peers if isinstance(peer.rights, SessionRights)]
        left_ms = min(expiries, default=self._clock.wall_ms() + 60_000) - self._clock.wall_ms()
        return min(ROUND_S, max(0.0, left_ms / 1000))

    def _end_sessions(self) -> None:
        for peer in tuple(self._relay.peers):
            rights = peer.rights
            over = rights.over() if isinstance(rights, SessionRights) else None
            if over is not None:
                self.counts["moq_sessions_ended"] += 1
                refusal = _refusal(over)
                peer.eject(refusal.status, refusal.reason)


def _refusal(word: str) -> Refusal:
    status, title = CATALOGUE[word]
    return Refusal(status, f"{word}: {title}.")

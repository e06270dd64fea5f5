"""Knows the signalling sessions by their ids, and forgets those that were lost for too long."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from signalling.identifiers import AccountId, Actor
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.sessions.session import AnswerSoon, Session
from signalling.wire.messages import Encoding
from signalling.wire.requests import Request, Resume

MAX_PER_ACCOUNT = 2000  # a person has a few pages open; a load tool shares one account
SESSION_BYTES = 24  # of an id: unguessable


class Sessions:
    """All signalling sessions of a node, connected and lost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._of_account: dict[AccountId, set[Session]] = {}
        self.stirred: set[AccountId] = set()

    def open(
        self,
        actor: Actor,
        encoding: Encoding,
        answer: Callable[[Session, Request], Awaitable[object]],
        answer_soon: AnswerSoon | None = None,
    ) -> Session:
        """Begin a session; raises Refused("too_many_sessions")."""
        if len(self._of_account.get(actor.account, ())) >= MAX_PER_ACCOUNT:
            raise Refused("too_many_sessions")
        session = Session(secrets.token_urlsafe(SESSION_BYTES), actor, encoding, self._clock, answer, answer_soon)
        self._sessions[session.id] = session
        self._of_account.setdefault(actor.account, set()).add(session)
        return session

    def find(self, actor: Actor, resume: Resume | None) -> Session | None:
        """Return the actor's own session that is to be resumed, while it can be."""
        session = None if resume is None else self._sessions.get(resume.session)
        if session is None or session.actor.account != actor.account or session.is_over(self._clock.now_ns()):
            return None
        return session

    def of(self, account: AccountId) -> tuple[Session, ...]:
        """Return all sessions of an account."""
        return tuple(self._of_account.get(account, ()))

    def all(self) -> tuple[Session, ...]:
        """Return all sessions."""
        return tuple(self._sessions.values())

    def is_here(self, account: AccountId, grace_ns: int = 0) -> bool:
        """Whether an account has a signalling connection, or lost its last one so short a time ago."""
        since_ns = self._clock.now_ns() - grace_ns
        return any(session.lost_at_ns is None or session.lost_at_ns > since_ns for session in self.of(account))

    def here(self, grace_ns: int) -> set[AccountId]:
        """Return all accounts that are here."""
        return {account for account in self._of_account if self.is_here(account, grace_ns)}

    def stir(self, *accounts: AccountId) -> None:
        """Note that others may see more, or less, of these accounts than before."""
        self.stirred.update(accounts)

    def is_looking(self, account: AccountId) -> bool:
        """Whether somebody looks at a page of an account's."""
        return any(session.in_sight for session in self.of(account))

    def take_lost(self) -> list[Session]:
        """Forget the sessions that were lost for too long, and return them."""
        now_ns = self._clock.now_ns()
        lost = [session for session in self._sessions.values() if session.is_over(now_ns)]
        for session in lost:
            del self._sessions[session.id]
            self._of_account[session.actor.account].discard(session)
            if not self._of_account[session.actor.account]:
                del self._of_account[session.actor.account]
        return lost

    def counters(self) -> dict[str, int]:
        """How many sessions there are, and how many of them have no connection."""
        lost = sum(session.lost_at_ns is not None for session in self._sessions.values())
        return {"signalling_sessions": len(self._sessions), "signalling_sessions_lost": lost}

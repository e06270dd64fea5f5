"""Tickets to see files: what stands in the address of a picture or a video, where a browser can send no token.

A ticket says who asks and nothing of what may be seen; that is looked up at each request.
"""

from __future__ import annotations

from collections.abc import Container

import jwt

from server.tokens import ALGORITHM, MAX_TOKEN, Claims
from signalling.identifiers import AccountId
from signalling.refusals import Refused

AUDIENCE = "mesi-files"  # so that a ticket is no token, and a token no ticket
REQUIRED = ["sub", "exp", "aud"]
LASTS_S = 21_600  # six hours: a long film; never longer than the session


class Tickets:
    """Issues and reads tickets, signed with the key of the tokens."""

    def __init__(self, key: bytes, suspended: Container[AccountId]) -> None:
        self._key, self._suspended = key, suspended

    def issue(self, session: Claims, now_ms: int) -> tuple[str, int]:
        """Return a ticket for who is logged in, and until when it holds (epoch ms)."""
        expires_at = min(session.expires_at, now_ms + LASTS_S * 1000)
        claims = {"sub": session.actor.account, "exp": expires_at // 1000, "aud": AUDIENCE}
        return jwt.encode(claims, self._key, ALGORITHM), expires_at

    def read_untrusted(self, ticket: str) -> AccountId:
        """Return who asks. Raises Refused("no_session")."""
        if len(ticket) > MAX_TOKEN:
            raise Refused("no_session", "the ticket is too long to be one of ours")
        try:
            claims = jwt.decode(
                ticket, self._key, algorithms=[ALGORITHM], audience=AUDIENCE, options={"require": REQUIRED}
            )
        except (jwt.PyJWTError, ValueError):
            raise Refused("no_session", "the ticket is not one of ours, or has run out") from None
        account = AccountId(claims["sub"])
        if account in self._suspended:
            raise Refused("no_session")
        return account

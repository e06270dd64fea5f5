"""Accounts: who signs up, who logs in, and whom a bearer token stands for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from typing import Any

import argon2
import sqlalchemy as sa
import trio

from server.database.store import Database
from server.database.tables import accounts
from server.money.assets import Surface
from server.names import InvalidName, fold, tidy_untrusted
from server.tokens import Claims, Tokens
from signalling.identifiers import AccountId, Actor
from signalling.refusals import Refused

HASHERS = 1  # at a time: each takes a core for some 50 ms and 64 MB, and pictures must go on
ADMIN = AccountId("admin")
ADMIN_TOKEN_S = 365 * 86_400  # a new one is written at each start


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has signed up."""

    id: AccountId
    name: str


@dataclass(frozen=True, slots=True)
class LogIn:
    """A bearer token, and until when it holds (epoch ms)."""

    token: str
    expires_at: int
    account: Account


class Auth:
    """Accounts on a node's store, of which `suspended` are shut out; raises Refused and StoreFailed."""

    def __init__(
        self, store: Database, tokens: Tokens, session_s: int, suspended: Container[AccountId] = frozenset()
    ) -> None:
        self._store, self._tokens, self._session_s, self._suspended = store, tokens, session_s, suspended
        self._hasher = argon2.PasswordHasher()
        self._limiter = trio.CapacityLimiter(HASHERS)
        self._decoy = _decoy()

    async def sign_up(self, name: str, password: str) -> Account:
        """Make an account. Raises Refused (name_taken, invalid_name)."""
        name = _tidy(name)
        hashed = await trio.to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)
        return await self._store.write(_add, name, hashed)

    async def add_account(self, name: str) -> Account:
        """Make an account that is used through tokens alone, or return the one of that name."""
        return await self._store.write(_find_or_add, _tidy(name))

    async def log_in(self, name: str, password: str) -> LogIn:
        """Return a token. Raises Refused("bad_credentials"), after the same time for an unknown name."""
        row = await self._store.read(_row, name)
        hashed = self._decoy if row is None or row.password is None else str(row.password)
        right = await trio.to_thread.run_sync(self._matches, hashed, password, limiter=self._limiter)
        if row is None or row.password is None or not right:
            raise Refused("bad_credentials")
        account = Account(AccountId(row.id), row.name)
        token = self._tokens.issue(account.id, account.name, self._session_s, "user")
        # Who is suspended may still log in: there is nothing for him but to see why, and to contest it.
        return LogIn(token, self.read(token, suspended_too=True).expires_at, account)

    async def find(self, name: str) -> Account | None:
        """Return the account of that name."""
        row = await self._store.read(_row, name)
        return None if row is None else Account(AccountId(row.id), row.name)

    def issue(self, account: Account, expires_s: int, kind: str, surface: Surface = "web") -> str:
        """Return a bearer token; kind is "user" or "admin"."""
        return self._tokens.issue(account.id, account.name, expires_s, kind, surface)

    async def admin_token(self) -> str:
        """Return a token that may do what any streamer may; it stands for the account "admin"."""
        await self._store.write(_add_admin)
        return self._tokens.issue(ADMIN, "admin", ADMIN_TOKEN_S, "admin")

    def read(self, token: str, *, suspended_too: bool = False) -> Claims:
        """Return what a token says; raises Refused (no_session, and suspended unless those are wanted, too)."""
        claims = self._tokens.read_untrusted(token)
        if claims.actor.account in self._suspended and not suspended_too:
            raise Refused("suspended")
        return claims

    def verify(self, token: str) -> Actor:
        """Return whom a token stands for; raises Refused("no_session")."""
        return self.read(token).actor

    def expires_at(self, token: str) -> int:
        """Return until when a token holds, in epoch ms; raises Refused("no_session")."""
        return self.read(token).expires_at

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except argon2.exceptions.VerificationError:
            return False


@cache
def _decoy() -> str:
    """Return what an unknown name's password is compared with, so that the answer takes as long as for a known one."""
    return argon2.PasswordHasher().hash(secrets.token_hex(16))


def _tidy(name: str) -> str:
    try:
        return tidy_untrusted(name)
    except InvalidName as fault:
        raise Refused("invalid_name", str(fault)) from None


def _row(connection: sa.Connection, name: str) -> sa.Row[Any, Any, Any] | None:
    columns = sa.select(accounts.c.id, accounts.c.name, accounts.c.password)
    return connection.execute(columns.where(accounts.c.folded == fold(name))).one_or_none()


def _add(connection: sa.Connection, name: str, password: str | None) -> Account:
    if _row(connection, name) is not None:
        raise Refused("name_taken")
    account = Account(AccountId(f"a_{secrets.token_hex(8)}"), name)
    _insert(connection, account, password)
    return account


def _insert(connection: sa.Connection, account: Account, password: str | None) -> None:
    values = {"id": account.id, "name": account.name, "folded": fold(account.name), "password": password}
    connection.execute(sa.insert(accounts).values(**values, created_at=time.time_ns() // 1_000_000))


def _add_admin(connection: sa.Connection) -> None:
    # What an administrator says or opens refers to this row; and nobody else can go by the name.
    if _row(connection, "admin") is None:
        _insert(connection, Account(ADMIN, "admin"), None)


def _find_or_add(connection: sa.Connection, name: str) -> Account:
    row = _row(connection, name)
    return _add(connection, name, None) if row is None else Account(AccountId(row.id), row.name)

"""The API for administrators: what the command line asks of a running server."""

from __future__ import annotations

import time

from server.auth import Account
from server.problems import Problem
from server.web import schemas as s
from server.web.api import ROOT, known
from server.web.opening import OPENING, open_stream
from server.web.ports import Auth, FindAccount, Rooms
from server.web.routes import Access, Answer, Asked, Route, Serve
from signalling.identifiers import Actor
from signalling.wire import views as v

PROBLEMS = ("no_session", "admin_only", "invalid_request")


def admin_routes(rooms: Rooms, auth: Auth, find_account: FindAccount, longest_token_s: int) -> list[Route]:
    """Return the routes for administrators."""

    async def add_account(asked: Asked) -> Answer:
        return Answer(s.shown(await auth.add_account(asked.body.name), v.Person))

    async def add_token(asked: Asked) -> Answer:
        new: s.NewToken = asked.body
        if new.expires_s > longest_token_s:
            detail = f"expires_s: must be at most {longest_token_s} (tokens.longest_s of the configuration)"
            raise Problem("invalid_request", detail, extra={"field": "expires_s"})
        account = await known(find_account, new.name)
        expires_at = int((time.time() + new.expires_s) * 1000)
        token = auth.issue(Account(account, new.name), new.expires_s, "user", new.surface)
        return Answer(s.Token(token, expires_at))

    async def add_stream(asked: Asked) -> Answer:
        new: s.NewStreamFor = asked.body
        owner = Actor(await known(find_account, new.name), new.name)
        return Answer(await open_stream(rooms, owner, new))

    return [
        _route(
            "accounts",
            "Make an account without a password, or find the one of that name",
            add_account,
            s.NewAccount,
            v.Person,
            (*PROBLEMS, "invalid_name"),
        ),
        _route("tokens", "Make a token for an account", add_token, s.NewToken, s.Token, (*PROBLEMS, "account_unknown")),
        _route(
            "streams",
            "Open a stream for an account",
            add_stream,
            s.NewStreamFor,
            v.StreamView,
            (*PROBLEMS, "account_unknown", *OPENING),
        ),
    ]


def _route(of: str, summary: str, serve: Serve, body: type, result: type, problems: tuple[str, ...]) -> Route:
    return Route(
        "POST",
        f"{ROOT}/admin/{of}",
        summary,
        serve,
        Access.ADMIN,
        body=body,
        result=result,
        status=201,
        problems=problems,
    )

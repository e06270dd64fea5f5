"""One table of routes: each says what it takes, who may ask and what it gives; the rest is the same for all."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec
import structlog
import trio
from quart import Request, Response, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from media.io.networks import is_loopback, network_of
from server.problems import CONTENT_TYPE, Problem
from server.tokens import Claims
from server.web.bodies import PacedParts, nothing
from server.web.failures import problem_of
from server.web.inline import SAFE, Incoming
from server.web.ports import Auth, WebSettings
from server.web.rates import TokenBuckets
from server.web.shapes import read_json_untrusted, shape_query_untrusted
from signalling.identifiers import Actor

JSON = "application/json"
BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)  # RFC 6750 section 2.1
MAX_TOKEN = 4096  # ours have about 300 characters
# A command that has begun is carried through although its client has gone: half of one would leave some untold.
COMMAND_S = 30.0

log = structlog.get_logger("web")


class Access(Enum):
    """Who may use a route."""

    ANYONE = "anyone"
    STRANGER = "stranger"  # without a token, with a password: rated strictly
    ACCOUNT = "account"
    ADMIN = "admin"
    LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that passed everything that can be checked without knowing its meaning."""

    path: Mapping[str, str]
    headers: Headers
    claims: Claims | None = None
    body: Any = None
    query: Any = None

    @property
    def actor(self) -> Actor:
        """Who asks, on routes for accounts."""
        return self.session.actor

    @property
    def session(self) -> Claims:
        """What the token of who asks says, on routes for accounts."""
        assert self.claims is not None, "only routes for accounts have a session"
        return self.claims


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route gives: `body` is bytes, text, or a value to encode as JSON."""

    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None


Serve = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path. `body` and `query` are struct types (or str for text) and None for nothing.

    With bytes for `body` it is as large as it likes, and comes in parts; with bytes for `result` the answer goes so.
    """

    method: str
    path: str  # with {parameters}
    summary: str
    serve: Serve
    access: Access = Access.ACCOUNT
    takes: str = JSON
    body: Any = None
    query: Any = None
    gives: str = JSON
    result: Any = None
    status: int = 200
    problems: tuple[str, ...] = ()
    suspended_too: bool = False  # to see and contest why, and to report
    guessable: bool = False  # what is sent could be found by trying: rated strictly, by account and by address

    @property
    def rule(self) -> str:
        """The path in Quart's notation; parameters are bounded, so that a longer one is simply unknown."""
        return re.sub(r"{(\w+)}", r"<string(maxlength=128):\1>", self.path)


class Reception:
    """Takes requests in: rates, tokens and bodies are judged here, and every failure becomes a problem."""

    def __init__(self, auth: Auth, settings: WebSettings) -> None:
        rates = settings.rates
        self._auth, self._limits = auth, settings.limits
        self.by_address = TokenBuckets(rates.address_per_s, rates.address_burst)
        self.by_account = TokenBuckets(rates.account_per_s, rates.account_burst)
        self.by_password = TokenBuckets(rates.password_per_s, rates.password_burst)
        self.by_guess = TokenBuckets(rates.guess_per_s, rates.guess_burst)
        self.faults = 0
        self._refusals: Counter[str] = Counter()  # by codes, of which there are so many

    def counters(self) -> dict[str, int]:
        """Return what was refused, by code, and for coming too fast, by whose rate, and the faults of ours, by name."""
        buckets = {
            "address": self.by_address,
            "account": self.by_account,
            "password": self.by_password,
            "guess": self.by_guess,
        }
        return {
            **{f"rates_refused_{whose}": kept.refused for whose, kept in buckets.items()},
            **{f"rates_forgotten_{whose}": kept.forgotten for whose, kept in buckets.items()},
            **{f"refused_with_{code}": times for code, times in self._refusals.items()},
            "request_faults": self.faults,
        }

    def view(self, route: Route) -> Callable[..., Awaitable[Response]]:
        """Return the function that Quart calls for a route."""

        async def view(**path: str) -> Response:
            try:
                asked = await self._take(route, request, path)
                return _respond(route, await self._carry_through(route, asked))
            except Exception as error:
                response = self.refuse(error)
                if route.guessable and route.access is Access.ANYONE and response.status_code == 404:
                    self.by_guess.take(_guesser(request), trio.current_time())
                if route.body is bytes and isinstance(request.body, Incoming) and not request.body.is_whole:
                    response.headers["Connection"] = "close"  # what is sent still would be taken for the next request
                return response

        return view

    def refuse(self, error: Exception) -> Response:
        """Turn any failure into a problem; what is no refusal is logged under an id, and only the id is told."""
        problem = problem_of(error) or _problem_of_http(error)
        if problem is None:
            self.faults += 1
            fault = secrets.token_hex(8)
            log.error("internal_error", id=fault, method=request.method, path=request.path, exc_info=error)
            problem = Problem("internal_error", f"the server's log knows more under {fault}", extra={"id": fault})
        self._refusals[problem.code] += 1
        return Response(problem.encode(), problem.status, problem.headers, content_type=CONTENT_TYPE)

    async def _take(self, route: Route, given: Request, path: Mapping[str, str]) -> Asked:
        address = given.remote_addr or ""
        self._rate(self.by_address, network_of(address))
        if "Transfer-Encoding" in given.headers and "Content-Length" in given.headers:
            # A proxy before us may have believed the other one (RFC 9112 section 6.1).
            raise Problem("ambiguous_length", headers={"Connection": "close"})
        claims = None
        match route.access:
            case Access.STRANGER:
                self._rate(self.by_password, network_of(address))
            case Access.ACCOUNT | Access.ADMIN:
                claims = self._identify(given, route)
                self._rate(self.by_account, claims.actor.account)
                if route.access is Access.ADMIN and not claims.actor.admin:
                    raise Problem("admin_only")
            case Access.LOOPBACK:
                # A proxy on this machine speaks for others.
                if not is_loopback(address) or "X-Forwarded-For" in given.headers or "Forwarded" in given.headers:
                    raise Problem("loopback_only")
            case Access.ANYONE:
                pass
        if route.guessable and claims is not None:
            self._rate(self.by_guess, _guesser(given))
            self._rate(self.by_guess, f"account {claims.actor.account}")
        elif route.guessable:
            # Many strangers behind one address may follow one link: only those that lead nowhere count.
            _refuse_before(self.by_guess.wait_s(_guesser(given), trio.current_time()))
        body = await self._body(route, given)
        query = shape_query_untrusted(dict(given.args), route.query) if route.query is not None else None
        return Asked(path, given.headers, claims, body, query)

    def _rate(self, buckets: TokenBuckets, asker: str) -> None:
        _refuse_before(buckets.take(asker, trio.current_time()))

    def _identify(self, given: Request, route: Route) -> Claims:
        header = given.headers.get("Authorization", "")
        if not header:
            raise Problem("no_session", "the request has no Authorization header")
        token = BEARER.fullmatch(header) if len(header) <= MAX_TOKEN else None
        if token is None:
            raise Problem("no_session", 'the Authorization header must be "Bearer" and a token')
        try:
            return self._auth.read(token[1], suspended_too=route.suspended_too)
        except Exception as error:
            refused = problem_of(error)
            if refused is None:
                raise
            if refused.status == 401:
                refused.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'  # RFC 6750 section 3.1
            raise refused from None

    async def _body(self, route: Route, given: Request) -> Any:
        if route.body is None:
            return None
        if route.body is bytes and "Content-Type" not in given.headers:
            return nothing()
        if given.mimetype != route.takes:
            accepts = {"Accept-Post" if route.method == "POST" else "Accept-Patch": route.takes}
            raise Problem("unsupported_media_type", f"the Content-Type must be {route.takes}", headers=accepts)
        if route.body is bytes:
            return PacedParts(given.body, self._limits.body_timeout_s)
        raw = await self._read(given)
        if route.body is str:
            try:
                return raw.decode()
            except UnicodeDecodeError as error:
                raise Problem("malformed_text", f"byte {error.start} is not UTF-8") from None
        return read_json_untrusted(raw, route.body)

    async def _read(self, given: Request) -> bytes:
        if (given.content_length or 0) > self._limits.body_bytes:
            raise RequestEntityTooLarge
        raw = bytearray()
        with trio.move_on_after(self._limits.body_timeout_s) as patience:
            async for part in given.body:
                raw += part
                if len(raw) > self._limits.body_bytes:
                    raise RequestEntityTooLarge
        if patience.cancelled_caught:
            raise RequestTimeout
        return bytes(raw)

    async def _carry_through(self, route: Route, asked: Asked) -> Answer:
        # What comes in parts takes as long as it takes, and is as far as it got where its client has gone.
        if route.method in SAFE or route.body is bytes:
            return await route.serve(asked)
        with trio.fail_after(COMMAND_S, shield=True):
            return await route.serve(asked)


def _guesser(given: Request) -> str:
    return f"address {network_of(given.remote_addr or '')}"


def _refuse_before(wait_s: float) -> None:
    if wait_s:
        seconds = int(wait_s) + 1
        raise Problem("rate_limited", f"try again in {seconds} s", headers={"Retry-After": str(seconds)})


def _problem_of_http(error: Exception) -> Problem | None:
    if not isinstance(error, HTTPException) or error.code is None or error.code >= 500:
        return None
    codes = {404: "not_found", 405: "method_not_allowed", 408: "request_timeout", 413: "body_too_large"}
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    code = codes.get(error.code, "request_refused")
    return Problem(code, headers=headers, status=error.code)


def _respond(route: Route, answer: Answer) -> Response:
    status = answer.status or route.status
    if answer.body is None:
        response = Response(b"", status, dict(answer.headers))
        if "Content-Type" not in answer.headers:
            del response.headers["Content-Type"]
        if "Content-Length" in answer.headers:  # of what HEAD does not get
            response.headers["Content-Length"] = answer.headers["Content-Length"]
        return response
    body = answer.body
    if not isinstance(body, bytes | str | AsyncIterator):
        body = msgspec.json.encode(body)
    response = Response(body, status, dict(answer.headers))
    if isinstance(body, AsyncIterator):
        response.timeout = None  # each write has a deadline of its own
    if "Content-Type" not in answer.headers:
        response.headers["Content-Type"] = route.gives
    return response

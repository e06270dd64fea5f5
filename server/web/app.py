"""Puts the routes together into one Quart application."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from quart import Response, request
from quart.routing import QuartRule
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from server.files import tus
from server.openapi import openapi_route
from server.problems import CATALOGUE, Problem
from server.web.admin import admin_routes
from server.web.api import api_routes
from server.web.ice_servers import IceServers, ice_server_routes
from server.web.inline import InlineConnection
from server.web.pages import page_routes
from server.web.ports import Auth, FindAccount, Rooms, WebSettings
from server.web.routes import Access, Answer, Asked, Reception, Route, Serve
from server.web.uploads import UPLOADS
from server.web.whip import SDP, SDPFRAG, whip_routes

DAY_S = 86_400
# Anyone's page may call: who asks is told by a bearer token, which browsers never send by themselves, not by a cookie.
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After, Content-Range, "
    "Tus-Resumable, Tus-Version, Upload-Offset, Upload-Length, Upload-Expires",
}
PREFLIGHT = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, Range, Tus-Resumable, "
    "Upload-Length, Upload-Offset, Upload-Metadata, Upload-Checksum",
    "Access-Control-Max-Age": str(DAY_S),
}
OPEN_TO_ALL = ("/api/", "/whip/", "/whep/", "/problems/", "/certificate.sha256")


class ServedRule(QuartRule):
    """A rule that requests are matched with. Nobody here builds an address from one, and to be able to costs a second.

    Without this method Werkzeug compiles two functions for each of hundreds of rules at every start.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _build_nothing


def _build_nothing(rule: ServedRule, **values: object) -> tuple[str, str]:
    raise NotImplementedError(f"an address is built from {rule.rule}")


def build_app(
    rooms: Rooms,
    auth: Auth,
    settings: WebSettings,
    *,
    find_account: FindAccount,
    metrics: Callable[[], bytes],
    quic: Callable[[], tuple[int, str]],
    more: Iterable[Route] = (),
) -> QuartTrio:
    """Return the application for the edge to serve.

    `metrics` gives the text for Prometheus, `quic` QUIC's port and the hash (hex) of the certificate that it shows;
    `more` are the routes of parts that a node has besides rooms.
    """
    reception, ice_servers = Reception(auth, settings), IceServers(settings.ice_servers)
    interface = [
        *api_routes(rooms, auth, find_account),
        *admin_routes(rooms, auth, find_account, settings.longest_token_s),
        *whip_routes(rooms.media_sessions, ice_servers),
        *ice_server_routes(ice_servers),
        *more,
    ]
    interface.append(openapi_route(tuple(interface)))
    routes = [
        *interface,
        *_service_routes(metrics, quic),
        *page_routes(settings.page),
    ]
    app = QuartTrio("server.web", static_folder=None)
    app.asgi_http_class, app.url_rule_class = InlineConnection, ServedRule
    app.config.update(MAX_CONTENT_LENGTH=settings.limits.body_bytes, BODY_TIMEOUT=None, PROVIDE_AUTOMATIC_OPTIONS=False)
    app.url_map.merge_slashes = False  # a redirect to a tidier address would drop what a POST carries
    _register(app, routes, reception, settings.largest_file)
    app.extensions |= {"reception": reception, "interface": tuple(interface)}
    return app


def _register(app: QuartTrio, routes: Iterable[Route], reception: Reception, largest_file: int) -> None:
    methods: dict[str, list[str]] = defaultdict(list)
    for route in routes:
        methods[route.path].append(route.method)
        app.add_url_rule(route.rule, f"{route.method} {route.path}", reception.view(route), methods=[route.method])
    for path, known in methods.items():
        options = Route(
            "OPTIONS", path, "What can be done here", _options(path, known, largest_file), Access.ANYONE, status=204
        )
        app.add_url_rule(options.rule, f"OPTIONS {path}", reception.view(options), methods=["OPTIONS"])

    async def refuse(error: Exception) -> Response:
        return reception.refuse(error)

    app.register_error_handler(HTTPException, refuse)
    app.register_error_handler(Exception, refuse)
    app.after_request(_add_headers)


def _options(path: str, methods: list[str], largest_file: int) -> Serve:
    known = ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))
    headers = {"Allow": known, "Access-Control-Allow-Methods": known, **PREFLIGHT}
    if path.startswith(("/whip/", "/whep/")):
        headers |= {"Accept-Post": SDP} if "POST" in methods else {"Accept-Patch": SDPFRAG}
    if path.startswith(UPLOADS):
        headers |= tus.offered(largest_file)

    async def answer(asked: Asked) -> Answer:
        return Answer(None, headers)

    return answer


async def _add_headers(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    if request.path.startswith(OPEN_TO_ALL):
        for name, value in CORS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
    if "Content-Security-Policy" not in response.headers:
        response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return response


def _service_routes(metrics: Callable[[], bytes], quic: Callable[[], tuple[int, str]]) -> list[Route]:
    async def health(asked: Asked) -> Answer:
        return Answer("ok\n", {"Content-Type": "text/plain"})

    async def measure(asked: Asked) -> Answer:
        return Answer(metrics(), {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def show_hash(asked: Asked) -> Answer:
        port, certificate = quic()
        # Players ask where they found the server; the port is for the page, when the configuration names another one.
        return Answer(certificate, {"Content-Type": "text/plain; charset=utf-8", "Quic-Port": str(port)})

    async def explain(asked: Asked) -> Answer:
        code = asked.path["code"]
        if code not in CATALOGUE:
            raise Problem("not_found")
        status, title = CATALOGUE[code]
        return Answer(f"{code} ({status}): {title}.\n", {"Content-Type": "text/plain; charset=utf-8"})

    return [
        Route("GET", "/healthz", "Whether the server answers", health, Access.ANYONE),
        Route("GET", "/metrics", "Measurements for Prometheus", measure, Access.LOOPBACK),
        Route("GET", "/certificate.sha256", "The certificate to expect over QUIC", show_hash, Access.ANYONE),
        Route("GET", "/problems/{code}", "What a problem type means", explain, Access.ANYONE),
    ]

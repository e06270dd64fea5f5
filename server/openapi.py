"""The OpenAPI 3.1 document, made of the same table that registers the routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from server.problems import CATALOGUE, CONTENT_TYPE, ProblemDocument
from server.web.routes import Access, Answer, Asked, Route

PATH = "/api/v1/openapi.json"
# What belongs to a route by what it takes and whom it serves.
OF_BODIES = ("ambiguous_length", "body_too_large", "request_timeout", "unsupported_media_type")
OF_JSON = ("malformed_json", "invalid_request")
OF_CONTENT: dict[Any, tuple[str, ...]] = {str: ("malformed_text",), bytes: ()}
REF = "#/components/schemas/{name}"


def openapi_route(described: Iterable[Route]) -> Route:
    """Return the route that gives the document about `described` and about itself."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document([*described, route]))

    async def show(asked: Asked) -> Answer:
        return Answer(encoded(), {"Cache-Control": "no-cache"})

    route = Route("GET", PATH, "This document", show, Access.ANYONE)
    return route


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document about some routes."""
    routes = list(routes)
    named = {shape for route in routes for shape in (route.body, route.result, route.query)} - {None, str, bytes}
    ordered = sorted(named, key=lambda shape: str(shape.__name__))
    _, schemas = msgspec.json.schema_components([*ordered, ProblemDocument], ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Mesi", "version": _version(), "description": "Live streams, and who may watch them."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "responses": _responses(route),
    }
    parameters = [_path_parameter(name) for name in re.findall(r"{(\w+)}", route.path)] + _query_parameters(route)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body is not bytes,
            "content": {route.takes: {"schema": _schema(route.body)}},
        }
    operation["security"] = [{"bearer": []}] if route.access in (Access.ACCOUNT, Access.ADMIN) else []
    return operation


def _responses(route: Route) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "Done"}
    if route.result is not None:
        good["content"] = {route.gives: {"schema": _schema(route.result)}}
    elif route.path == PATH:
        good["content"] = {route.gives: {"schema": {"type": "object"}}}
    responses: dict[str, Any] = {str(route.status): good}
    if route.method == "PATCH" and route.body is str:
        responses["204"] = {"description": "The candidates are taken"}
    by_status: dict[int, list[str]] = {}
    for code in _problems(route):
        by_status.setdefault(CATALOGUE[code][0], []).append(code)
    content = {CONTENT_TYPE: {"schema": _schema(ProblemDocument)}}
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = {"description": ", ".join(codes), "content": content}
    responses["default"] = {"description": "Any other problem", "content": content}
    return responses


def _problems(route: Route) -> list[str]:
    codes = dict.fromkeys(route.problems)
    if route.body is not None:
        codes |= dict.fromkeys((*OF_BODIES, *OF_CONTENT.get(route.body, OF_JSON)))
    if route.query is not None:
        codes |= dict.fromkeys(("invalid_request",))
    if route.access in (Access.ACCOUNT, Access.ADMIN):
        codes |= dict.fromkeys(("no_session",))
    if route.access is Access.ADMIN:
        codes |= dict.fromkeys(("admin_only",))
    return [*codes, "rate_limited"] if "rate_limited" not in codes else [*codes]


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 128}}


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    _, schemas = msgspec.json.schema_components([route.query], ref_template=REF)
    properties = schemas[route.query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _schema(shape: Any) -> dict[str, Any]:
    if shape is bytes:
        return {"type": "string", "format": "binary"}
    return {"type": "string"} if shape is str else {"$ref": REF.format(name=shape.__name__)}


def _operation_id(route: Route) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", route.path.removeprefix("/api/v1")) if word]
    return "_".join([route.method.lower(), *words])


def _version() -> str:
    try:
        return version("mesi")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"

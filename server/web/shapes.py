"""Reads JSON and queries into what routes take; what does not fit is a problem that names the field."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from server.complaints import explain
from server.problems import Problem


def read_json_untrusted(raw: bytes, shape: Any) -> Any:
    """Return a body as a route takes it; raises Problem (malformed_json, invalid_request)."""
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        if strange := _strange_numbers_untrusted(raw):
            raise Problem("invalid_request", f"{strange[0]} is not a number here", extra={"field": ""}) from None
        raise Problem("malformed_json", str(error)) from None


def shape_query_untrusted(values: object, shape: Any) -> Any:
    """Return a query as a route takes it; raises Problem("invalid_request")."""
    try:
        return msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: msgspec.ValidationError) -> Problem:
    complaint = explain(str(error))
    return Problem("invalid_request", str(complaint), extra={"field": complaint.path})


def _strange_numbers_untrusted(raw: bytes) -> list[str]:
    """Return NaN and infinities, which some programs write into what is JSON but for them; nothing of other bytes."""
    found: list[str] = []
    try:
        json.loads(raw, parse_constant=found.append, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return []
    return found

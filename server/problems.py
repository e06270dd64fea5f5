"""Errors as clients see them: RFC 9457 problem documents with stable codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from signalling.refusals import TITLES

CONTENT_TYPE = "application/problem+json"

# What can go wrong before a room is asked; `signalling.refusals` has the rest, and the last word.
OF_HTTP: dict[str, tuple[int, str]] = {
    "malformed_json": (400, "The body is not JSON"),
    "malformed_text": (400, "The body is not UTF-8 text"),
    "malformed_sdp": (400, "The session description does not parse"),
    "malformed_offer": (400, "The offer breaks a rule of its format"),
    "ambiguous_length": (400, "The request gives its length twice"),
    "malformed_header": (400, "A header does not parse"),
    "admin_only": (403, "Only an administrator may do this"),
    "loopback_only": (403, "This is only for this machine itself"),
    "not_found": (404, "There is nothing at this address"),
    "method_not_allowed": (405, "This address does not know that method"),
    "no_common_codec": (406, "The stream is in a codec that you don't receive"),
    "request_timeout": (408, "The body came too slowly"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body is not of the type that belongs here"),
    "invalid_request": (422, "A value in the request is not allowed"),
    "unsupported_offer": (422, "The offer asks for what is not served"),
    "no_restart": (422, "The fragment restarts nothing"),
    "tus_version": (412, "Only version 1.0.0 of tus is spoken here"),
    "range_not_satisfiable": (416, "The file has no such part"),
    "precondition_required": (428, "An If-Match header is needed"),
    "rate_limited": (429, "Too many requests"),
    "no_capacity": (503, "This server carries as much as it can"),
    "request_refused": (400, "The request can't be served"),
}
CATALOGUE: dict[str, tuple[int, str]] = {**OF_HTTP, **TITLES}
# Seconds after which trying again makes sense (RFC 9110 section 10.2.3).
RETRY_AFTER_S = {
    "no_publisher": 1,
    "no_capacity": 5,
    "not_stored": 5,
    "access_unavailable": 5,
    "rate_unavailable": 30,
    "provider_unavailable": 30,
    "idempotency_in_flight": 1,
    "chat_too_fast": 1,
    "too_fast": 1,
    "too_many_sessions": 30,
    "too_many_uploads": 5,
}


class ProblemDocument(msgspec.Struct, frozen=True):
    """RFC 9457 section 3. More members may follow: what would help, by name."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class Problem(Exception):
    """A request that gets an error; `code` is one of CATALOGUE, `extra` are members for this case.

    `status` differs from the catalogue's only where HTTP itself chose it.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        extra: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        usual, self.title = CATALOGUE[code]
        self.code, self.detail, self.extra = code, detail or self.title, extra or {}
        self.status = usual if status is None else status
        self.headers = dict(headers or {})
        if code in RETRY_AFTER_S:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S[code]))
        if self.status == 401:
            self.headers.setdefault("WWW-Authenticate", "Bearer")
        super().__init__(f"{code}: {self.detail}")

    def document(self) -> dict[str, Any]:
        """Return the members of the problem document; the standard ones can't be overridden."""
        standard = ProblemDocument(f"/problems/{self.code}", self.title, self.status, self.detail, self.code)
        return {**self.extra, **msgspec.structs.asdict(standard)}

    def encode(self) -> bytes:
        """Return the document as JSON."""
        return msgspec.json.encode(self.document(), enc_hook=str)

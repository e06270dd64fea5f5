"""What people are told of what they prove, and disclose, of themselves."""

from __future__ import annotations

from typing import Any

from signalling.identifiers import StreamId
from signalling.wire.events import WireEvent


class KyfRequired(WireEvent, frozen=True, kw_only=True, tag="kyf.required"):
    """You can't come into a stream before you prove what is `missing`; once it is proven, you are let in by itself."""

    stream: StreamId
    missing: tuple[Any, ...]


class KyfExpired(WireEvent, frozen=True, kw_only=True, tag="kyf.expired"):
    """What you proved no longer counts, and you are out of a stream until it is proven anew."""

    stream: StreamId
    missing: tuple[Any, ...]


class KyfGranted(WireEvent, frozen=True, kw_only=True, tag="kyf.granted"):
    """An issuer vouches for you, until `expires_at`."""

    issuer: str
    expires_at: int


class KyfDenied(WireEvent, frozen=True, kw_only=True, tag="kyf.denied"):
    """An issuer could not say anything for certain, and that counts as a no."""

    issuer: str


class KyfRequested(WireEvent, frozen=True, kw_only=True, tag="kyf.requested"):
    """A streamer asks you to disclose facts about you; without an answer by `deadline` nothing is disclosed."""

    disclosure: str
    streamer: str
    fields: tuple[str, ...]
    purpose: str
    deadline: int


class KyfDisclosed(WireEvent, frozen=True, kw_only=True, tag="kyf.disclosure"):
    """To both: a request is granted, refused, lapsed or revoked. Never why."""

    disclosure: str
    state: str

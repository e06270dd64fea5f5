"""Hands pushes to the push services of browsers (RFC 8030): in bounds, without redirects, to public addresses only."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import httpcore2
import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric import ec

from server.push.encryption import CURVE, SALT_BYTES, encrypt
from server.push.notices import URGENT
from server.push.queue import Queued
from server.push.vapid import Vapid
from server.webhooks.post import MAX_ANSWER, PublicOnly, header, judge
from server.webhooks.schedule import Failed, Outcome

TIMEOUT_S = 10.0  # for a whole attempt: a service that is well takes a tenth of a second
CONNECTIONS = 32
IDLE_S = 60.0
NOT_FOUND = 404
FAULTS = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
    httpcore2.PoolTimeout,
)


class Sender:
    """Connections to push services, wherever devices say these are; `private` lets them be on this machine, too."""

    def __init__(self, vapid: Vapid, *, private: bool) -> None:
        backend: httpcore2.AsyncNetworkBackend = httpcore2.TrioBackend()
        if not private:
            backend = PublicOnly(backend)
        self._vapid = vapid
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=CONNECTIONS, keepalive_expiry=IDLE_S, network_backend=backend
        )

    async def send(self, queued: Queued, now_ms: int) -> Outcome:
        """Try once. A device that its service knows no more is `gone`."""
        with trio.move_on_after(TIMEOUT_S):
            try:
                return await self._send(queued, now_ms)
            except FAULTS as error:
                return Failed(str(error) or type(error).__name__)
        return Failed(f"no answer within {TIMEOUT_S:.0f} s")

    async def aclose(self) -> None:
        """End the connections."""
        await self._pool.aclose()

    async def _send(self, queued: Queued, now_ms: int) -> Outcome:
        body = encrypt(
            msgspec.json.encode(queued.words), queued.keys, os.urandom(SALT_BYTES), ec.generate_private_key(CURVE)
        )
        headers = [
            ("Authorization", self._vapid.authorization(_origin(queued.endpoint), now_ms // 1000)),
            ("Content-Encoding", "aes128gcm"),
            ("Content-Type", "application/octet-stream"),
            ("TTL", str(max(0, (queued.until - now_ms) // 1000))),
            ("Urgency", "high" if queued.words.kind in URGENT else "normal"),
        ]
        async with self._pool.stream("POST", queued.endpoint, headers=headers, content=body) as answer:
            read = 0
            async for part in answer.aiter_stream():
                read += len(part)
                if read > MAX_ANSWER:
                    break
            if answer.status == NOT_FOUND:  # as services say that a device is gone (RFC 8030 section 7.3)
                return Failed("answered 404", gone=True)
            return judge(answer.status, header(answer.headers, b"retry-after"), now_ms)


def _origin(endpoint: str) -> str:
    where = urlsplit(endpoint)
    return f"{where.scheme}://{where.netloc}"

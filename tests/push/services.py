"""A push service over real HTTP, and browsers that decrypt what it takes as RFC 8291 says, on their own."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h11
import jwt
import msgspec
import trio
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.events.receiver import Answer
from tests.money.provider_service import receive_request


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def hkdf(salt: bytes, secret: bytes, info: bytes, size: int) -> bytes:
    """Derive a key by RFC 5869 in its two steps, for one block."""

    def sign(key: bytes, text: bytes) -> bytes:
        signer = hmac.HMAC(key, hashes.SHA256())
        signer.update(text)
        return signer.finalize()

    return sign(sign(salt, secret), info + b"\x01")[:size]


class Browser:
    """A browser's half of a subscription."""

    def __init__(self, private: ec.EllipticCurvePrivateKey | None = None, auth: bytes | None = None) -> None:
        self.private = private or ec.generate_private_key(ec.SECP256R1())
        self.auth = auth or os.urandom(16)
        self.public = self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def subscription(self, endpoint: str) -> dict[str, Any]:
        keys = {"p256dh": b64(self.public), "auth": b64(self.auth)}
        return {"endpoint": endpoint, "expirationTime": None, "keys": keys}

    def decrypt(self, body: bytes) -> bytes:
        salt, size, length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
        sender, sealed = body[21 : 21 + length], body[21 + length :]
        assert len(sealed) <= size
        shared = self.private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        secret = hkdf(self.auth, shared, b"WebPush: info\0" + self.public + sender, 32)
        key = hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
        nonce = hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
        padded = AESGCM(key).decrypt(nonce, sealed, None).rstrip(b"\0")
        assert padded[-1:] == b"\x02"
        return padded[:-1]


@dataclass(frozen=True)
class Pushed:
    """What came to an endpoint, decrypted."""

    words: dict[str, Any]
    headers: dict[str, str]
    claims: dict[str, Any]
    key: str
    path: str


@dataclass
class PushService:
    """Takes pushes for browsers by their endpoints' paths. `answers` are given in turn, then 201."""

    url: str = ""
    browsers: dict[str, Browser] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    pushed: list[Pushed] = field(default_factory=list)
    heard: int = 0

    def browser(self, name: str) -> dict[str, Any]:
        """Return a new browser's subscription."""
        path = f"/push/{name}"
        self.browsers[path] = Browser()
        return self.browsers[path].subscription(self.url + path)

    def words(self, name: str) -> list[dict[str, Any]]:
        return [each.words for each in self.pushed if each.path == f"/push/{name}"]

    async def serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, h11.RemoteProtocolError):
            async with stream:
                connection = h11.Connection(h11.SERVER)
                while True:
                    head, body = await receive_request(stream, connection)
                    if head is None:
                        return
                    answer = self._take(head, body)
                    await trio.sleep(answer.after_s)
                    headers = [*answer.headers, ("Content-Length", "0")]
                    for event in (h11.Response(status_code=answer.status, headers=headers), h11.EndOfMessage()):
                        await stream.send_all(connection.send(event) or b"")
                    connection.start_next_cycle()

    def _take(self, head: h11.Request, body: bytes) -> Answer:
        self.heard += 1
        headers = {name.decode().lower(): value.decode() for name, value in head.headers}
        path = head.target.decode()
        scheme, token, key = headers["authorization"].replace(",", "").split(" ")
        assert (scheme, headers["content-encoding"]) == ("vapid", "aes128gcm")
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(key.removeprefix("k=")))
        claims = jwt.decode(token.removeprefix("t="), public, algorithms=["ES256"], audience=self.url)
        words = msgspec.json.decode(self.browsers[path].decrypt(body))
        answer = self.answers.pop(0) if self.answers else Answer(201)
        if answer.status < 300:
            self.pushed.append(Pushed(words, headers, claims, key.removeprefix("k="), path))
        return answer


@asynccontextmanager
async def push_service() -> AsyncIterator[PushService]:
    service = PushService()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, service.serve, 0, host="127.0.0.1"))
        service.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield service
        nursery.cancel_scope.cancel()

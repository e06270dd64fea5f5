"""Says to push services who sends (VAPID, RFC 8292): a key of this server's own, and tokens signed with it."""

from __future__ import annotations

from collections import OrderedDict

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from server.push.encryption import CURVE, point_of, to_base64url

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of the curve (SEC 2 section 2.4.2)
LASTS_S = 43_200  # a token; services take no longer than a day
RENEWED_S = 3_600  # before its end
MAX_SERVICES = 256  # whose tokens are kept: there are a handful, but anybody may name others


class Vapid:
    """Signs for one server; `secret` is its kept key, `contact` whom services may write to, "" for nobody."""

    def __init__(self, secret: bytes, contact: str) -> None:
        self._key = ec.derive_private_key(int.from_bytes(secret, "big") % (ORDER - 1) + 1, CURVE)
        self.public_key = to_base64url(point_of(self._key))
        self._contact = contact
        self._tokens: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def authorization(self, service: str, now_s: int) -> str:
        """Return the Authorization header for a push service, named by its origin."""
        token, ends_s = self._tokens.get(service, ("", 0))
        if ends_s - now_s < RENEWED_S:
            token, ends_s = self._sign(service, now_s + LASTS_S), now_s + LASTS_S
        self._tokens[service] = token, ends_s
        self._tokens.move_to_end(service)
        if len(self._tokens) > MAX_SERVICES:
            self._tokens.popitem(last=False)
        return f"vapid t={token}, k={self.public_key}"

    def _sign(self, service: str, ends_s: int) -> str:
        claims: dict[str, str | int] = {"aud": service, "exp": ends_s}
        return jwt.encode(claims | ({"sub": self._contact} if self._contact else {}), self._key, "ES256")

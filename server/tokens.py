"""Bearer tokens: JSON Web Tokens (RFC 7519), signed with HS256 by a key that lives in the data directory."""

from __future__ import annotations

import os
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import jwt

from server.money.assets import Surface
from signalling.identifiers import AccountId, Actor
from signalling.refusals import Refused

ALGORITHM = "HS256"
AUDIENCE = "mesi"
KEY_BYTES = 32  # as long as the hash (RFC 7518 section 3.2)
MAX_KNOWN = 4096  # tokens whose signature need not be looked at again: as many as ask within minutes
MAX_TOKEN = 4096  # characters; ours have about 300
REQUIRED = ["sub", "name", "kind", "iat", "exp", "aud"]


class InvalidSecret(ValueError):
    """A file holds no secret of its kind; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says; times in epoch ms. `surface` is where its session is used, and so what it may spend."""

    actor: Actor
    expires_at: int
    issued_at: int = 0
    surface: Surface = "web"


class Tokens:
    """Signs and reads the tokens of one node."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: OrderedDict[str, Claims] = OrderedDict()  # those that were right, by when they were used

    def issue(self, account: AccountId, name: str, expires_s: int, kind: str, surface: Surface = "web") -> str:
        """Return a token for an account; kind is "user" or "admin"."""
        assert kind in ("user", "admin")
        now = int(time.time())
        claims = {"sub": account, "name": name, "kind": kind, "iat": now, "exp": now + expires_s, "aud": AUDIENCE}
        return jwt.encode({**claims, "surface": surface}, self._key, ALGORITHM)

    def read_untrusted(self, token: str) -> Claims:
        """Return what a token says; raises Refused("no_session") for whatever is not a valid one of ours."""
        if len(token) > MAX_TOKEN:
            raise Refused("no_session", "the token is too long to be one of ours")
        known = self._known.get(token)
        if known is not None and time.time() * 1000 < known.expires_at:
            self._known.move_to_end(token)
            return known
        claims = self._known[token] = self._verify(token)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return claims

    def _verify(self, token: str) -> Claims:
        self._known.pop(token, None)
        try:
            claims = jwt.decode(
                token, self._key, algorithms=[ALGORITHM], audience=AUDIENCE, options={"require": REQUIRED}
            )
        except jwt.ExpiredSignatureError:
            raise Refused("no_session", "the token has expired") from None
        except (jwt.PyJWTError, ValueError):
            raise Refused("no_session", "the token is not one of ours") from None
        until_ms = int(claims["exp"]) * 1000
        actor = Actor(AccountId(claims["sub"]), claims["name"], claims["kind"] == "admin", until_ms)
        # A token of an earlier version says no surface, and those were all for the page.
        surface: Surface = "mobile" if claims.get("surface") == "mobile" else "web"
        return Claims(actor, until_ms, int(claims["iat"]) * 1000, surface)


def open_key(path: Path) -> bytes:
    """Return the key in a file, which is made when there is none; raises InvalidSecret and OSError."""
    write_secret_once(path, secrets.token_hex(KEY_BYTES))
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:  # bytes that are no text are among it
        key = b""
    if len(key) != KEY_BYTES:
        raise InvalidSecret(f"{path} holds no key: {KEY_BYTES} bytes in hexadecimal; remove it to have a new one made")
    return key


def write_secret_once(path: Path, text: str) -> None:
    """Write a file that only its owner may read, unless there is one; never half of it."""
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    write_secret(fresh, text)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass  # another process was faster, and its secret counts
    finally:
        fresh.unlink()


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, replacing what was there."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())

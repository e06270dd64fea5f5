"""ICE credentials and the address type that all of WebRTC shares (RFC 8445, RFC 8839)."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import dataclass, field

Address = tuple[str, int]
# Somebody's address, and behind it the number of our socket that it reaches, where that is not the first.
Path = tuple[str, int] | tuple[str, int, int]

ICE_CHARS = string.ascii_letters + string.digits + "+/"  # RFC 8839 section 5.4
_CHAR_OF_OCTET = (ICE_CHARS * 4).encode()
UFRAG_LENGTH = 8  # 48 bits: enough that two sessions of a node never meet by chance
PASSWORD_LENGTH = 24  # 144 bits; RFC 8839 asks for at least 128

# Clients known to send base64url characters are understood; what we make ourselves is strict.
_UFRAG = re.compile(r"[A-Za-z0-9+/_=-]{4,256}\Z")
_PASSWORD = re.compile(r"[A-Za-z0-9+/_=-]{22,256}\Z")


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """The username fragment and password of one side of an ICE session.

    Raises ValueError for lengths or characters outside RFC 8839 section 5.4.
    """

    ufrag: str
    password: str = field(repr=False)  # never into a log

    def __post_init__(self) -> None:
        if not _UFRAG.match(self.ufrag):
            raise ValueError("ice-ufrag must be 4 to 256 ice-chars")
        if not _PASSWORD.match(self.password):
            raise ValueError("ice-pwd must be 22 to 256 ice-chars")

    @classmethod
    def random(cls) -> IceCredentials:
        """Make fresh credentials from the system's randomness."""
        return cls(_random_chars(UFRAG_LENGTH), _random_chars(PASSWORD_LENGTH))


def _random_chars(count: int) -> str:
    # There are 64 of them, so that each octet gives every one with the same chance.
    return secrets.token_bytes(count).translate(_CHAR_OF_OCTET).decode()

"""What the configuration says of Web Push."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Push(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom push services can reach about what this server sends (RFC 8292 section 2.1): a mailto: or https: address.

    `private` lets push services be anywhere, also on this machine, and be asked without TLS: for tests.
    """

    contact: Annotated[str, Meta(max_length=256, pattern=r"^((mailto:|https://)[^\s\x00-\x1f\x7f]+)?$")] = ""
    private: bool = False

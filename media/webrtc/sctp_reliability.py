"""How often, or for how long, a message is tried to be sent before it is given up (RFC 3758, RFC 7496)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reliability:
    """What bounds the attempts at one message; None does not. DCEP lets a channel choose one of them."""

    retransmissions: int | None = None
    lifetime_ms: int | None = None  # from when it was to be sent first


RELIABLE = Reliability()

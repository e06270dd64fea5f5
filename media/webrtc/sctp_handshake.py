"""SCTP's handshake: what INIT says of us, and the sealed cookie that remembers what an answer would have to.

Until the cookie comes back nothing of an INIT is kept (RFC 9260 section 5.1).
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass

from media.webrtc import sctp_chunks as wire
from media.webrtc.sctp_chunks import Init
from media.webrtc.sctp_inbound import STREAMS, WINDOW

LIFE_NS = 60 * 1_000_000_000  # RFC 9260 section 16
_FIXED = struct.Struct("!qIIIIIIIH?")
SEAL = 32  # bytes
MAX_TAG = 0xFFFFFFFF
EXTENSIONS = bytes((wire.RE_CONFIG, wire.FORWARD_TSN))
MAX_REPORT = wire.MAX_PACKET // 2  # bytes of what was not recognised that are said again


@dataclass(frozen=True, slots=True)
class Cookie:
    """Both ends' tags and first TSNs, the peer's window, and the tags of an association that there was before.

    `outgoing` is how many streams we may use; times are monotonic ns.
    """

    made_ns: int
    own_tag: int
    peer_tag: int
    own_tsn: int
    peer_tsn: int
    window: int
    former_own_tag: int
    former_peer_tag: int
    outgoing: int
    forwards: bool  # the peer skips what we give up (RFC 3758)

    def sealed(self, key: bytes) -> bytes:
        """Write it for the peer to give back (RFC 9260 section 5.1.3)."""
        fixed = _FIXED.pack(
            self.made_ns,
            self.own_tag,
            self.peer_tag,
            self.own_tsn,
            self.peer_tsn,
            self.window,
            self.former_own_tag,
            self.former_peer_tag,
            self.outgoing,
            self.forwards,
        )
        return fixed + hmac.digest(key, fixed, "sha256")


class Handshake:
    """What one end says to begin; it remembers nothing but the key of its cookies."""

    def __init__(self, random_bits: Callable[[int], int]) -> None:
        self._random_bits = random_bits
        self._key = random_bits(256).to_bytes(32)

    def own_init(self) -> Init:
        """Draw a tag and a first TSN, to offer with all that we can."""
        tag = self._random_bits(32) % MAX_TAG + 1
        parameters = ((wire.SUPPORTED_EXTENSIONS, EXTENSIONS), (wire.FORWARD_TSN_SUPPORTED, b""))
        return Init(tag, WINDOW, STREAMS, STREAMS, self._random_bits(32), parameters)

    def answer(self, init: Init, own: Init, former: tuple[int, int], now_ns: int) -> bytes:
        """Write the INIT ACK to an INIT; `former` are the tags, ours first, of the association that there is."""
        outgoing = min(init.incoming, STREAMS)
        tags_and_tsns = own.tag, init.tag, own.tsn, init.tsn
        cookie = Cookie(now_ns, *tags_and_tsns, init.window, *former, outgoing, init.forwards)
        said = ((wire.COOKIE, cookie.sealed(self._key)), *own.parameters)
        if unknown := b"".join(wire.unrecognised(init))[:MAX_REPORT]:
            said += ((wire.UNRECOGNISED, unknown),)
        answer = Init(own.tag, own.window, own.outgoing, own.incoming, own.tsn, said)
        return wire.build_chunk(wire.INIT_ACK, wire.build_init(answer))

    def open_untrusted(self, sealed: bytes) -> Cookie | None:
        """Return a cookie of ours, None for whatever is none."""
        if len(sealed) != _FIXED.size + SEAL:
            return None
        fixed, seal = sealed[: _FIXED.size], sealed[_FIXED.size :]
        is_ours = hmac.compare_digest(seal, hmac.digest(self._key, fixed, "sha256"))
        return Cookie(*_FIXED.unpack(fixed)) if is_ours else None

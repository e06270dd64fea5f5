"""Keys of a connection as the kernel of packets takes them, and bursts of packets as it makes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from aioquic.quic.crypto import CryptoContext, derive_key_iv_hp
from aioquic.tls import CipherSuite

from media.io import aead
from media.io.cipher import BLOCK_BYTES
from media.moq.kernel import calls

AES = (CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384)


class Burst(NamedTuple):
    """Packets one behind the other, all of `size` bytes but the last, which may be shorter."""

    data: bytes
    size: int

    def datagrams(self) -> list[bytes]:
        """Return each packet by itself."""
        return [self.data[at : at + self.size] for at in range(0, len(self.data), self.size)]


class Keys(NamedTuple):
    """A direction's keys."""

    key: bytes
    iv: bytes
    mask: bytes


def keys_of(crypto: CryptoContext, mask: bytes | None) -> Keys | None:
    """Return the keys of a direction, None when they are not AES's; an update leaves `mask` as it was before."""
    if crypto.cipher_suite not in AES or crypto.secret is None or crypto.version is None:
        return None
    assert crypto.cipher_suite is not None
    key, iv, first_mask = derive_key_iv_hp(
        cipher_suite=crypto.cipher_suite, secret=crypto.secret, version=crypto.version
    )
    return Keys(key, iv, first_mask if mask is None else mask)


def masks_alike(crypto: CryptoContext, mask: bytes) -> bool:
    """Whether a key of header protection is the one in use, which only the first secret tells."""
    assert crypto.hp is not None
    sample = bytes(range(BLOCK_BYTES))
    out = np.empty(BLOCK_BYTES, np.uint8)
    context = calls.open_mask(_view(mask))
    try:
        return bool(calls.make_mask(context, _view(sample), out)) and out.tobytes() == crypto.hp._mask(sample)
    finally:
        aead.close_context(context)


class KernelKeys:
    """A direction's keys as the kernel takes them, until this object is gone."""

    def __init__(self, keys: Keys, *, seals: bool) -> None:
        self.aead = aead.own(self, aead.open_aead(_view(keys.key), seals))
        self.mask = aead.own(self, calls.open_mask(_view(keys.mask)))
        self.iv = keys.iv


def _view(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(data, np.uint8)

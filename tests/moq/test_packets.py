"""Keys as the kernel of packets takes them."""

from __future__ import annotations

import gc
import random

import pytest
from aioquic.quic.crypto import CryptoContext
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite

from media.io import aead
from media.moq.quic.packets import AES, KernelKeys, keys_of, masks_alike


def crypto(cipher: CipherSuite = CipherSuite.AES_128_GCM_SHA256, seed: int = 1) -> CryptoContext:
    made = CryptoContext()
    size = 48 if cipher is CipherSuite.AES_256_GCM_SHA384 else 32
    made.setup(cipher_suite=cipher, secret=random.Random(seed).randbytes(size), version=QuicProtocolVersion.VERSION_1)
    return made


CRYPTO = {cipher: crypto(cipher) for cipher in AES}


def test_other_ciphers_have_no_keys_for_the_kernel_and_another_mask_is_noticed() -> None:
    assert keys_of(crypto(CipherSuite.CHACHA20_POLY1305_SHA256), None) is None
    for cipher, context in CRYPTO.items():
        keys = keys_of(context, None)
        assert keys is not None
        assert masks_alike(context, keys.mask)
        assert not masks_alike(context, bytes(len(keys.mask))), cipher


def test_keys_free_their_contexts_when_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = []
    monkeypatch.setattr(aead, "close_context", freed.append)
    keys = keys_of(CRYPTO[AES[0]], None)
    assert keys is not None
    held = KernelKeys(keys, seals=True)
    made = [held.aead, held.mask]
    del held
    gc.collect()
    assert sorted(freed) == sorted(made)

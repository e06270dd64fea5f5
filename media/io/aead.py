"""Contexts of OpenSSL's AES-GCM for compiled code, made in Python and freed with what holds them."""

from __future__ import annotations

import weakref

import numpy as np
from numba import njit, types

from media.io.cipher import aes_128_gcm, aes_256_gcm, decrypt_init, encrypt_init, free_context, new_context
from media.io.compiled import keep_compiled

keep_compiled("aead", __file__)
_bytes = types.Array(types.uint8, 1, "C", readonly=True)


@njit([types.uintp(_bytes, types.boolean)], cache=True)
def open_aead(key, seals):
    """Return a context that seals, or opens, packets by AES-GCM under a key of 16 or 32 bytes; 0 when there is none."""
    context = new_context()
    if context == 0:
        return context
    cipher = aes_128_gcm() if key.size == 16 else aes_256_gcm()
    zero = np.uint64(0)
    if seals:
        done = encrypt_init(context, cipher, zero, key.ctypes.data, zero)
    else:
        done = decrypt_init(context, cipher, zero, key.ctypes.data, zero)
    if done != 1:
        free_context(context)
        return zero
    return context


@njit([types.void(types.uintp)], cache=True)
def close_context(context):
    """Free a context."""
    free_context(context)


def own(owner: object, context: int) -> int:
    """Have `context` freed when `owner` is gone, and return it; raises MemoryError for 0, which is none."""
    if not context:
        raise MemoryError("no cipher context")
    weakref.finalize(owner, close_context, context).atexit = False
    return context

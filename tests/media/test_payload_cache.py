"""Payloads in the cache, of which head and tail are kept apart, come out as they went in."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numba import njit, types

from media.forwarding.kernel import loop
from media.forwarding.kernel.payload_cache import copy_payload, put_payload
from media.forwarding.memory import make_tables
from media.forwarding.payloads import read_payload
from media.forwarding.rows import Limits
from media.forwarding.tables import CACHE, PAYLOAD, PAYLOAD_HEAD
from media.io.compiled import keep_with

TRACK = 1

keep_with("kernel")


@njit([types.void(loop._LAYOUT, types.int64, types.uint8[::1])], nogil=True, cache=True)
def _put(whole, slot, payload):
    put_payload(whole[0], TRACK, slot, payload.ctypes.data, len(payload))


@njit([types.void(loop._LAYOUT, types.int64, types.int64, types.uint8[::1])], nogil=True, cache=True)
def _copy(whole, slot, begin, out):
    copy_payload(whole[0], TRACK, slot, begin, len(out), out.ctypes.data)


TABLES = make_tables(Limits(rooms=1, transports=1, tracks=3, subscriptions=1))[0]
SIZES = st.sampled_from((0, 1, PAYLOAD_HEAD - 1, PAYLOAD_HEAD, PAYLOAD_HEAD + 1, PAYLOAD)) | st.integers(0, PAYLOAD)


@given(slot=st.sampled_from((0, 7, CACHE - 1)), size=SIZES, first=SIZES, last=SIZES)
@example(slot=CACHE - 1, size=PAYLOAD, first=0, last=PAYLOAD)
def test_any_part_of_a_payload_is_what_it_was_and_no_other_is_touched(
    slot: int, size: int, first: int, last: int
) -> None:
    payload = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    heads, tails = TABLES.cache_heads, TABLES.cache_tails
    heads[:3] = tails[:3] = 0xAA
    _put(TABLES.whole, slot, payload)
    begin, end = sorted((min(first, size), min(last, size)))
    out = np.full(end - begin, 0x55, np.uint8)
    _copy(TABLES.whole, slot, begin, out)
    assert out.tobytes() == payload[begin:end].tobytes()
    assert read_payload(heads[TRACK, slot], tails[TRACK, slot], begin, end) == payload[begin:end].tobytes()
    heads[TRACK, slot, :size] = tails[TRACK, slot, : max(size - PAYLOAD_HEAD, 0)] = 0xAA
    assert (heads[:3] == 0xAA).all()
    assert (tails[:3] == 0xAA).all()

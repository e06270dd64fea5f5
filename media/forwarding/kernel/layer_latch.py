"""Compiled: to which layer of simulcast a packet belongs: by its SSRC, or by the name that senders give it at first."""

from __future__ import annotations

import numpy as np
from numba import njit

from media.forwarding.kernel.rtp_headers import find_extension
from media.forwarding.tables import RID
from media.io.octets import read_u32


@njit(nogil=True)
def find_layer(t, head, data, transport, is_repair):
    """Return the row of the layer that a packet of simulcast belongs to, or -1: by its SSRC, before that by its name.

    Senders name a stream in its first packets only (RFC 8852 section 2). `data` has passed `read_header`.
    """
    ssrc = np.uint64(read_u32(data, 8))
    layer = np.int64(head)
    while layer >= 0:
        if (t.tracks[layer].rtx_ssrc if is_repair else t.tracks[layer].ssrc) == ssrc:
            return layer
        layer = np.int64(t.tracks[layer].next_layer)
    rid = _read_rid(data, t.transports[transport].repaired_rid_id if is_repair else t.transports[transport].rid_id)
    layer = np.int64(head if rid != 0 else -1)
    while layer >= 0:
        if t.tracks[layer].rid == rid:
            if is_repair:
                t.tracks[layer].rtx_ssrc = ssrc
            return layer
        layer = np.int64(t.tracks[layer].next_layer)
    return layer


@njit(nogil=True)
def _read_rid(data, identifier):
    rid = np.uint64(0)
    if identifier == 0 or not data[0] & 0x10:
        return rid
    at = np.int64(12 + 4 * (data[0] & 15))
    profile = (np.int64(data[at]) << 8) | np.int64(data[at + 1])
    end = at + 4 + 4 * ((np.int64(data[at + 2]) << 8) | np.int64(data[at + 3]))
    where, length = find_extension(data, at + 4, end, profile, identifier)
    if length <= RID:
        for place in range(where, where + length):
            rid = (rid << np.uint64(8)) | np.uint64(data[place])
    return rid

"""A connection's row alone, with keys that a test knows: what it takes in, and what it reads of it."""

from __future__ import annotations

from typing import NamedTuple

from aioquic.quic.crypto import CryptoContext

from media.moq.kernel import columns as c
from media.moq.quic.packets import KernelKeys, keys_of
from media.moq.quic.table import ConnectionTable, packed_address

ID = b"12345678"
CLIENT = ("127.0.0.1", 1)


class Acknowledgement(NamedTuple):
    number: int
    delay: int
    ranges: list[tuple[int, int]]


class Opener:
    """Opens acknowledgements under the keys of a context."""

    def __init__(self, context: CryptoContext) -> None:
        keys = keys_of(context, None)
        assert keys is not None
        self._keys = KernelKeys(keys, seals=False)
        self.table = ConnectionTable(2)
        self.row = self.table.take_row()
        ints, octets = self.row.ints, self.row.octets
        ints[c.OPENER], ints[c.OPENING_MASK] = self._keys.aead, self._keys.mask
        octets[c.OPENING_IV : c.OPENING_IV + c.IV_BYTES] = keys.iv
        address = packed_address(CLIENT)
        octets[c.ADDRESS : c.ADDRESS + len(address)] = address
        ints[c.ADDRESS_BYTES], ints[c.ID], ints[c.IS_PLAIN] = len(address), int.from_bytes(ID, "big"), 1
        ints[c.KEY_PHASE], ints[c.PACKET_BYTES] = context.key_phase, 1_200

    def open_untrusted(self, data: bytes, expected: int) -> Acknowledgement | None:
        """Return what a packet acknowledges; None when it is for aioquic, and nothing of it was kept."""
        ints = self.row.ints
        ints[c.EXPECTED], ints[c.LARGEST_RECEIVED], ints[c.RUNS] = expected, c.NONE, 0
        before = self.table.ints.copy()
        if not self.table.take_in_untrusted(data, CLIENT, 0.0):
            assert (self.table.ints == before).all()
            return None
        delay, count, *edges = self.table._scratch.found.tolist()
        ranges = list(zip(edges[: 2 * count : 2], edges[1 : 2 * count : 2], strict=True))
        return Acknowledgement(ints[c.LARGEST_RECEIVED], delay, ranges)

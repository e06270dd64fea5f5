"""The address table as Python writes it: which transport a datagram's sender belongs to."""

from __future__ import annotations

import ipaddress
import socket
import struct

import numpy as np

from media.forwarding.kernel.locating import address_hash
from media.forwarding.tables import ADDRESSES, PROBES, Tables

Address = tuple[str, int]
DELETED = -1


class AddressTableFull(Exception):
    """No slot within reach of an address's hash: far more addresses than transports."""


def pack_sockaddr(address: Address) -> bytes:
    """Return the address as the kernel's struct sockaddr_in or sockaddr_in6."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    if ip.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1]) + ip.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", address[1], 0) + ip.packed + bytes(4)


def unpack_sockaddr(raw: bytes) -> Address:
    """Read a struct sockaddr_in or sockaddr_in6."""
    family, port = struct.unpack_from("=H", raw)[0], struct.unpack_from("!H", raw, 2)[0]
    packed = raw[4:8] if family == socket.AF_INET else raw[8:24]
    return str(ipaddress.ip_address(packed)), port


class AddressTable:
    """Open addressing with linear probing; the kernel reads while this writes, so a row number is stored last."""

    def __init__(self, tables: Tables) -> None:
        self._table = tables.addresses
        self._slots: dict[Address, int] = {}

    def bind(self, address: Address, transport: int) -> None:
        """Datagrams from `address` belong to `transport`; raises AddressTableFull."""
        if address in self._slots:
            self._table["row"][self._slots[address]] = transport + 1
            return
        high, low, port = _key(address)
        start = int(address_hash(np.uint64(high), np.uint64(low), np.uint32(port)))
        for probe in range(PROBES):
            slot = (start + probe) & (ADDRESSES - 1)
            if self._table["row"][slot] <= 0:
                self._table["high"][slot], self._table["low"][slot] = high, low
                self._table["port"][slot] = port
                self._table["row"][slot] = transport + 1
                self._slots[address] = slot
                return
        raise AddressTableFull(address)

    def owner(self, address: Address) -> int:
        """Return the transport that an address belongs to, or -1."""
        slot = self._slots.get(address)
        return -1 if slot is None else int(self._table["row"][slot]) - 1

    def unbind(self, address: Address, transport: int) -> None:
        """Forget an address, unless it belongs to another transport by now."""
        slot = self._slots.get(address)
        if slot is None or self._table["row"][slot] != transport + 1:
            return
        del self._slots[address]
        self._table["row"][slot] = DELETED
        # Deleted slots before an empty one are empty as well: probes end early again.
        while self._table["row"][slot] == DELETED and self._table["row"][(slot + 1) & (ADDRESSES - 1)] == 0:
            self._table["row"][slot] = 0
            slot = (slot - 1) & (ADDRESSES - 1)


def _key(address: Address) -> tuple[int, int, int]:
    packed = ipaddress.ip_address(address[0].partition("%")[0]).packed
    if len(packed) == 4:
        return 0, int.from_bytes(packed), address[1]
    return int.from_bytes(packed[:8]), int.from_bytes(packed[8:]), address[1]

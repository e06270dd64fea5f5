"""Packets of several connections out of one socket: whole or one by one, in order, each to whom it is for."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator

import pytest
from aioquic.quic.stream import QuicStream

from media.moq.kernel import columns as c
from media.moq.kernel.sockets import BATCH
from media.moq.protocol.frames import Frame
from media.moq.quic.group_streams import Groups, GroupStream
from media.moq.quic.packets import AES, KernelKeys, keys_of
from media.moq.quic.table import ConnectionTable, Row, packed_address
from media.moq.relaying.origin import Group
from tests.moq.test_packets import CRYPTO

SO_NO_CHECK = 11  # linux/socket.h; Linux cuts nothing for a socket that leaves checksums out
SIZE = 1_200


class Crowd:
    """So many connections of a table, to which one group is sent, and their sockets."""

    def __init__(self, count: int) -> None:
        self.table = ConnectionTable(count)
        self.groups, self.group = Groups(self.table), Group(0, 0)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.setblocking(False)
        self.receivers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        keys = keys_of(CRYPTO[AES[0]], None)
        assert keys is not None
        self.keys = KernelKeys(keys, seals=True)
        self.rows = [self._row(receiver) for receiver in self.receivers]
        self.numbers = [row.number for row in self.rows]

    def _row(self, receiver: socket.socket) -> Row:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        row = self.table.take_row()
        address = packed_address(receiver.getsockname())
        row.octets[c.ADDRESS : c.ADDRESS + len(address)] = address
        ints = row.ints
        ints[c.ADDRESS_BYTES], ints[c.PEER_ID_BYTES], ints[c.PACKET_BYTES], ints[c.IS_PLAIN] = len(address), 8, SIZE, 1
        ints[c.SEALER], ints[c.SEALING_MASK], ints[c.WINDOW] = self.keys.aead, self.keys.mask, 1 << 20
        ints[c.MAX_DATA] = 1 << 40
        state = QuicStream(stream_id=3, max_stream_data_remote=1 << 40)
        state.sender.write(b"head")
        encoded = self.groups.take(self.group, stamps=True)
        row.order([GroupStream(self.groups, row, state, encoded, (0,)).place])
        return row

    def grow(self, size: int) -> None:
        self.group.frames.append(Frame(0, bytes(size)))
        self.groups.take(self.group, stamps=True)

    def send(self, *, offloads: bool) -> bool:
        return self.table.send(self.numbers, self.sender.fileno(), 1.0, offloads=offloads)

    def sizes(self, count: int) -> list[list[int]]:
        return [[len(one.recv(2_000)) for _ in range(count)] for one in self.receivers]

    def close(self) -> None:
        for one in (self.sender, *self.receivers):
            one.close()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd(BATCH + 6)
    yield crowd
    crowd.close()


@pytest.mark.parametrize("offloads", [True, False])
def test_all_get_all_in_order(offloads: bool, crowd: Crowd) -> None:
    crowd.grow(4_000)
    assert crowd.send(offloads=offloads) == offloads
    sizes = crowd.sizes(4)
    assert sizes[0][:3] == [SIZE] * 3
    assert 400 < sizes[0][3] < 600
    assert all(one == sizes[0] for one in sizes)
    counts = crowd.table.counters()
    assert counts["datagrams_sent"] == 4 * len(crowd.rows)
    assert counts["send_calls"] == (2 if offloads else math.ceil(4 * len(crowd.rows) / BATCH))
    assert not counts["offload_refused"]


def test_where_the_system_does_not_cut_they_go_one_by_one_and_no_more_is_asked(crowd: Crowd) -> None:
    crowd.sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    crowd.grow(4_000)
    assert not crowd.send(offloads=True)
    sizes = crowd.sizes(4)
    assert all(one == sizes[0] for one in sizes)
    counts = crowd.table.counters()
    assert counts["offload_refused"] == len(crowd.rows)
    assert counts["datagrams_sent"] == 4 * len(crowd.rows)


def test_what_can_not_be_sent_is_counted_and_stops_nobody_else(crowd: Crowd) -> None:
    crowd.rows[1].octets[c.ADDRESS] = 99  # no such family
    crowd.grow(4_000)
    crowd.send(offloads=True)
    crowd.receivers.pop(1).close()
    assert len(crowd.sizes(4)) == len(crowd.rows) - 1
    assert crowd.table.counters()["datagrams_sent"] == 4 * (len(crowd.rows) - 1)
    failed = crowd.table.counters()
    assert failed["send_errors"] + failed["offload_refused"] * 4 >= 4


def test_a_window_full_leaves_in_bursts_that_the_system_takes(crowd: Crowd) -> None:
    crowd.grow(300_000)
    bursts = crowd.table.bursts(crowd.numbers[:1], 1.0)
    assert sum(len(burst.datagrams()) for _, burst in bursts) > 250
    assert all(len(burst.data) <= 65_000 for _, burst in bursts)
    assert {len(packet) for _, burst in bursts for packet in burst.datagrams()[:-1]} == {SIZE}

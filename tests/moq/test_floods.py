"""Floods on a real socket: handshakes that are never finished, and what they cost who does nothing wrong."""

from __future__ import annotations

import itertools
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.lowlevel
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted

from media.moq.quic import endpoint as endpoint_module
from media.moq.quic import newcomers
from media.moq.quic.connection import Connection
from media.moq.quic.endpoint import UNVALIDATED_FREE
from media.moq.quic.group_streams import Groups
from media.moq.quic.newcomers import Newcomers
from media.moq.quic.table import ConnectionTable
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.origin import Origin
from media.moq.relaying.relay import Relay
from tests.moq.links import CLIENT, SERVER, configuration
from tests.moq.nodes import Everything, open_node
from tests.moq.test_endpoint import Client, connected, settled

HALF_OPEN = 10_000
BURST = 50  # sent before the server has its turn: its socket has room for them
MOST_BYTES = 64 << 20  # of memory, for a flood of any length


def first_datagram() -> bytes:
    """Return what an honest client says first."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["moq-lite-04"])
    client = QuicConnection(configuration=configuration)
    client.connect(("127.0.0.1", 1), now=0.0)
    return client.datagrams_to_send(now=0.0)[0][0]


@contextmanager
def sockets(count: int) -> Iterator[list[socket.socket]]:
    opened = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for one in opened:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        one.bind(("127.0.0.1", 0))
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def take_all(one: socket.socket) -> int:
    """Return how many bytes have come."""
    taken = 0
    try:
        while True:
            taken += len(one.recv(65_536))
    except BlockingIOError:
        return taken


async def test_ten_thousand_handshakes_that_nobody_finishes_keep_nobody_out() -> None:
    hello = first_datagram()
    async with open_node() as node:
        with sockets(8) as flooding:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            sent = received = 0
            for number in range(HALF_OPEN):
                one = flooding[number % len(flooding)]
                forged = hello[:6] + os.urandom(8) + hello[14:]
                sent += one.sendto(forged, ("127.0.0.1", node.port))
                if number % BURST == 0:
                    received += take_all(one)
                    await trio.lowlevel.checkpoint()
                if number == HALF_OPEN // 2:
                    async with connected(node.port) as honest:
                        assert any(isinstance(event, HandshakeCompleted) for event in honest.events)
            await settled(node.endpoint, "quic_retries", HALF_OPEN - UNVALIDATED_FREE + 1)
            received += sum(map(take_all, flooding))
            counters = node.endpoint.counters()
            assert counters["quic_connections"] <= UNVALIDATED_FREE + 1
            assert len(node.endpoint._by_id) <= 4 * (UNVALIDATED_FREE + 1)
            assert received <= 3 * sent
            assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


async def test_who_proves_an_address_and_then_waits_takes_up_no_other_networks_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint_module, "UNVALIDATED_FREE", 0)
    monkeypatch.setattr(newcomers, "MAX_OF_A_NETWORK", 5)
    async with open_node() as node:
        crowd = [Client(node.port, "h3") for _ in range(8)]
        for client in crowd:
            await client.connect("127.0.0.2")
            await client.answer_retry()
        await settled(node.endpoint, "quic_newcomers_refused", 3)
        assert node.endpoint.counters()["quic_connections"] == 5
        async with connected(node.port):
            assert node.endpoint.counters()["quic_connections"] == 6
        for client in crowd:
            client.socket.close()


async def test_where_all_wait_the_one_that_has_waited_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "MAX_NEWCOMERS", 3)
    async with open_node() as node:
        for _ in range(5):
            client = Client(node.port, "h3")
            await client.connect()
            client.socket.close()
        await settled(node.endpoint, "quic_newcomers_overtaken", 2)
        assert sorted(node.endpoint._entries) == [2, 3, 4]
        async with connected(node.port):
            await settled(node.endpoint, "quic_connections", 3)


async def test_who_has_a_session_is_no_newcomer_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "MAX_OF_A_NETWORK", 1)
    async with open_node() as node:
        for number in range(3):
            client = Client(node.port)
            await client.connect()
            await client.until(HandshakeCompleted)
            with trio.fail_after(5):
                while len(node.relay.peers) <= number:  # noqa: ASYNC110 - what is waited for comes over the socket
                    await trio.sleep(0.01)
            client.socket.close()
        assert not len(node.endpoint._newcomers)
        assert "quic_newcomers_refused" not in node.endpoint.counters()


def test_a_newcomer_leaves_once() -> None:
    waiting = Newcomers()
    waiting.enter(1, "a")
    waiting.enter(2, "a")
    for _ in range(2):
        waiting.leave(1)
    assert len(waiting) == 1
    assert waiting._of == {"a": 1}
    waiting.leave(2)
    assert not waiting._of
    for number in range(newcomers.MAX_NEWCOMERS):
        assert waiting.enter(number, str(number)) is None
    assert waiting.enter(-1, "late") == 0
    assert len(waiting) == newcomers.MAX_NEWCOMERS


def test_before_an_address_is_proven_no_more_than_three_times_as_much_is_sent_to_it() -> None:
    # RFC 9000 section 8.1: whoever gives another's address must not have it flooded.
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=["moq-lite-04"]))
    client.connect(SERVER, now=0.0)
    table = ConnectionTable(1)
    quic = TabledConnection(
        table.take_row(),
        configuration(),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    connection = Connection(
        quic, Groups(table), Relay(Origin(), lambda: 0), lambda request: Everything(), 9, "", lambda: None
    )
    (first,) = [datagram for datagram, _ in client.datagrams_to_send(now=0.0)]
    connection.receive_untrusted(first, CLIENT, 0.0)
    said = []
    for tick in range(200):
        said += [len(datagram) for datagram, _ in connection.datagrams(tick / 10)]
        timer = quic.get_timer()
        if timer is not None and timer <= tick / 10:
            connection.handle_quic_timer(tick / 10)
    assert len(said) > 1
    assert sum(said) <= 3 * len(first)


async def test_junk_of_every_form_is_no_connection() -> None:
    async with open_node() as node:
        with sockets(1) as (one,):
            versions = (b"\x00\x00\x00\x01", b"\x6b\x33\x43\xcf")
            forms = [bytes((first,)) + version for first in (0xC0, 0xD0, 0xE0, 0xF0) for version in versions]
            ids = (b"\x00\x00", b"\x07" + bytes(7) + b"\x00", b"\x14" + bytes(20) + b"\x14" + bytes(20), b"\xff")
            tokens = (b"\x00", b"\x10" + bytes(16), b"\x40\xff" + os.urandom(255), b"\xff" * 8)
            for parts in itertools.product(forms, ids, tokens):
                datagram = b"".join(parts) + b"\x44\x00" + os.urandom(1_400)
                one.sendto(datagram[:1_400], ("127.0.0.1", node.port))
            async with connected(node.port):
                counters = node.endpoint.counters()
        assert "quic_datagram_faults" not in counters
        assert "quic_connection_faults" not in counters
        assert b"" not in node.endpoint._by_id

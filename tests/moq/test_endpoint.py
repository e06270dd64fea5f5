"""The endpoint on a real socket: handshake floods, junk, faults, slow clients and the offload of sending."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent
from cryptography.hazmat.primitives import hashes

from media.io.udp import UdpSocket
from media.moq.quic import endpoint as endpoint_module
from media.moq.quic.configuration import EndpointSettings
from media.moq.quic.connection import Connection
from media.moq.quic.endpoint import UNVALIDATED_FREE, Endpoint, rest_after
from media.moq.quic.group_streams import Groups
from media.moq.quic.table import ConnectionTable
from media.moq.quic.tabled import TabledConnection
from media.moq.relaying.origin import Origin
from media.moq.relaying.relay import Relay
from tests.moq.links import configuration
from tests.moq.nodes import Everything, open_node


class Client:
    """A client of aioquic's on a socket of its own."""

    def __init__(self, port: int, alpn: str = "moq-lite-04", versions: list[int] | None = None) -> None:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn], max_datagram_frame_size=65_536)
        configuration.verify_mode = 0  # type: ignore[assignment]
        self.quic = QuicConnection(configuration=configuration)
        self.socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.address = ("127.0.0.1", port)
        self.events: list[QuicEvent] = []

    async def connect(self, host: str = "127.0.0.1") -> None:
        await self.socket.bind((host, 0))
        self.quic.connect(self.address, now=trio.current_time())
        await self.send()

    async def send(self) -> None:
        for datagram, address in self.quic.datagrams_to_send(now=trio.current_time()):
            await self.socket.sendto(datagram, address)

    async def answer_retry(self) -> None:
        """Prove the address, and do no more."""
        datagram, address = await self.socket.recvfrom(65_536)
        self.quic.receive_datagram(datagram, address, now=trio.current_time())
        await self.send()

    async def until(self, kind: type[QuicEvent]) -> None:
        """Talk until such an event happens."""
        with trio.fail_after(10):
            while not any(isinstance(event, kind) for event in self.events):
                timer = self.quic.get_timer()
                with trio.move_on_at(trio.current_time() + 1 if timer is None else timer):
                    datagram, address = await self.socket.recvfrom(65_536)
                    self.quic.receive_datagram(datagram, address, now=trio.current_time())
                self.quic.handle_timer(now=trio.current_time())
                while (event := self.quic.next_event()) is not None:
                    self.events.append(event)
                await self.send()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    client = Client(port)
    await client.connect()
    await client.until(HandshakeCompleted)
    try:
        yield client
    finally:
        client.socket.close()


async def settled(endpoint: Endpoint, name: str, count: int) -> None:
    with trio.fail_after(10):
        while endpoint.counters().get(name, 0) != count:  # noqa: ASYNC110 - a counter has no event
            await trio.sleep(0.01)


async def test_a_flood_of_handshakes_has_new_clients_prove_their_address_and_they_still_get_in() -> None:
    async with open_node() as node:
        for _ in range(UNVALIDATED_FREE):
            client = Client(node.port)
            await client.connect()
            client.socket.close()
        await settled(node.endpoint, "quic_connections", UNVALIDATED_FREE)
        flood = [Client(node.port) for _ in range(50)]
        for client in flood:
            await client.connect()
            client.socket.close()
        await settled(node.endpoint, "quic_retries", 50)
        assert node.endpoint.counters()["quic_connections"] == UNVALIDATED_FREE
        async with connected(node.port):
            assert node.endpoint.counters()["quic_retries"] == 51


async def test_a_client_that_begins_no_session_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "ESTABLISH_S", 0.2)
    async with open_node() as node:
        client = Client(node.port, "h3")
        await client.connect()
        await client.until(HandshakeCompleted)
        await settled(node.endpoint, "quic_connections_too_slow", 1)
        assert node.endpoint.counters()["quic_connections"] == 0
        assert not node.endpoint._by_id
        client.socket.close()


async def test_junk_is_counted_and_nothing_else() -> None:
    async with open_node() as node:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as junk:
            for datagram in (b"", b"\x00" * 40, b"\x40" + bytes(30), b"\xc0" + bytes(5), b"\xff" * 1_300):
                junk.sendto(datagram, ("127.0.0.1", node.port))
        async with connected(node.port):
            counters = node.endpoint.counters()
        assert counters["quic_not_quic"] + counters["quic_unknown_connection"] >= 3
        assert counters["quic_connections"] == 1


async def test_an_unknown_version_is_answered_with_the_known_ones() -> None:
    async with open_node() as node:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            head = b"\xc0\xfa\xce\xb0\x0c\x08" + b"d" * 8 + b"\x08" + b"s" * 8
            client.sendto(head + bytes(1_200), ("127.0.0.1", node.port))
            answer = await trio.to_thread.run_sync(client.recv, 2_000)
        assert answer[1:5] == bytes(4)
        assert b"\x00\x00\x00\x01" in answer[5:]
        assert node.endpoint.counters()["quic_connections"] == 0


async def test_no_more_connections_are_taken_than_the_limit() -> None:
    relay = Relay(Origin(), lambda: 0)
    settings = EndpointSettings("127.0.0.1", 0, max_connections=2)
    endpoint = Endpoint(settings, relay, lambda request: Everything())
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: endpoint.run(task_status=task_status))
        for _ in range(3):
            client = Client(endpoint.address[1])
            await client.connect()
            client.socket.close()
        await settled(endpoint, "quic_connections_refused", 1)
        assert endpoint.counters()["quic_connections"] == 2
        nursery.cancel_scope.cancel()


async def test_a_fault_in_one_connection_ends_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_node() as node, connected(node.port) as good, connected(node.port) as bad:
        await settled(node.endpoint, "quic_connections", 2)
        (faulty, *_) = [entry for entry in node.endpoint._entries.values() if entry.number == 1]

        def fail(event: QuicEvent) -> None:
            raise RuntimeError("a bug of ours")

        monkeypatch.setattr(faulty.connection, "handle", fail)
        bad.quic.send_stream_data(0, b"\x01")
        await bad.send()
        await settled(node.endpoint, "quic_connection_faults", 1)
        assert len(node.relay.peers) == 1
        good.quic.send_stream_data(0, b"\x01\x01\x00")
        await good.send()
        await settled(node.endpoint, "quic_connections", 1)


async def test_everyone_is_told_when_the_endpoint_ends() -> None:
    async with trio.open_nursery() as nursery:
        relay = Relay(Origin(), lambda: 0)
        endpoint = Endpoint(EndpointSettings("127.0.0.1", 0), relay, lambda request: Everything())
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128 - the endpoint says it started
            with scope:
                await endpoint.run(task_status=task_status)

        await nursery.start(run)
        async with connected(endpoint.address[1]) as client:
            with trio.fail_after(5):
                while not relay.peers:  # noqa: ASYNC110 - what is waited for comes over the socket
                    await trio.sleep(0.01)
            scope.cancel()
            await client.until(ConnectionTerminated)


async def test_an_old_session_that_is_ended_is_told_why_whatever_timer_runs_out_first() -> None:
    async with open_node() as node, connected(node.port) as client:
        with trio.fail_after(5):
            while not node.relay.peers:  # noqa: ASYNC110 - who joins has no event
                await trio.sleep(0.005)
        (entry,) = node.endpoint._entries.values()
        entry.give_up_ns = 0  # it was to be established by then, long ago
        (peer,) = node.relay.peers
        peer.eject(403, "put out")
        node.endpoint._time_out(entry, time.monotonic_ns())
        await client.until(ConnectionTerminated)
        (ended,) = [event for event in client.events if isinstance(event, ConnectionTerminated)]
        assert (ended.error_code, ended.reason_phrase) == (403, "put out")


async def test_a_new_certificate_is_shown_to_new_connections_and_the_others_go_on() -> None:
    async with open_node() as node, connected(node.port) as before:
        assert shown(before) == node.endpoint.certificate_sha256
        node.endpoint._certificates.newest = node.endpoint._certificates._renew()
        async with connected(node.port) as after:
            assert shown(after) == node.endpoint.certificate_sha256 != shown(before)
            await settled(node.endpoint, "quic_connections", 2)


def shown(client: Client) -> str:
    certificate = client.quic.tls._peer_certificate
    assert certificate is not None
    return certificate.fingerprint(hashes.SHA256()).hex()


def test_the_longer_a_flush_takes_the_more_is_gathered_for_the_next_within_bounds() -> None:
    assert [rest_after(took_ms * 1_000_000) for took_ms in (0, 2, 5, 8, 500)] == [0.002, 0.002, 0.005, 0.008, 0.008]


def test_one_buffer_carries_what_goes_one_way_in_one_size() -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(5)
    here = receiver.getsockname()
    sender = UdpSocket("127.0.0.1", 0)
    sizes = [1_200] * 5 + [300] + [1_200] * 2 + [1_400] + [10]
    sender.send([(bytes([number]) * size, here) for number, size in enumerate(sizes)])
    assert [receiver.recv(2_000) for _ in sizes] == [bytes([number]) * size for number, size in enumerate(sizes)]
    assert sender.counts == {"datagrams_sent": 10, "send_calls": 3}
    sender.send_burst(b"a" * 200 + b"b" * 200 + b"c" * 50, 200, here)
    sender.send_burst(b"d" * 40, 40, here)
    sender.send_burst(b"e" * 70, 1, here)  # more than the kernel cuts at once
    parts = [b"a" * 200, b"b" * 200, b"c" * 50, b"d" * 40, *[b"e"] * 70]
    assert [receiver.recv(2_000) for _ in parts] == parts
    assert sender.counts == {"datagrams_sent": 84, "send_calls": 7}
    sender.close()
    receiver.close()


def test_where_the_kernel_refuses_to_cut_buffers_each_datagram_goes_singly(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(5)
    sender = UdpSocket("127.0.0.1", 0)

    class Refusing:
        def __init__(self, real: socket.socket) -> None:
            self.real = real
            self.sendto, self.close = real.sendto, real.close

        def sendmsg(self, *arguments: object) -> int:
            raise OSError(errno.EIO, "no offload")

    monkeypatch.setattr(sender, "_socket", Refusing(sender._socket))
    for _ in range(2):
        sender.send([(b"x" * 100, receiver.getsockname())] * 3)
    assert [receiver.recv(2_000) for _ in range(6)] == [b"x" * 100] * 6
    assert sender.counts == {"offload_refused": 1, "datagrams_sent": 6, "send_calls": 6}
    for offloads in (True, False):
        sender._offloads = offloads
        sender.send_burst(b"a" * 100 + b"b" * 100 + b"c" * 30, 100, receiver.getsockname())
        assert [receiver.recv(2_000) for _ in range(3)] == [b"a" * 100, b"b" * 100, b"c" * 30]
    sender.close()
    receiver.close()


def test_a_connection_of_no_known_protocol_has_no_session() -> None:
    table = ConnectionTable(1)
    quic = TabledConnection(table.take_row(), configuration(), original_destination_connection_id=bytes(8))
    connection = Connection(
        quic, Groups(table), Relay(Origin(), lambda: 0), lambda request: Everything(), 9, "", lambda: None
    )
    assert not connection.has_session
    connection.write()
    connection.after_flush()

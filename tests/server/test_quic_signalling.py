"""Signalling over WebTransport: the same sessions as over /ws, for clients that speak only QUIC, and their abuse."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from media.moq.carriers import byte_session
from media.moq.carriers.byte_session import ByteService, ByteServices
from media.moq.protocol.varint import prefixed, varint
from media.moq.quic.configuration import EndpointSettings
from media.moq.quic.endpoint import Endpoint
from media.moq.relaying.origin import Origin
from media.moq.relaying.relay import Relay
from server.connections import signalling_socket
from server.connections.inbox import BURST
from server.connections.signalling_socket import WEBTRANSPORT_PROTOCOLS, SignallingSocket
from signalling.refusals import Refused
from signalling.wire.messages import MAX_MESSAGE_BYTES
from tests.moq.nodes import Everything
from tests.server.nodes import open_site, open_socket
from tests.server.quic_sockets import JSON, MSGPACK, QuicSocket, open_quic_socket
from tests.server.test_signalling_socket import FakeAuth, FakeRooms

HELLO = {"type": "hello", "token": "good"}


class World:
    """An endpoint whose sessions at /ws lead to rooms that only remember."""

    def __init__(self) -> None:
        self.rooms, self.auth = FakeRooms(), FakeAuth()
        self.sockets = SignallingSocket(self.rooms, self.auth, 10.0)
        service = ByteService(WEBTRANSPORT_PROTOCOLS, self.sockets.serve_session)
        relay = Relay(Origin(), time.monotonic_ns)
        settings = EndpointSettings("127.0.0.1", 0)
        services = ByteServices({"ws": service})
        self.endpoint = Endpoint(settings, relay, lambda request: Everything(), services=services)

    @asynccontextmanager
    async def connection(self, path: str = "/ws", protocols: tuple[str, ...] = (JSON,)) -> AsyncIterator[QuicSocket]:
        async with open_quic_socket(self.endpoint.address[1], path, protocols) as socket:
            yield socket

    @asynccontextmanager
    async def greeted(self) -> AsyncIterator[QuicSocket]:
        async with self.connection() as socket:
            await socket.say(HELLO)
            await self.until(lambda: len(self.rooms.outboxes) == 1)
            yield socket

    async def until(self, is_so: object) -> None:
        assert callable(is_so)
        with trio.fail_after(5):
            while not is_so():  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.005)

    def closed(self, reason: str) -> int:
        return self.sockets.counters()[f"sockets_closed_{reason}"]


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    made = World()
    await nursery.start(made.sockets.run)
    await nursery.start(lambda task_status: made.endpoint.run(task_status=task_status))
    return made


# -- a whole node ------------------------------------------------------------------------------------------------------


async def test_two_people_talk_one_over_websocket_and_one_over_quic(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann, ben = await site.person("ann"), await site.person("ben")
        stream = await site.stream(ann)
        async with open_socket(site, ann) as over_tcp, open_quic_socket(site.running.quic[1]) as over_quic:
            assert (over_quic.status, over_quic.protocol) == (b"200", f'"{JSON}"'.encode())
            await over_quic.say({"type": "hello", "token": ben.token})
            welcome = await over_quic.hear()
            assert (welcome["type"], welcome["resumed"]) == ("welcome", False)
            assert (await over_tcp.ask("join", stream=stream))["type"] == "ok"
            assert (await over_quic.ask("join", stream=stream))["type"] == "ok"
            await over_tcp.ask("chat", stream=stream, text="over TCP", client_txn="1")
            assert (await over_quic.wait_for("chat.message"))["text"] == "over TCP"
            await over_quic.ask("chat", stream=stream, text="over QUIC", client_txn="2")
            assert (await over_tcp.wait_for("chat.message"))["text"] == "over TCP"
            assert (await over_tcp.wait_for("chat.message"))["text"] == "over QUIC"


async def test_a_session_that_was_lost_over_quic_is_resumed_over_quic(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann = await site.person("ann")
        stream = await site.stream(ann)
        url = f"/ws?jwt={ann.token}"
        async with open_quic_socket(site.running.quic[1], url) as before:
            await before.say({"type": "hello"})
            welcome = await before.hear()
            await before.ask("join", stream=stream)
            await ann.ask("POST", f"/streams/{stream}/chat", {"text": "one", "client_txn": "1"})
            last = (await before.wait_for("chat.message"))["event"]
        await ann.ask("POST", f"/streams/{stream}/chat", {"text": "two", "client_txn": "2"})
        async with open_quic_socket(site.running.quic[1], url) as after:
            await after.say({"type": "hello", "resume": {"session": welcome["session"], "after": last}})
            resumed = await after.hear()
            assert (resumed["type"], resumed["resumed"], resumed["event"]) == ("welcome", True, last)
            assert (await after.hear())["text"] == "two"


async def test_a_suspended_account_loses_its_session_with_the_code_of_a_websocket(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann = await site.person("ann")
        async with open_quic_socket(site.running.quic[1]) as socket:
            await socket.say({"type": "hello", "token": ann.token})
            await socket.hear()
            admin = {"Authorization": f"Bearer {await site.running.auth.admin_token()}"}
            body = {"suspended": True}
            answer = await site.http.put("/api/v1/admin/accounts/ann", json=body, headers=admin)
            assert answer.is_success, answer.text
            assert await socket.ending() == (4403, "suspended")


# -- framing and the hello ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offered", "chosen"), [((), JSON), ((MSGPACK,), MSGPACK), (("moql", JSON), JSON)])
async def test_the_subprotocol_is_one_that_was_offered_or_json(
    world: World, offered: tuple[str, ...], chosen: str
) -> None:
    async with world.connection(protocols=offered) as socket:
        assert (socket.status, socket.protocol) == (b"200", f'"{chosen}"'.encode())
        await socket.say(HELLO)
        await world.until(lambda: world.rooms.outboxes)


async def test_an_unknown_subprotocol_and_an_unknown_path_begin_nothing(world: World) -> None:
    async with world.connection(protocols=("mesi.v9",)) as socket:
        assert socket.status == b"400"
    async with world.connection(path="/elsewhere") as socket:
        assert socket.status == b"400"  # for MoQ, which has no such version
    assert world.sockets.counters()["sockets_opened"] == 0


async def test_messages_arrive_whole_however_they_are_cut(world: World) -> None:
    async with world.connection() as socket:
        sent = b"".join(prefixed(msgspec.json.encode({"n": n})) for n in range(3))
        for byte in prefixed(msgspec.json.encode(HELLO)) + sent:
            await socket.write(bytes([byte]))
        await world.until(lambda: len(world.rooms.heard) == 3)
        assert [msgspec.json.decode(heard)["n"] for heard in world.rooms.heard] == [0, 1, 2]


async def test_much_more_than_a_window_is_sent_in_order(world: World) -> None:
    async with world.greeted() as socket:
        for number in range(200):
            world.rooms.outboxes[0].offer(msgspec.json.encode({"n": number, "ballast": "x" * 1_000}))
        assert [(await socket.hear())["n"] for _ in range(200)] == list(range(200))


async def test_a_token_that_is_none_is_answered_and_the_answer_arrives_before_the_end(world: World) -> None:
    async with world.connection(path="/ws?jwt=bad") as socket:
        await socket.say({"type": "hello"})
        assert (await socket.hear())["code"] == "no_session"
        assert await socket.ending() == (4401, "no_session")
    assert world.closed("no_session") == 1


async def test_a_refusal_of_the_rooms_ends_it(world: World) -> None:
    world.rooms.refusing = Refused("too_many_sessions")
    async with world.connection() as socket:
        await socket.say(HELLO)
        assert (await socket.hear())["code"] == "too_many_sessions"
        assert await socket.ending() == (4429, "rate_limited")


async def test_a_token_that_expires_ends_the_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signalling_socket, "ROUND_S", 0.05)
    world.auth.expires_at = time.time_ns() // 1_000_000 + 200
    async with world.greeted() as socket:
        # The first round began before this one was shortened, so another connection's clock is not waited for.
        await trio.sleep(0.25)
        for connection in world.sockets._connections:
            world.sockets._look_at(connection, trio.current_time(), time.time_ns() // 1_000_000)
        assert await socket.ending() == (4401, "no_session")


async def test_who_says_nothing_is_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signalling_socket, "HELLO_S", 0.1)
    async with world.connection() as socket:
        assert await socket.ending() == (4408, "hello_timeout")


async def test_a_silent_client_shows_by_quic_that_it_is_there(world: World) -> None:
    async with world.greeted():
        (connection,) = world.sockets._connections
        before = connection.inbox.heard_at
        world.sockets._look_at(connection, before + signalling_socket.QUIC_PING_AFTER_S + 1, 0)
        await world.until(lambda: connection.inbox.heard_at > before)
        assert connection.outbox.closed is None


async def test_a_client_that_ends_its_half_or_its_session_leaves_nothing(world: World) -> None:
    async with world.greeted() as socket:
        await socket.write(b"", is_last=True)
        assert await socket.ending() == (1000, "closed_by_client")
    assert world.closed("closed_by_client") == 1
    world.rooms.outboxes.clear()
    async with world.greeted():
        pass
    await world.until(lambda: world.closed("lost") == 1)
    assert world.sockets.counters()["sockets"] == 0


async def test_the_end_of_the_node_says_so(nursery: trio.Nursery) -> None:
    world, scope = World(), trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128 - the endpoint says it started
        with scope:
            await world.endpoint.run(task_status=task_status)

    await nursery.start(world.sockets.run)
    await nursery.start(run)
    async with world.greeted() as socket:
        scope.cancel()
        assert await socket.ending() == (1001, "going_away")


# -- abuse -------------------------------------------------------------------------------------------------------------


async def test_a_length_beyond_the_limit_ends_the_session_before_it_is_waited_for(world: World) -> None:
    async with world.greeted() as socket:
        await socket.write(varint(MAX_MESSAGE_BYTES + 1))
        assert await socket.ending() == (4400, "malformed")


async def test_half_a_message_and_then_the_end_is_an_error_of_the_protocol(world: World) -> None:
    async with world.greeted() as socket:
        await socket.write(varint(10) + b"half", is_last=True)
        assert await socket.ending() == (1000, "protocol_error")
    assert world.closed("protocol_error") == 1


async def test_a_flood_of_messages_ends_the_session(world: World) -> None:
    async with world.greeted() as socket:
        await socket.write(prefixed(b"{}") * int(BURST + 50))
        assert await socket.ending() == (4429, "rate_limited")
    assert len(world.rooms.heard) <= BURST


async def test_what_nobody_reads_is_kept_in_bounds(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_nothing(data: bytes) -> None:
        await trio.sleep(0.3)

    monkeypatch.setattr(world.rooms, "receive_untrusted", read_nothing)
    async with world.greeted() as socket:
        await socket.write(prefixed(b"x" * 10_000) * 40)
        assert await socket.ending() == (4429, "rate_limited")


async def test_a_reset_ends_the_session_and_its_rooms_know(world: World) -> None:
    async with world.greeted() as socket:
        socket.quic.reset_stream(socket.stream, 7)
        await socket.flush()
        await world.until(lambda: world.closed("lost") == 1)
        assert world.rooms.detached == world.rooms.outboxes


async def test_who_reads_no_more_ends_the_session(world: World) -> None:
    async with world.greeted() as socket:
        socket.quic.stop_stream(socket.stream, 7)
        await socket.flush()
        await world.until(lambda: world.closed("lost") == 1)


async def test_other_streams_are_turned_away_and_too_many_end_the_session(world: World) -> None:
    async with world.greeted() as socket:
        for _ in range(3):
            socket.quic.send_stream_data(socket.open(), b"also me")
        socket.quic.send_datagram_frame(b"\x00unasked")
        await socket.write(prefixed(b"{}"))
        await world.until(lambda: world.rooms.heard)
        for _ in range(byte_session.MAX_STREAMS_ASTRAY):
            socket.quic.send_stream_data(socket.open(), b"also me")
            await socket.flush()
        assert await socket.ending() == (4429, "rate_limited")


async def test_a_slow_reader_is_let_go_and_costs_a_bounded_amount(world: World) -> None:
    async with world.greeted() as socket:
        # It acknowledges, but never widens its window again.
        socket.quic._local_max_data.value = 0
        socket.quic._streams[socket.stream].max_stream_data_local = 0
        for _ in range(40):
            for _ in range(100):
                world.rooms.outboxes[0].offer(b"x" * 5_000)
            await trio.sleep(0.01)
        await world.until(lambda: world.closed("slow_consumer") == 1)


async def test_a_fault_in_a_session_ends_that_session_alone(world: World) -> None:
    async with world.greeted() as socket:
        world.rooms.failing = RuntimeError("a bug of ours")
        await socket.say({"type": "ping", "id": 1})
        assert await socket.ending() == (1011, "internal_error")
    world.rooms.failing = None
    world.rooms.outboxes.clear()
    async with world.greeted():
        pass
    assert world.endpoint.counters()["quic_session_faults"] == 1

"""The edge's bounds: how many connections, from where, over what; and counters that reach Prometheus."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from pathlib import Path

import httpx2
import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from server.config import Config
from server.connections.edge import Edge
from tests.server.nodes import open_site, open_socket, small_config
from tests.server.test_hostile_http import HEALTH, OUTCOME
from tests.server.test_node import wait_until
from tests.server.thread_node import connect, read_until, read_until_end, rises, samples, thread_node

ADDRESSES = [f"127.0.0.{last}" for last in range(2, 6)]


def limited(folder: Path, **limits: float) -> Config:
    config = small_config(folder)
    return msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, **limits))


def open_from(host: str, node_address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(node_address, timeout=5, source_address=(host, 0))


def is_ended(connection: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        connection.setblocking(False)
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True
        finally:
            connection.setblocking(True)
    return False


async def test_one_address_gets_its_share_and_all_together_the_cap(tmp_path: Path) -> None:
    config = limited(tmp_path, connections=1000, connections_per_address=400, head_timeout_s=60)
    with thread_node(config) as node, contextlib.ExitStack() as opened:
        async with connect(node) as kept:
            await kept.send_all(HEALTH)
            await read_until(kept, lambda got: got.endswith(b"ok\n"))
            before = await samples(node)
            idle = [opened.enter_context(open_from(ADDRESSES[0], node.address)) for _ in range(450)]
            await rises(node, before, OUTCOME, "over_limit", 50)
            await wait_until(lambda: sum(map(is_ended, idle)) == 50)
            for host in ADDRESSES[1:]:
                idle += [opened.enter_context(open_from(host, node.address)) for _ in range(400)]
            await wait_until(lambda: sum(map(is_ended, idle)) >= 50 + 601)
            # Full: a newcomer is let go at once, and who was there before is served.
            with open_from(ADDRESSES[3], node.address) as newcomer:
                await wait_until(lambda: is_ended(newcomer))
            await kept.send_all(HEALTH)
            await read_until(kept, lambda got: got.endswith(b"ok\n"))
            opened.close()
            await trio.sleep(0.2)
            async with connect(node) as fresh:
                await fresh.send_all(HEALTH)
                await read_until(fresh, lambda got: got.endswith(b"ok\n"))
            after = await samples(node)
            assert after["mesi_connections", ""] < 10
            assert after[OUTCOME, "over_limit"] - before[OUTCOME, "over_limit"] >= 650


async def test_a_storm_of_connections_leaves_nothing_behind(tmp_path: Path) -> None:
    with thread_node(limited(tmp_path, connections=300)) as node:
        async with connect(node) as kept:
            before = await samples(node)
            for number in range(1500):
                storming = open_from(ADDRESSES[number % 4], node.address)
                if number % 3:
                    storming.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if number % 2:
                    storming.sendall(HEALTH[: number % len(HEALTH)])
                storming.close()
                if number % 50 == 0:
                    await trio.lowlevel.checkpoint()
            await kept.send_all(HEALTH)
            await read_until(kept, lambda got: got.endswith(b"ok\n"))
            with trio.fail_after(10):
                while (await samples(node))["mesi_connections", ""] > 3:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            after = await samples(node)
            counted = sum(after[OUTCOME, word] - before[OUTCOME, word] for word in ("accepted", "over_limit", "broken"))
            assert counted >= 1500
            assert after["mesi_faults_total", "connections"] == 0


async def test_plain_http_from_elsewhere_is_sent_to_tls_on_the_same_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.connections.edge.is_loopback", lambda address: False)
    with thread_node(small_config(tmp_path)) as node:
        port = node.address[1]
        for sent, answer in [
            (
                f"GET /watch?stream=s HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n",
                f"https://localhost:{port}/watch?stream=s",
            ),
            (f"POST /whip/s HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n", f"https://[::1]:{port}/whip/s"),
        ]:
            async with connect(node) as stream:
                await stream.send_all(sent.encode())
                head = (await read_until_end(stream)).decode()
                assert head.startswith("HTTP/1.1 308 ")
                assert f"\r\nLocation: {answer}\r\n" in head
        for host in ("", "a b", "evil.example\r\nX-Injected: 1"[:12] + "\0", "https://a"):
            async with connect(node) as stream:
                await stream.send_all(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert (await read_until_end(stream)).startswith(b"HTTP/1.1 400 ")
        async with connect(node, tls=True) as stream:
            await stream.send_all(HEALTH)
            await read_until(stream, lambda got: got.endswith(b"ok\n"))


async def test_every_counter_has_a_name_and_a_meaning_at_prometheus(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann = await site.person("ann")
        await site.stream(ann)
        async with open_socket(site, ann) as signalling:
            await signalling.hear()
            text = (await site.http.get("/metrics")).text
        families = list(text_string_to_metric_families(text))
        undescribed = [family.name for family in families if family.type == "unknown" or not family.documentation]
        assert not undescribed, "describe them in server/metrics.py"
        assert all(re.fullmatch(r"(mesi|process)_[a-z0-9_]+", family.name) for family in families)
        values = {(sample.name, *sample.labels.values()): sample.value for f in families for sample in f.samples}
        assert values["mesi_rooms",] == values["mesi_sockets",] == 1
        assert values["mesi_store_writes_total",] >= 2
        assert values["mesi_connections",] >= 2
        assert values["mesi_http_responses_total", "2xx"] >= 1
        assert values["mesi_media_control_datagrams_dropped_total", "wrong_password"] == 0
        assert values["mesi_media_worker_transports", "0"] == 0
        assert ("mesi_media_worker_cpu_ms_total", "0") in values


async def test_rates_that_were_exceeded_are_counted(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config = msgspec.structs.replace(
        config, rates=msgspec.structs.replace(config.rates, account_per_s=0.1, account_burst=2)
    )
    with thread_node(config) as node:
        _, token = await node.account("hasty")
        async with httpx2.AsyncClient(base_url=node.running.url, headers={"Authorization": f"Bearer {token}"}) as http:
            answers = [await http.get("/api/v1/me") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert (await samples(node))["mesi_requests_rate_limited_total", "account"] == 3


async def test_what_breaks_as_the_node_ends_is_a_fault_of_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = trio.Event()

    async def break_when_cancelled(edge: Edge, tcp: trio.SocketStream, peer: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                reached.set()
                await trio.sleep_forever()
            finally:
                raise LookupError

    monkeypatch.setattr(Edge, "_serve", break_when_cancelled)
    async with open_site(tmp_path) as site:
        host, _, port = site.running.url.removeprefix("http://").rpartition(":")
        client = await trio.open_tcp_stream(host, int(port))
        await reached.wait()
    await client.aclose()

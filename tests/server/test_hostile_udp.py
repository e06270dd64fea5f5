"""Hostile UDP: strangers get not one byte back, everything is counted, and a running stream loses no packet."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import trio

from media.webrtc import stun
from server.client import Endpoint, Publisher, publish, watch
from tests.server.nodes import Site, open_site, small_config
from tests.server.sockets import open_raw
from tests.server.test_node import Viewer, send_frames, wait_until
from tests.server.thread_node import thread_node

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "stun_dtls"
STRANGERS = 20
CHANCE = random.Random(20_260_101)


@dataclass
class Running:
    """A stream with one publisher and one viewer."""

    site: Site
    publisher: Publisher
    viewer: Endpoint
    got: Viewer

    @property
    def username(self) -> str:
        """The publisher's, as an eavesdropper reads it off any of its checks."""
        peer = self.publisher.endpoint._peer
        return f"{peer.remote.ufrag}:{peer.local.ufrag}"

    async def counters(self) -> dict[str, float]:
        text = (await self.site.http.get("/metrics")).text
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


@asynccontextmanager
async def running_stream(folder: Path) -> AsyncIterator[Running]:
    async with open_site(folder) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        stream = await site.stream(ann)
        got = Viewer()
        async with (
            publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher,
            watch(site.http, site.url("whep", stream), bob.token, ("video",), got.take) as viewer,
        ):
            await send_frames(publisher, 10)
            yield Running(site, publisher, viewer, got)


def recorded(first: int) -> list[bytes]:
    """Return datagrams that real clients sent, of one kind by their first byte."""
    lines = [line for file in sorted(FIXTURES.glob("*.jsonl")) for line in file.read_text().splitlines()]
    hexes = [value for line in lines for value in json.loads(line).values() if isinstance(value, str)]
    datagrams = [bytes.fromhex(value) for value in hexes if len(value) > 40 and set(value) <= set("0123456789abcdef")]
    return [datagram for datagram in datagrams if datagram[0] == first]


def check(username: str, password: str, **options: object) -> bytes:
    return stun.binding_request(
        os.urandom(12),
        username,
        password,
        priority=1,
        tie_breaker=1,
        nominates=True,
        **options,  # type: ignore[arg-type]
    )


def wrong_usernames(username: str) -> Iterator[bytes]:
    for wrong in (
        "",
        ":",
        "x:y",
        f"{username}x",
        f":{username}",
        "ä:ö",
        "a" * 500,
        username[1:],
        username.split(":")[0],
    ):
        yield check(wrong, "p" * 22)


def wrong_passwords(username: str) -> Iterator[bytes]:
    for password in ("", "p" * 22, username):
        yield check(username, password)


def broken_checks(username: str) -> Iterator[bytes]:
    whole = check(username, "p" * 22)
    yield from (whole[:size] for size in range(0, len(whole), 5))
    yield from (whole[:2] + struct.pack("!H", length) + whole[4:] for length in (0, 1, 4, 500, 65_535))
    yield from (whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in range(4, len(whole), 7))
    yield struct.pack("!HHI", stun.Method.SUCCESS, 0, stun.MAGIC_COOKIE) + os.urandom(12)
    yield struct.pack("!HHI", stun.Method.REQUEST, 0, stun.MAGIC_COOKIE) + os.urandom(12)


def hellos(username: str) -> Iterator[bytes]:
    found = recorded(22)
    assert found, "the recordings hold no DTLS hello"
    for hello in found:
        yield hello
        yield hello[: len(hello) // 2]
        yield hello[:11] + b"\xff\xff" + hello[13:]


def media(username: str) -> Iterator[bytes]:
    for size in (1, 2, 11, 12, 13, 40, 1200, 1500, 2047, 9000):
        for second in (0, 96, 111, 127, 200, 201, 205, 206, 255):
            yield bytes([CHANCE.choice((0x80, 0x90, 0xBF, 0xB1)), second])[:size] + CHANCE.randbytes(max(0, size - 2))


def noise(username: str) -> Iterator[bytes]:
    yield b""
    yield from (CHANCE.randbytes(CHANCE.randrange(1, 1400)) for _ in range(200))
    yield from (bytes([first]) * 50 for first in range(256))


DROPPED, CONTROL = "mesi_media_datagrams_dropped_total", "mesi_media_control_datagrams_dropped_total"
ATTACKS = {
    "checks with a wrong username": (wrong_usernames, CONTROL, "unknown_ufrag"),
    "checks with a wrong password": (wrong_passwords, CONTROL, "wrong_password"),
    "checks that are broken": (broken_checks, CONTROL, "unknown_source"),
    "a flood of hellos": (hellos, CONTROL, "unknown_source"),
    "RTP and RTCP": (media, DROPPED, "unknown_address"),
    "noise": (noise, DROPPED, "unknown_first_byte"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_strangers_get_no_byte_back_and_nobody_loses_a_packet(tmp_path: Path, attack: str) -> None:
    datagrams, name, reason = ATTACKS[attack]
    async with running_stream(tmp_path) as stream, trio.open_nursery() as nursery:
        before = await stream.counters()
        nursery.start_soon(send_frames, stream.publisher, 60, 10)
        strangers = []
        for _ in range(STRANGERS):
            stranger = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
            strangers.append(stranger)
            await stranger.bind(("127.0.0.1", 0))
            for datagram in datagrams(stream.username):
                await stranger.sendto(datagram, stream.publisher.endpoint.server)
            await trio.sleep(0.01)
        await wait_until(lambda: len(stream.got.frames) >= 70)
        after = await stream.counters()
        for stranger in strangers:
            with pytest.raises(BlockingIOError):
                os.read(stranger.fileno(), 1)
            stranger.close()
        assert stream.got.frames == list(range(70))
        assert after[f'{name}{{reason="{reason}"}}'] > before[f'{name}{{reason="{reason}"}}']
        assert after['mesi_faults_total{of="transport"}'] == 0
        assert (await stream.site.http.get("/healthz")).text == "ok\n"


@pytest.mark.parametrize("victim", ["publisher", "viewer"])
async def test_forged_sources_end_no_stream(tmp_path: Path, victim: str) -> None:
    # From the address of somebody who is connected: the attacker lacks the keys alone.
    async with running_stream(tmp_path) as stream:
        end = stream.publisher.endpoint if victim == "publisher" else stream.viewer
        before = await stream.counters()
        for make in (wrong_usernames, wrong_passwords, broken_checks, hellos, media, noise):
            for datagram in make(stream.username):
                if datagram:
                    os.write(end.socket.fileno(), datagram)
            await trio.sleep(0.05)
            first = len(stream.got.frames)
            await send_frames(stream.publisher, 10, first)
            await wait_until(lambda expected=first + 10: len(stream.got.frames) >= expected)
        assert stream.got.frames == list(range(70))
        after = await stream.counters()
        rejected = "unprotect_auth" if victim == "publisher" else "from_viewer"
        assert after[f'{DROPPED}{{reason="{rejected}"}}'] > before[f'{DROPPED}{{reason="{rejected}"}}']
        assert after['mesi_faults_total{of="transport"}'] == 0
        assert (stream.publisher.endpoint.ended, stream.viewer.ended) == (None, None)


async def test_when_the_node_ends_every_client_is_told(tmp_path: Path) -> None:
    with thread_node(small_config(tmp_path)) as node:
        _, token = await node.account("ann")
        async with httpx2.AsyncClient(base_url=node.running.url, headers={"Authorization": f"Bearer {token}"}) as http:
            view = (await http.post("/api/v1/streams", json={"title": "Soon over"})).json()
            stream = view["card"]["id"]
            async with (
                publish(http, f"{node.running.url}/whip/{stream}", token, ("video",)) as publisher,
                watch(http, f"{node.running.url}/whep/{stream}", token, ("video",)) as viewer,
                open_raw(node, token) as plain,
                open_raw(node, token, tls=True) as secret,
            ):
                node.stop()
                assert (await plain.closed(), await secret.closed()) == (1001, 1001)
                await wait_until(lambda: publisher.endpoint.ended and viewer.ended)
                assert (publisher.endpoint.ended, viewer.ended) == ("closed_by_peer", "closed_by_peer")

"""Hostile and broken HTTP clients: each gets a clear answer or the end of its connection, and nobody else notices."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.server.sockets import open_raw, upgrade
from tests.server.thread_node import ThreadNode, connect, read_until, read_until_end, reset, rises, samples

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
OUTCOME, STATUS, CLOSED = "mesi_connections_by_outcome_total", "mesi_http_responses_total", "mesi_sockets_closed_total"


def get(*lines: str, path: str = "/healthz") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin1")


def is_whole(answer: bytes) -> bool:
    return answer.endswith(b"ok\n")


async def ask_health(stream: trio.abc.Stream) -> None:
    await stream.send_all(HEALTH)
    assert (await read_until(stream, is_whole)).startswith(b"HTTP/1.1 200 ")


@asynccontextmanager
async def bystanders(node: ThreadNode) -> AsyncIterator[None]:
    """Two connections from before, which must be as they were afterwards; and a new one must be answered."""
    _, token = await node.account("bystander")
    async with connect(node) as kept, open_raw(node, token) as socket:
        await ask_health(kept)
        await socket.ping()
        yield
        await ask_health(kept)
        await socket.ping()
    async with connect(node) as fresh:
        await ask_health(fresh)


# name: (what is sent, how the answer begins ("" for none at all), counter, its label)
EXCHANGES: dict[str, tuple[bytes, str, str, str]] = {
    "bytes that are nothing": (b"\x00\xff\xfe" * 30 + b"\r\n\r\n", "400", OUTCOME, "not_http"),
    "a word and an empty line": (b"HELO\r\n\r\n", "400", OUTCOME, "not_http"),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), "400", OUTCOME, "not_http"),
    "HTTP/0.9": (b"GET /\r\n\r\n", "400", OUTCOME, "not_http"),
    "HTTP/3.0 in words": (b"GET / HTTP/3.0\r\n\r\n", "400", OUTCOME, "not_http"),
    "CONNECT": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", "400", OUTCOME, "not_http"),
    "an absolute address": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400", OUTCOME, "not_http"),
    "a target that is not ASCII": ("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(), "400", OUTCOME, "not_http"),
    "a head of 20 kB": (get("X: " + "x" * 20_000), "431", OUTCOME, "head_too_large"),
    "a target of 20 kB": (get(path="/" + "x" * 20_000), "431", OUTCOME, "head_too_large"),
    "two thousand headers": (get(*["a: b"] * 3000), "431", OUTCOME, "head_too_large"),
    "a head without end": (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000, "431", OUTCOME, "head_too_large"),
    "no Host": (b"GET /healthz HTTP/1.1\r\n\r\n", "400", STATUS, "4xx"),
    "two Hosts": (get("Host: other"), "400", STATUS, "4xx"),
    "a header without a name": (get(": x"), "400", STATUS, "4xx"),
    "a header without a colon": (get("nonsense"), "400", STATUS, "4xx"),
    "a space before the colon": (get("Content-Length : 5"), "400", STATUS, "4xx"),
    "a zero byte in a header": (get("X: a\0b"), "400", STATUS, "4xx"),
    "a line end inside a header": (get("X: a\rb: c"), "400", STATUS, "4xx"),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\n", "400", STATUS, "4xx"),
    "a length that is no number": (POST + b"Content-Length: 0x10\r\n\r\n", "400", STATUS, "4xx"),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}", "400", STATUS, "4xx"),
    "a length and chunks": (
        POST
        + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "400",
        STATUS,
        "4xx",
    ),
    "an unknown coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "501", STATUS, "5xx"),
    "a coding hidden by a tab": (POST + b"Transfer-Encoding:\tchunked\r\n\r\nzz\r\n", "400", STATUS, "4xx"),
    "a chunk of no size": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400", STATUS, "4xx"),
    "a chunk size without end": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 30_000, "4", STATUS, "4xx"),
    "a declared body of 3 MB": (POST + b"Content-Length: 3000000\r\n\r\n" + b"x" * 200_000, "413", STATUS, "4xx"),
    "a chunked body of 300 kB": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 20 + b"0\r\n\r\n",
        "413",
        STATUS,
        "4xx",
    ),
    "a body that is no JSON": (POST + b"Connection: close\r\nContent-Length: 3\r\n\r\n{\xff}", "400", STATUS, "4xx"),
    "a body nested a thousand times": (
        POST + b"Connection: close\r\nContent-Length: 9000\r\n\r\n" + b"[" * 9000,
        "422",
        STATUS,
        "4xx",
    ),
    "an upgrade elsewhere": (upgrade("/elsewhere") + b"\r\n\0\r\n", "404", STATUS, "4xx"),
    "an upgrade elsewhere with a byte behind it": (upgrade("/elsewhere") + b"x\r\n\r\n", "404", STATUS, "4xx"),
    "an upgrade elsewhere with a frame behind it": (
        upgrade("/api/v1/me") + b"\x81\x80abcd\r\n\r\n",
        "401",
        STATUS,
        "4xx",
    ),
    "an upgrade elsewhere with a body": (upgrade("/x", "a", "Content-Length: 3") + b"abc\0", "404", STATUS, "4xx"),
    "an upgrade elsewhere in bytes that are no text": (upgrade("/x", "\xff\xfe") + b"\0", "404", STATUS, "4xx"),
    "an upgrade to bytes that are no text": (
        get("Connection: upgrade, close", "Upgrade: \xff\xfe"),
        "200",
        STATUS,
        "2xx",
    ),
    "an upgrade to HTTP/2": (
        get("Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        "200",
        STATUS,
        "2xx",
    ),
    "a bare end of line": (b"GET /healthz HTTP/1.1\nHost: a\n\n", "408", OUTCOME, "too_slow"),
    "half a head": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n", "408", OUTCOME, "too_slow"),
    "nothing at all": (b"", "", OUTCOME, "too_slow"),
    "half a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00", "", OUTCOME, "too_slow"),
    "TLS garbage": (b"\x16\x03\x01\x00\x05hello" + b"\xff" * 100, "", OUTCOME, "tls_failed"),
    "a TLS record of another kind": (b"\x17\x03\x03\x00\x05hello\r\n\r\n", "400", OUTCOME, "not_http"),
    "SSL 2": (b"\x80\x2e\x01\x00\x02" + b"\0" * 41 + b"\r\n\r\n", "400", OUTCOME, "not_http"),
    "half a body": (POST + b"Content-Length: 100\r\n\r\n{", "408", STATUS, "4xx"),
    "half a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{", "408", STATUS, "4xx"),
    "an expectation and no body": (POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", "100", STATUS, "4xx"),
}


@pytest.mark.parametrize("name", EXCHANGES)
async def test_a_hostile_request_ends_nothing_but_itself(node: ThreadNode, name: str) -> None:
    sent, status, counter, label = EXCHANGES[name]
    before = await samples(node)
    async with bystanders(node), connect(node) as stream:
        with trio.move_on_after(3):
            await stream.send_all(sent)
        answer = await read_until_end(stream)
        assert answer.startswith(f"HTTP/1.1 {status}".encode()) if status else not answer
    await rises(node, before, counter, label)
    assert (await samples(node))["mesi_faults_total", "connections"] == before["mesi_faults_total", "connections"]


async def test_no_request_hides_behind_a_length_that_is_given_twice(node: ThreadNode) -> None:
    async with connect(node) as stream:
        await stream.send_all(EXCHANGES["a length and chunks"][0])
        assert (await read_until_end(stream)).count(b"HTTP/1.1 ") == 1


async def test_the_second_request_of_a_connection_cannot_turn_to_http_2(node: ThreadNode) -> None:
    async with bystanders(node), connect(node) as stream:
        await ask_health(stream)
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        answer = await read_until_end(stream)
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"\0\0" not in answer  # no frame of HTTP/2


async def test_the_second_request_of_a_connection_cannot_become_a_socket(node: ThreadNode) -> None:
    async with bystanders(node), connect(node) as stream:
        await ask_health(stream)
        await stream.send_all(upgrade() + b"\x81\x80abcd\r\n\r\n")
        assert (await read_until_end(stream)).startswith(b"HTTP/1.1 404 ")


async def test_an_answer_arrives_although_the_client_is_still_sending(node: ThreadNode) -> None:
    async with connect(node) as stream, trio.open_nursery() as nursery:
        await stream.send_all(POST + b"Content-Length: 200000\r\n\r\n")

        async def keep_sending() -> None:
            for _ in range(20):
                await stream.send_all(b"x" * 10_000)
                await trio.sleep(0.005)

        nursery.start_soon(keep_sending)
        answer = await read_until_end(stream)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"}")


async def test_a_client_that_has_shut_down_its_side_costs_nothing(node: ThreadNode) -> None:
    for part in (b"", HEALTH[:10], HEALTH, POST + b"Content-Length: 10\r\n\r\n{"):
        async with bystanders(node), connect(node) as stream:
            await stream.send_all(part)
            await stream.send_eof()  # type: ignore[attr-defined]
            await read_until_end(stream)


async def test_a_reset_at_any_step_ends_nothing_else(node: ThreadNode) -> None:
    _, token = await node.account("resetter")
    before = await samples(node)
    async with bystanders(node):
        for part in (b"", b"G", HEALTH[:20], HEALTH, POST + b"Content-Length: 10\r\n\r\n{", b"\x16\x03", upgrade()):
            async with connect(node) as stream:
                await stream.send_all(part)
                reset(stream)
        for tls in (False, True):
            async with open_raw(node, token, tls=tls) as socket:
                reset(socket.stream if not tls else socket.stream.transport_stream)  # type: ignore[attr-defined]
    await rises(node, before, OUTCOME, "broken")
    await rises(node, before, CLOSED, "lost", 2)


async def test_a_hundred_requests_at_once_are_answered_in_order(node: ThreadNode) -> None:
    async with bystanders(node), connect(node) as stream:
        await stream.send_all(HEALTH * 100)
        answer = await read_until(stream, lambda got: got.count(b"ok\n") == 100)
        assert answer.count(b"HTTP/1.1 200 ") == 100


async def test_who_asks_much_and_never_reads_is_let_go(node: ThreadNode) -> None:
    before = await samples(node)
    style = get(path="/style.css")
    async with bystanders(node), connect(node, receive_buffer=2048) as stream:
        with trio.move_on_after(8):
            while True:
                try:
                    await stream.send_all(style * 100)
                except trio.BrokenResourceError:
                    break
    await rises(node, before, OUTCOME, "not_reading")


async def test_tls_serves_what_plain_serves_and_bytes_that_are_no_tls_end_it(node: ThreadNode) -> None:
    before = await samples(node)
    async with bystanders(node):
        async with connect(node, tls=True) as stream:
            await ask_health(stream)
            assert isinstance(stream, trio.SSLStream)
            await stream.transport_stream.send_all(b"plain words\r\n\r\n" * 10)
            assert not await read_until_end(stream)
        async with connect(node, tls=True) as stream:
            await stream.send_all(b"no HTTP\r\n\r\n")
            assert (await read_until_end(stream)).startswith(b"HTTP/1.1 400 ")
    await rises(node, before, OUTCOME, "not_http")


async def test_a_client_that_wants_http_2_over_tls_gets_http_1(node: ThreadNode) -> None:
    trust = ssl.create_default_context(cafile=str(node.folder / "tls.crt"))
    for offered, chosen in ((["h2"], None), (["h2", "http/1.1"], "http/1.1")):
        trust.set_alpn_protocols(offered)
        async with connect(node) as tcp:
            stream = trio.SSLStream(tcp, trust, server_hostname="localhost", https_compatible=True)
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() == chosen
            await ask_health(stream)


async def test_old_tls_is_refused(node: ThreadNode) -> None:
    before = await samples(node)
    trust = ssl.create_default_context(cafile=str(node.folder / "tls.crt"))
    trust.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    async with bystanders(node), connect(node) as tcp:
        stream = trio.SSLStream(tcp, trust, server_hostname="localhost")
        with pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
    await rises(node, before, OUTCOME, "tls_failed")

"""Hostile and broken clients of the signalling socket: each is closed with a code that says why, alone."""

from __future__ import annotations

import httpx2
import msgspec
import pytest
import trio
from websockets.frames import Opcode

from tests.server.sockets import frame, open_raw, text, upgrade
from tests.server.test_hostile_http import CLOSED, bystanders
from tests.server.thread_node import ThreadNode, connect, read_until, read_until_end, rises, samples

HALF = frame(Opcode.TEXT, b"{", fin=False)
# name: (frames after the hello, close code, the counter's label)
FRAMES: dict[str, tuple[bytes, int, str]] = {
    "a reserved bit": (b"\xc1\x80abcd", 1002, "protocol_error"),
    "two reserved bits": (b"\xb1\x80abcd", 1002, "protocol_error"),
    "an unknown opcode": (b"\x83\x80abcd", 1002, "protocol_error"),
    "an unmasked frame": (frame(Opcode.TEXT, b"{}", mask=False), 1002, "protocol_error"),
    "a fragmented ping": (b"\x09\x80abcd", 1002, "protocol_error"),
    "a ping of 126 bytes": (b"\x89\xfe\x00\x7eabcd" + bytes(126), 1002, "protocol_error"),
    "a continuation of nothing": (frame(Opcode.CONT, b"x"), 1002, "protocol_error"),
    "a message within a message": (HALF + frame(Opcode.TEXT, b"{}"), 1002, "protocol_error"),
    "a message of 20 kB": (frame(Opcode.TEXT, b" " * 20_000), 1009, "protocol_error"),
    "a message of 2^62 bytes": (b"\x81\xff" + (2**62).to_bytes(8) + b"abcd", 1009, "protocol_error"),
    "a message of -1 bytes": (b"\x81\xff" + b"\xff" * 8 + b"abcd", 1009, "protocol_error"),
    "fragments of 20 kB": (HALF + frame(Opcode.CONT, b" " * 9000, fin=False) * 2, 1009, "protocol_error"),
    "text that is no UTF-8": (frame(Opcode.TEXT, b'"\xff"'), 1007, "protocol_error"),
    "fragments that are no UTF-8 together": (HALF + frame(Opcode.CONT, b"\xed\xa0\x80"), 1007, "protocol_error"),
    "a close frame of one byte": (frame(Opcode.CLOSE, b"x"), 1002, "protocol_error"),
    "a close frame with a code that is none": (frame(Opcode.CLOSE, (999).to_bytes(2)), 1002, "protocol_error"),
    "a close reason that is no UTF-8": (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007, "protocol_error"),
    "a flood of pings": (frame(Opcode.PING, b"x") * 1000, 4429, "rate_limited"),
    "a flood of pongs": (frame(Opcode.PONG) * 1000, 4429, "rate_limited"),
    "a flood of empty fragments": (HALF + frame(Opcode.CONT, b"", fin=False) * 1000, 4429, "rate_limited"),
    "a flood of requests": (text({"type": "watch_directory", "id": 1}) * 1000, 4429, "rate_limited"),
    "words that are no messages": (frame(Opcode.TEXT, b"hello") * 30, 4400, "malformed"),
    "bytes that are no messages": (frame(Opcode.BINARY, b"\xc1\xff") * 30, 4400, "malformed"),
    "a message nested a thousand times": (frame(Opcode.TEXT, b"[" * 9000) * 30, 4400, "malformed"),
    "an orderly close": (frame(Opcode.CLOSE, (1000).to_bytes(2)), 1000, "closed_by_client"),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", FRAMES)
async def test_a_hostile_frame_closes_its_connection_alone(node: ThreadNode, name: str, tls: bool) -> None:
    sent, code, reason = FRAMES[name]
    _, token = await node.account("mallory")
    before = await samples(node)
    async with bystanders(node), open_raw(node, token, tls=tls) as socket:
        await socket.send(sent)
        assert await socket.closed() == code
        assert not await read_until_end(socket.stream)
    await rises(node, before, CLOSED, reason)


@pytest.mark.parametrize(
    ("hello", "code", "reason"),
    [
        (frame(Opcode.TEXT, b"nothing"), 4400, "malformed"),
        (text({"type": "watch_directory", "id": 1}), 4400, "malformed"),
        (text({"type": "hello"}), 4400, "malformed"),
        (text({"type": "hello", "token": "none of ours"}), 4401, "no_session"),
        (text({"type": "hello", "token": "x" * 4000}), 4401, "no_session"),
        (text({"type": "hello", "token": "a.b.ä"}), 4401, "no_session"),
        (frame(Opcode.TEXT, b" " * 20_000), 1009, "protocol_error"),
    ],
    ids=["no_json", "no_hello", "no_token", "unknown_token", "long_token", "token_of_umlauts", "long_hello"],
)
async def test_who_does_not_say_hello_properly_is_told_why(
    node: ThreadNode, hello: bytes, code: int, reason: str
) -> None:
    before = await samples(node)
    async with bystanders(node), open_raw(node, None) as socket:
        await socket.send(hello)
        if code != 1009:
            assert (await socket.message())["code"] in ("malformed_message", "no_session")
        assert await socket.closed() == code
    await rises(node, before, CLOSED, reason)


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (upgrade(subprotocols=None), 400, b"Offer the subprotocol mesi.v1.msgpack or mesi.v1.json."),
        (upgrade(subprotocols="chat, mesi.v2.json"), 400, b"subprotocol"),
        (upgrade(subprotocols="\xff"), 400, b"Protocol"),
        (upgrade("/ws", "mesi.v1.json", "Sec-WebSocket-Version: 8"), 400, b"ersion"),
        (upgrade().replace(b"Version: 13", b"Version: 12"), 400, b"ersion"),
        (upgrade().replace(b"dGhl", b"!!!!"), 400, b"Key"),
        (upgrade().replace(b"Connection: Upgrade\r\n", b""), 426, b"Connection"),
        (upgrade().replace(b"Host: localhost\r\n", b"Host: localhost\r\nnonsense\r\n"), 400, b""),
        (upgrade("/ws", "mesi.v1.json", *["a: b"] * 500), 431, b""),
    ],
)
async def test_a_handshake_that_is_none_is_refused_in_words(
    node: ThreadNode, request_: bytes, status: int, words: bytes
) -> None:
    before = await samples(node)
    async with bystanders(node), connect(node) as stream:
        await stream.send_all(request_)
        answer = await read_until_end(stream)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert words in answer
    await rises(node, before, "mesi_sockets_refused_total")


async def test_compression_is_offered_and_not_taken(node: ThreadNode) -> None:
    request = upgrade("/ws", "mesi.v1.json", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    async with connect(node) as stream:
        await stream.send_all(request)
        answer = await read_until(stream, lambda got: b"\r\n\r\n" in got)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in answer.lower()


@pytest.mark.parametrize("first", ["Upgrade: websocket", "Host: localhost"])
async def test_the_order_of_headers_does_not_matter(node: ThreadNode, first: str) -> None:
    lines = upgrade().decode().split("\r\n")
    lines.remove(first)
    lines.insert(1, first)
    async with connect(node) as stream:
        await stream.send_all("\r\n".join(lines).encode())
        assert (await read_until(stream, lambda got: b"\r\n\r\n" in got)).startswith(b"HTTP/1.1 101 ")


async def test_a_hello_right_behind_the_handshake_is_heard(node: ThreadNode) -> None:
    _, token = await node.account("hasty")
    async with connect(node) as stream:
        await stream.send_all(upgrade() + text({"type": "hello", "token": token}) + text({"type": "join", "id": 1}))
        answer = await read_until(stream, lambda got: b"welcome" in got and b"malformed_message" in got)
        assert answer.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "behind",
    [b"x", b"\xff" * 200, frame(Opcode.CLOSE), frame(Opcode.PING) * 3, b"\x81"],
    ids=["no_frame", "reserved_bits", "close", "pings", "half_a_header"],
)
async def test_anything_behind_the_handshake_harms_nobody_else(node: ThreadNode, behind: bytes) -> None:
    faults = (await samples(node))["mesi_faults_total", "connections"]
    async with bystanders(node), connect(node) as stream:
        await stream.send_all(upgrade() + behind)
        assert (await read_until(stream, lambda got: b"\r\n\r\n" in got)).startswith(b"HTTP/1.1 101 ")
        await stream.send_all(frame(Opcode.CLOSE) * 50)
        await read_until_end(stream)
    assert (await samples(node))["mesi_faults_total", "connections"] == faults


async def test_who_asks_for_much_and_never_reads_is_closed_and_others_are_not(node: ThreadNode) -> None:
    _, token = await node.account("talker")
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=f"{node.running.url}/api/v1", headers=headers) as http:
        view = (await http.post("/streams", json={"title": "Much to say"})).json()
        stream = view["card"]["id"]
        for number in range(40):
            _, speaker = await node.account(f"speaker{number % 10}")
            said = {"text": "\U0001f600" * 500, "client_txn": str(number)}
            answer = await http.post(
                f"/streams/{stream}/chat", json=said, headers={"Authorization": f"Bearer {speaker}"}
            )
            assert answer.status_code == 200, answer.text
        before = await samples(node)
        async with (
            bystanders(node),
            open_raw(node, token, receive_buffer=2048) as deaf,
            open_raw(node, token) as hearing,
        ):
            for number in range(100):
                request = {"type": "join" if number % 2 else "leave", "stream": stream, "id": number}
                with trio.move_on_after(2):
                    try:
                        await deaf.send(text(request))
                    except trio.BrokenResourceError:
                        break
            await hearing.send(text({"type": "join", "stream": stream, "id": 1}))
            while (await hearing.message())["type"] != "stream.state":
                pass
            await rises(node, before, CLOSED, "slow_consumer")
        await http.post(f"/streams/{stream}/end")


async def test_both_subprotocols_speak_the_same(node: ThreadNode) -> None:
    _, token = await node.account("packer")
    async with connect(node) as stream:
        await stream.send_all(upgrade(subprotocols="mesi.v1.msgpack, mesi.v1.json"))
        head = await read_until(stream, lambda got: b"\r\n\r\n" in got)
        assert b"mesi.v1.msgpack" in head
        await stream.send_all(frame(Opcode.BINARY, msgspec.msgpack.encode({"type": "hello", "token": token})))
        answer = await read_until(stream, lambda got: b"welcome" in got)
        assert answer[0] == 0x82

"""What each reader of network bytes promises, as functions of any bytes that raise where a promise is broken.

The common promise: nothing but the documented exception leaves a reader, and what it returns is bounded by what it was
given.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import msgspec

from media.bridge.depacketising import begins_group, depacketise_untrusted
from media.webrtc import stun
from media.webrtc.dtls import Dtls, DtlsRole, DtlsState
from media.webrtc.dtls_records import FROM_CLIENT, FROM_SERVER, MTU, is_plausible, pack, records_untrusted
from media.webrtc.negotiation import OfferRejected, answer_publisher, answer_viewer
from media.webrtc.sdp import MAX_MEDIA, MalformedSdp, parse_sdp_untrusted
from media.webrtc.sdpfrag import answer_fragment, parse_sdpfrag_untrusted
from media.wire import twcc
from media.wire.codecs import Codec, starts_keyframe
from media.wire.framing import MAX_FRAME, FrameReader, framed
from media.wire.heights import heights_untrusted
from media.wire.layering import MAX_LAYERS, read_layering_untrusted
from media.wire.malformed import MalformedPacket
from media.wire.red import find_primary_untrusted
from media.wire.rtcp import Nack, Remb, Unknown, build_rtcp, parse_rtcp_untrusted
from media.wire.rtp import build_rtp, parse_rtp_untrusted
from server.names import InvalidName, fold
from server.names import tidy_untrusted as tidy_name_untrusted
from server.problems import Problem
from server.tokens import Tokens
from server.web import whip
from server.web.routes import Answer, Reception
from signalling.refusals import Refused
from signalling.rooms.chat import tidy_untrusted as tidy_chat_untrusted
from signalling.wire.messages import Encoding, MalformedMessage, decode_hello_untrusted, decode_request_untrusted
from tests.fuzz.data_targets import DATA_TARGETS
from tests.fuzz.file_targets import FILE_TARGETS
from tests.fuzz.layer_targets import LAYER_TARGETS
from tests.fuzz.moq_targets import MOQ_TARGETS
from tests.fuzz.socket_targets import SOCKET_TARGETS
from tests.fuzz.target import TEXT, Target
from tests.media.offers import LOCAL, PUBLISHERS, VIEWERS, offer_text
from tests.media.packets import RECORDINGS
from tests.media.packets import recorded as recorded_packets
from tests.media.transports import CERTIFICATE, CLIENT_CERTIFICATE, RECORDED_CLIENTS, SECOND_NS, fingerprint, recorded

TOKENS = Tokens(bytes(32))


# -- packets ---------------------------------------------------------------------------------------------------------


def read_rtp(data: bytes) -> None:
    with suppress(MalformedPacket):
        packet = parse_rtp_untrusted(data)
        assert 12 <= packet.payload_start <= packet.payload_end <= len(data)
        payload = data[packet.payload_start : packet.payload_end]
        again = parse_rtp_untrusted(build_rtp(packet.header, payload, padding=packet.padding))
        assert again.header == packet.header
        for codec in Codec:
            starts_keyframe(codec, payload)
            assert 0 <= read_layering_untrusted(codec, payload).spatial < MAX_LAYERS
            assert all(0 < height < 65_536 for height in heights_untrusted(codec, payload))


def read_rtcp(data: bytes) -> None:
    with suppress(MalformedPacket):
        packets = parse_rtcp_untrusted(data)
        assert 0 < len(packets) <= len(data) // 4
        for packet in packets:
            if isinstance(packet, Nack):
                assert len(packet.sequence_numbers) <= 17 * len(data) // 4
            if not isinstance(packet, Unknown) and not (isinstance(packet, Remb) and packet.bitrate_bps >> 80):
                assert parse_rtcp_untrusted(build_rtcp(packet)) is not None


def read_twcc(data: bytes) -> None:
    with suppress(MalformedPacket):
        report = twcc.decode_untrusted(1, 2, data)
        assert len(report.deltas) <= twcc.MAX_STATUSES_READ
        assert twcc.decode_untrusted(1, 2, twcc.encode(report)) == report


def read_red(data: bytes) -> None:
    with suppress(MalformedPacket):
        assert 0 < find_primary_untrusted(data) <= len(data)


def red_seeds() -> Iterator[bytes]:
    for blocks in range(4):
        yield b"\xef\x0f\x00\x05" * blocks + b"\x6f" + b"older" * blocks + b"newest"


def read_frame(data: bytes) -> None:
    """Take the bytes for a frame's payloads, each after its length, in every codec."""
    payloads, at = [], 0
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        payloads.append(data[at + 2 : end])
        at = end
    for codec in Codec:
        with suppress(MalformedPacket):
            begins_group(codec, payloads)
            unit = depacketise_untrusted(codec, payloads)
            assert 0 < len(unit) <= 6 * len(data)


def frame_seeds() -> Iterator[bytes]:
    for name in RECORDINGS:
        frames: dict[tuple[int, int], list[bytes]] = {}
        for datagram in recorded_packets(name, "rtp"):
            packet = parse_rtp_untrusted(datagram)
            frame = frames.setdefault((packet.header.ssrc, packet.header.timestamp), [])
            frame.append(datagram[packet.payload_start : packet.payload_end])
        for payloads in list(frames.values())[::10]:
            yield b"".join(len(payload).to_bytes(2, "big") + payload for payload in payloads)


def packet_seeds(kind: str) -> Iterator[bytes]:
    for name in RECORDINGS:
        yield from sorted(set(recorded_packets(name, kind)), key=len)[:: 40 if kind == "rtp" else 8]


def read_frames_of_a_stream(data: bytes) -> None:
    """Take the bytes as a stream that comes in two parts, cut where its first byte says."""
    cut, whole, parts = data[0] if data else 0, FrameReader(), FrameReader()
    with suppress(MalformedPacket):
        found = whole.feed_untrusted(data)
        assert all(0 < len(frame) <= MAX_FRAME for frame in found)
        assert [*parts.feed_untrusted(data[:cut]), *parts.feed_untrusted(data[cut:])] == found


def stream_seeds() -> Iterator[bytes]:
    for client in RECORDED_CLIENTS:
        yield framed([memoryview(datagram) for kind in ("stun", "dtls") for datagram in recorded(client, kind)[:4]])


def twcc_seeds() -> Iterator[bytes]:
    for seed in packet_seeds("rtcp"):
        at = 0
        while at + 4 <= len(seed):
            end = at + 4 + 4 * int.from_bytes(seed[at + 2 : at + 4], "big")
            if seed[at] & 31 == 15 and seed[at + 1] == 205:
                yield seed[at + 12 : end]
            at = end
    yield twcc.encode(twcc.Twcc(1, 2, 0, 0, 0, (4, None, 300, -5) * 9))


def read_stun(data: bytes) -> None:
    _read_stun(data)
    if len(data) >= stun.HEADER_SIZE:
        # Once more with a header and a fingerprint that fit, which chance would hardly find.
        body = data[stun.HEADER_SIZE :]
        body += bytes(-len(body) % 4)
        header = data[:2] + (len(body) + 8).to_bytes(2) + stun.MAGIC_COOKIE.to_bytes(4) + data[8:20]
        check = zlib.crc32(header + body) ^ stun.FINGERPRINT_XOR
        _read_stun(header + body + struct.pack("!HHI", stun.Attribute.FINGERPRINT, 4, check))


def _read_stun(data: bytes) -> None:
    names = stun.username_untrusted(data)
    message = stun.parse_untrusted(data)
    if message is None:
        assert names is None
        return
    assert len(message.attributes) <= stun.MAX_ATTRIBUTES
    assert message.nominates in (True, False)
    assert len(message.unknown_required) <= stun.MAX_ATTRIBUTES
    assert message.mapped_address is None or len(message.mapped_address) == 2
    assert not message.is_authentic("a password that nobody has")


def stun_seeds() -> Iterator[bytes]:
    for client in RECORDED_CLIENTS:
        yield from recorded(client, "stun")
    yield stun.success_response(bytes(12), ("2001:db8::1", 9), "p" * 24)
    yield stun.unknown_attribute_response(bytes(12), (1, 2), "p" * 24)


def read_records(data: bytes) -> None:
    records = list(records_untrusted(data))
    assert sum(len(record.raw) for record in records) <= len(data)
    assert b"".join(pack(records)) == b"".join(record.raw for record in records)
    for record in records:
        for expected in (FROM_CLIENT, FROM_SERVER):
            if is_plausible(record, expected):
                assert not record.is_hello or record.hello_random is None or len(record.hello_random) == 32


def dtls_seeds() -> Iterator[bytes]:
    for client in RECORDED_CLIENTS:
        yield from recorded(client, "dtls")


def read_handshake(data: bytes) -> None:
    """Give an association several datagrams, each with its size in front; both roles in turn."""
    for role in DtlsRole:
        dtls = Dtls(CERTIFICATE, role, [fingerprint(CLIENT_CERTIFICATE)])
        now_ns, at, sent = SECOND_NS, 0, dtls.start(SECOND_NS)
        received = 1
        while at + 2 <= len(data) and received <= 16:
            size = struct.unpack_from("!H", data, at)[0]
            sent += dtls.receive_untrusted(data[at + 2 : at + 2 + size], now_ns)
            at, received, now_ns = at + 2 + size, received + 1, now_ns + SECOND_NS // 10
        sent += dtls.handle_timeout(now_ns + SECOND_NS)
        assert dtls.state is not DtlsState.SECURED
        assert dtls.keys is None
        assert all(len(datagram) <= MTU for datagram in sent)
        assert len(sent) <= 8 * (received + 1)


def handshake_seeds() -> Iterator[bytes]:
    for client in RECORDED_CLIENTS:
        datagrams = recorded(client, "dtls")
        yield b"".join(struct.pack("!H", len(datagram)) + datagram for datagram in datagrams)
        yield struct.pack("!H", len(datagrams[0])) + datagrams[0]


# -- descriptions ----------------------------------------------------------------------------------------------------


def read_sdp(data: bytes) -> None:
    with suppress(MalformedSdp, UnicodeDecodeError):
        offer = parse_sdp_untrusted(data.decode())
        assert len(offer.media) <= MAX_MEDIA
        with suppress(OfferRejected):
            answer = answer_publisher(offer, LOCAL, random_bits=lambda bits: 1)
            assert len(answer.tracks) <= 2
            assert len(parse_sdp_untrusted(answer.sdp).media) == len(offer.media)
            codecs = [track.codec for track in answer.tracks]
            with suppress(OfferRejected):
                parse_sdp_untrusted(answer_viewer(offer, LOCAL, codecs, stream="s").sdp)
        with suppress(OfferRejected):
            told = answer_viewer(offer, LOCAL, RECORDED_CODECS, stream="s")
            assert len(parse_sdp_untrusted(told.sdp).media) == len(offer.media)


def sdp_seeds() -> Iterator[bytes]:
    for name in (*PUBLISHERS, *VIEWERS):
        yield offer_text(name).encode()


RECORDED_CODECS = [
    track.codec
    for name in PUBLISHERS
    for track in answer_publisher(parse_sdp_untrusted(offer_text(name)), LOCAL).tracks
]


def read_sdpfrag(data: bytes) -> None:
    with suppress(MalformedSdp, UnicodeDecodeError):
        fragment = parse_sdpfrag_untrusted(data.decode())
        parse_sdpfrag_untrusted(answer_fragment(LOCAL.ice, LOCAL.candidates, fragment))


def sdpfrag_seeds() -> Iterator[bytes]:
    ice = "a=ice-ufrag:abcd\r\na=ice-pwd:passwordOf24IceCharacters\r\n"
    candidate = "a=candidate:1 1 udp 2130706431 192.0.2.2 56888 typ host\r\na=end-of-candidates\r\n"
    yield (ice + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n" + candidate).encode()
    yield ("a=group:BUNDLE 0 1\r\nm=video 9 RTP/AVP 0\r\na=mid:1\r\n" + ice + candidate).encode()


# -- messages, headers, names ----------------------------------------------------------------------------------------


def reader_of_messages(encoding: Encoding) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        for decode in (decode_hello_untrusted, decode_request_untrusted):
            with suppress(MalformedMessage):
                decode(data, encoding)

    return read


def message_seeds(encoding: Encoding) -> Iterator[bytes]:
    write = msgspec.json.encode if encoding is Encoding.JSON else msgspec.msgpack.encode
    yield write({"type": "hello", "token": "t", "resume": {"session": "s", "after": 5}})
    yield write({"type": "stream.join", "id": 1, "stream": "s"})
    yield write({"type": "chat.send", "id": 2, "stream": "s", "text": "\u00e4\U0001f600"})
    yield write({"type": "mode.switch", "id": 2**40, "stream": "s", "mode": "one_to_one", "duration_s": 300.5})
    yield b"[" * 5000
    yield b"\x91" * 5000


def read_token(data: bytes) -> None:
    with suppress(Refused):
        claims = TOKENS.read_untrusted(data.decode("utf-8", "surrogateescape"))
        assert claims.actor.account == "a1"


def read_authorization(data: bytes) -> None:
    auth = SimpleNamespace(read=lambda token, suspended_too: TOKENS.read_untrusted(token))
    reception = Reception(auth, SETTINGS)  # type: ignore[arg-type]
    asked, route = (
        SimpleNamespace(headers={"Authorization": data.decode("latin-1")}),
        SimpleNamespace(suspended_too=False),
    )
    with suppress(Problem):
        reception._identify(asked, route)  # type: ignore[arg-type]


SETTINGS: Any = SimpleNamespace(
    rates=SimpleNamespace(
        address_per_s=1,
        address_burst=1,
        account_per_s=1,
        account_burst=1,
        password_per_s=1,
        password_burst=1,
        guess_per_s=1,
        guess_burst=1,
    ),
    limits=None,
)


def token_seeds() -> Iterator[bytes]:
    yield TOKENS.issue("a1", "ann", 10**9, "user").encode()  # type: ignore[arg-type]
    for header in ({"alg": "none"}, {"alg": []}, {"alg": "HS256", "crit": ["b64"], "b64": False}, {"alg": "HS256"}, []):
        yield b".".join(_url_safe(json.dumps(part).encode()) for part in (header, {"sub": "x"})) + b".AAAA"
    yield _url_safe(b"[" * 3000) + b".e30.AAAA"
    yield _url_safe(b'{"alg":' + b"[" * 2000) + b".e30.AAAA"
    yield _url_safe(b"\xff\xfe") + b".e30.AAAA"


def _url_safe(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def read_if_match(data: bytes) -> None:
    asked = SimpleNamespace(
        headers={"If-Match": data.decode("latin-1")}, path={"session": "s"}, actor=None, body="a=ice-ufrag:x"
    )
    matched: list[str] = []

    async def restart_ice(session: str, actor: object, if_match: str, body: str) -> None:
        matched.append(if_match)

    with suppress(Problem):
        _finish(whip._patch(SimpleNamespace(restart_ice=restart_ice), asked))  # type: ignore[arg-type]
        assert matched == ["*"] or (matched[0][0] == matched[0][-1] == '"' and matched[0].count('"') == 2)


def _finish(coroutine: Coroutine[Any, Any, Answer]) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


def read_names(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")  # what can't be decoded becomes halves of surrogate pairs
    with suppress(InvalidName):
        name = tidy_name_untrusted(text)
        assert 0 < len(name) <= 64
        assert tidy_name_untrusted(name) == name
        fold(name).encode()
    with suppress(Refused):
        assert 0 < len(tidy_chat_untrusted(text).encode()) <= 4 * len(data)


TARGETS = {
    "rtp": Target(read_rtp, lambda: packet_seeds("rtp")),
    "rtcp": Target(read_rtcp, lambda: packet_seeds("rtcp")),
    "twcc": Target(read_twcc, twcc_seeds),
    "red": Target(read_red, red_seeds),
    "framing": Target(read_frames_of_a_stream, stream_seeds, TEXT),
    "frames": Target(read_frame, frame_seeds, TEXT),
    "stun": Target(read_stun, stun_seeds),
    "dtls-records": Target(read_records, dtls_seeds),
    "dtls-handshake": Target(read_handshake, handshake_seeds, TEXT),
    "sdp": Target(read_sdp, sdp_seeds, TEXT),
    "sdpfrag": Target(read_sdpfrag, sdpfrag_seeds, TEXT),
    "messages-json": Target(reader_of_messages(Encoding.JSON), lambda: message_seeds(Encoding.JSON), 20_000),
    "messages-msgpack": Target(reader_of_messages(Encoding.MSGPACK), lambda: message_seeds(Encoding.MSGPACK), 20_000),
    "token": Target(read_token, token_seeds, 5_000),
    "authorization": Target(
        read_authorization, lambda: (b"Bearer " + seed for seed in (*token_seeds(), b"", b"a b")), 5_000
    ),
    "if-match": Target(read_if_match, lambda: (b"*", b'"abc"', b'W/"a", "b"', b'"a","b"', b'"a', b'""'), 1_000),
    "names": Target(
        read_names, lambda: (b"ann", "\u00c4nn \U0001f600".encode(), b"\xed\xa0\x80", "a\u200bb".encode()), 500
    ),
    **DATA_TARGETS,
    **FILE_TARGETS,
    **LAYER_TARGETS,
    **MOQ_TARGETS,
    **SOCKET_TARGETS,
}

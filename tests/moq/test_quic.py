"""QUIC and WebTransport against a client of aioquic's: what aioquic gets wrong or leaves to us, and abuse."""

from __future__ import annotations

import datetime

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StopSendingReceived, StreamReset
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from media.moq.carriers.capsules import CapsuleReader, SessionClosed
from media.moq.carriers.carrier import Code
from media.moq.carriers.quic_carrier import ENABLED_DRAFT_15, MAX_SESSIONS_DRAFT_13, from_http_code, to_http_code
from media.moq.protocol.frames import Frame
from media.moq.protocol.messages import AnnounceOk, AnnounceRequest, Setup, Subscribe, TrackRequest, write_message
from media.moq.protocol.requests import Refusal, split_target_untrusted
from media.moq.protocol.varint import prefixed, varint
from media.moq.protocol.versions import Version
from media.moq.quic.certificate import QuicCertificate
from media.moq.relaying.origin import Broadcast, Track, track_info
from tests.moq.links import Link, wt_uni
from tests.moq.nodes import Everything

V5 = Version.LITE_05
SUBSCRIBE = varint(2) + write_message(V5, Subscribe(1, "room/bob", "video"))


def publish(link: Link) -> Track:
    broadcast = Broadcast("room/bob")
    link.origin.begin(broadcast)
    return broadcast.add_track("video", track_info(60))


def group(link: Link, track: Track, sequence: int, payload: bytes, *, finished: bool = True) -> None:
    begun = track.begin_group(sequence, link.relay.now_ns())
    track.append(begun, Frame(1, payload, is_keyframe=True))
    if finished:
        track.finish_group(begun)
    link.run()


def group_streams(link: Link, session: int) -> list[int]:
    return link.streams(wt_uni(session) + b"\x00")


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_begins_with_path_token_origin_and_version() -> None:
    link = Link()
    link.connect('"moqt-19", "moq-lite-04","moq-lite-05"')
    assert link.statuses == [b"200"]
    (request,) = link.requests
    assert (request.path, request.token, request.origin) == ("anon", "t", "https://page")
    assert (request.version, request.carrier, request.address) == (V5, "webtransport", "127.0.0.1")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"versions": '"moqt-19", "moql"'}, b"400"),
        ({"versions": ""}, b"400"),
        ({"protocol": "websocket"}, b"404"),
    ],
)
def test_what_is_no_session_of_ours_is_answered_and_nothing_begins(change: dict[str, str], status: bytes) -> None:
    link = Link()
    link.connect(**change)
    assert link.statuses == [status]
    assert not link.relay.peers


def test_a_refused_session_and_a_second_one_get_a_status() -> None:
    link = Link(rights=Refusal(403, "no ticket"))
    link.connect()
    assert link.statuses == [b"403"]
    assert not link.connection.has_session
    link = Link()
    link.connect()
    link.connect()
    assert link.statuses == [b"200", b"429"]
    assert len(link.relay.peers) == 1


def test_the_settings_that_browsers_look_for_are_sent() -> None:
    link = Link()
    link.connect()
    assert link.http is not None
    received = link.http.received_settings
    assert received is not None
    assert received[0x2B603742] == received[MAX_SESSIONS_DRAFT_13] == received[ENABLED_DRAFT_15] == 1


def test_raw_quic_waits_for_the_setup_that_carries_path_and_token() -> None:
    link = Link(alpn="moq-lite-05")
    link.client.send_stream_data(0, varint(1) + write_message(V5, AnnounceRequest("")))
    link.run()
    assert not link.requests
    publish(link)
    setup = varint(1) + write_message(V5, Setup(((2, b"/anon?jwt=zzz"),)))
    link.client.send_stream_data(2, setup, end_stream=True)
    link.run()
    assert (link.requests[0].path, link.requests[0].token, link.requests[0].carrier) == ("anon", "zzz", "quic")
    assert b"room/bob" in link.received(0)


def test_raw_quic_without_setup_is_not_waited_for_with_any_number_of_requests() -> None:
    link = Link(alpn="moq-lite-05")
    for number in range(100):
        link.client.send_stream_data(number * 4, varint(6) + write_message(V5, TrackRequest("a", "b")))
    link.run()
    assert any(isinstance(event, ConnectionTerminated) for event in link.events)


# -- what aioquic gets wrong, or leaves to us --------------------------------------------------------------------------


@pytest.mark.parametrize("origin", [0, 4, 300])
def test_the_reply_on_a_bidirectional_stream_that_we_opened_is_read(origin: int) -> None:
    # Stock aioquic takes it for HTTP/3 frames: swallowed, or the connection closed.
    link = Link()
    session = link.connect()
    (asked,) = link.streams(encode_uint_var(0x41) + encode_uint_var(session) + b"\x01")
    reply = write_message(V5, AnnounceOk(origin, 1)) + b"\x07\x01\x04room\x00"
    link.client.send_stream_data(asked, reply[:1])
    link.run()
    link.client.send_stream_data(asked, reply[1:])
    link.run()
    assert link.origin.find("room") is not None
    link.client.send_stream_data(asked, b"", end_stream=True)
    link.run()
    assert link.origin.find("room") is None
    assert not [event for event in link.events if isinstance(event, ConnectionTerminated)]


def test_streams_that_are_over_leave_nothing_behind() -> None:
    link = Link()
    session = link.connect()
    track = publish(link)
    assert link.connection._http is not None
    before = len(link.connection._http._stream)
    for number in range(60):
        link.open_bidi(session, varint(6) + write_message(V5, TrackRequest("room/bob", "video")), is_last=True)
        link.open_bidi(session, varint(6) + write_message(V5, TrackRequest("room/bob", "smell")), is_last=True)
        stream = link.open_bidi(session, SUBSCRIBE)
        group(link, track, number, b"x")
        link.client.reset_stream(stream, to_http_code(0))
        link.run()
    assert len(link.connection._http._stream) == before
    assert len(link.peer.session._streams) < 5
    assert len(link.quic._streams) < 15


@pytest.mark.parametrize("code", [0, 29, 30, 31, 77, 4_403, 0xFFFF_FFFF])
def test_codes_survive_http(code: int) -> None:
    assert from_http_code(to_http_code(code)) == code
    assert (to_http_code(code) - 0x21) % 0x1F  # none of those that HTTP/3 reserves


def test_codes_that_are_no_codes_of_sessions_are_0() -> None:
    assert from_http_code(0x10C) == 0


def test_a_stop_by_the_client_ends_a_group_and_nothing_raises() -> None:
    link = Link()
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    group(link, track, 1, b"first", finished=False)
    (stream,) = group_streams(link, session)
    link.client.stop_stream(stream, to_http_code(77))
    link.run()
    track.append(track.groups[1], Frame(2, b"unwanted"))
    track.finish_group(track.groups[1])
    link.run()
    (reset,) = [event for event in link.events if isinstance(event, StreamReset) and event.stream_id == stream]
    assert from_http_code(reset.error_code) == 77
    group(link, track, 2, b"second")
    assert any(b"second" in link.received(stream) for stream in group_streams(link, session))
    assert link.relay.counters()["moq_groups_refused"] == 1


@pytest.mark.parametrize("what", ["write", "reset", "stop"])
def test_nothing_done_to_a_stream_that_is_over_raises(what: str) -> None:
    link = Link()
    session = link.connect()
    stream = link.open_bidi(session, varint(6) + write_message(V5, TrackRequest("room/bob", "video")), is_last=True)
    link.run()
    carrier = link.connection._carrier
    assert carrier is not None
    for _ in range(2):
        assert {
            "write": lambda: carrier.write(stream, b"late"),
            "reset": lambda: carrier.reset(stream, 1) or False,  # type: ignore[func-returns-value]
            "stop": lambda: carrier.stop(stream, 1) or False,  # type: ignore[func-returns-value]
        }[what]() is False


def test_no_stream_is_opened_beyond_what_the_client_grants() -> None:
    def grant_few(quic: QuicConnection) -> None:
        quic._local_max_streams_uni.value = 6  # HTTP/3 has three of them, SETUP one

    link = Link(prepare=grant_few)
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    for sequence in range(5):
        group(link, track, sequence, b"x", finished=False)
    assert len(group_streams(link, session)) == 2
    link.peer.cut()
    link.run()
    assert not [event for event in link.events if isinstance(event, ConnectionTerminated)]
    assert link.relay.counters()["moq_streams_not_granted"] > 0


def test_datagrams_fit_to_the_byte_and_longer_ones_are_not_sent() -> None:
    link = Link()
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    carrier = link.connection._carrier
    assert carrier is not None
    head = 1 + 1 + 1  # subscription, sequence and timestamp
    track.send_datagram(1, Frame(1, b"l" * (carrier.max_datagram_bytes - head + 1)))
    track.send_datagram(2, Frame(1, b"f" * (carrier.max_datagram_bytes - head)))
    link.run()
    (arrived,) = [event.data for event in link.events if isinstance(event, DatagramFrameReceived)]
    assert arrived.endswith(b"f" * (carrier.max_datagram_bytes - head))
    assert link.relay.counters()["moq_datagrams_dropped"] == 1


def test_datagrams_that_found_no_room_are_lost_rather_than_late() -> None:
    link = Link()
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    for number in range(1_000):
        track.send_datagram(number, Frame(1, bytes(1_000)))
    assert sum(map(len, link.quic._datagrams_pending)) <= link.quic._loss.congestion_window
    link.connection.after_flush()
    assert not link.quic._datagrams_pending


def test_no_more_is_handed_to_quic_than_leaves_soon() -> None:
    link = Link()
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    begun = track.begin_group(1, link.relay.now_ns())
    for _ in range(30):
        track.append(begun, Frame(1, bytes(100_000)))
    link.connection.write()
    waiting = sum(len(stream.sender._buffer) for stream in link.quic._streams.values())
    assert waiting <= link.quic._loss.congestion_window + 20_000
    link.run(2_000)
    assert sum(len(link.received(stream)) for stream in group_streams(link, session)) > 3_000_000


def test_a_stream_opened_on_the_sessions_own_stream_is_ignored() -> None:
    link = Link()
    session = link.connect()
    link.client.send_stream_data(session, encode_uint_var(0x41) + encode_uint_var(session) + b"\x01\x02\x00\x00")
    link.run()
    assert not link.peer._listening
    assert link.connection.counts["streams_astray"] == 1


def test_streams_of_a_session_that_does_not_exist_are_ignored() -> None:
    link = Link()
    session = link.connect()
    link.open_bidi(session + 400, SUBSCRIBE)
    assert not link.peer.deliveries
    assert link.connection.counts["streams_astray"] == 1


def test_a_capsule_of_grease_is_skipped_and_a_close_ends_the_session() -> None:
    link = Link()
    session = link.connect()
    assert link.http is not None
    capsules = varint(0x1F * 9 + 0x29) + prefixed(bytes(300)) + varint(0x2843) + prefixed(b"\x00\x00\x00\x07bye")
    for at in range(0, len(capsules), 50):
        assert link.relay.peers
        link.http.send_data(session, capsules[at : at + 50], end_stream=False)
        link.run()
    assert not link.relay.peers


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_no_bytes_break_a_capsule_reader(parts: list[bytes]) -> None:
    reader = CapsuleReader()
    for part in parts:
        if reader.feed_untrusted(part) is not None:
            break
    assert len(reader._buffer) <= 2_000


def test_a_close_is_read_whole_from_any_pieces() -> None:
    inside = varint(0x2843) + prefixed(b"\x00\x00\x00\x01not this")
    wire = (
        varint(0x78AE)
        + prefixed(b"")
        + varint(0x5F)
        + prefixed(inside)
        + varint(0x2843)
        + prefixed(b"\x00\x00\x10\x92no ticket")
    )
    for piece in (1, 3, 100):
        reader, found = CapsuleReader(), []
        for at in range(0, len(wire), piece):
            found.append(reader.feed_untrusted(wire[at : at + piece]))
        assert found[-1] == SessionClosed(4_242, "no ticket")
        assert not any(found[:-1])
    assert CapsuleReader().feed_untrusted(varint(0x2843) + varint(5_000)) == SessionClosed(0, "")


def test_a_session_that_we_end_says_why() -> None:
    link = Link()
    session = link.connect()
    link.peer.eject(4_403, "ticket expired")
    link.run()
    assert link.received(session).endswith(varint(0x2843) + prefixed(b"\x00\x00\x11\x33ticket expired"))
    assert not link.connection.has_session
    link = Link(alpn="moq-lite-04")
    link.peer.eject(4_403, "ticket expired")
    link.run()
    (ended,) = [event for event in link.events if isinstance(event, ConnectionTerminated)]
    assert (ended.error_code, ended.reason_phrase) == (4_403, "ticket expired")


def test_a_session_whose_stream_the_client_stopped_can_still_be_ended() -> None:
    link = Link()
    session = link.connect()
    link.client.stop_stream(session, 0x10C)
    link.run()
    link.peer.eject(4_403, "ticket expired")
    link.run()
    assert not link.relay.peers


# -- the cut -----------------------------------------------------------------------------------------------------------


def test_after_a_cut_nothing_leaves_any_more_not_even_what_was_lost_on_the_way() -> None:
    rights = Everything()
    link = Link(rights=rights)
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    group(link, track, 1, b"public")
    link.loses = lambda datagram: True
    begun = track.begin_group(2, link.relay.now_ns())
    track.append(begun, Frame(1, b"SECRET" * 20_000))
    track.finish_group(begun)
    group(link, track, 3, b"SECRET")
    track.send_datagram(4, Frame(1, b"SECRET"))
    rights.is_admitted = rights.watches = False
    link.peer.cut()
    link.loses = lambda datagram: False
    for _ in range(300):
        link.run()
    assert not [stream for stream in group_streams(link, session) if b"SECRET" in link.received(stream)]
    assert not [event for event in link.events if isinstance(event, DatagramFrameReceived)]
    resets = [event for event in link.events if isinstance(event, StreamReset)]
    assert {from_http_code(event.error_code) for event in resets} == {Code.CUT}
    assert [event for event in link.events if isinstance(event, StopSendingReceived)]


# -- the certificate, and targets --------------------------------------------------------------------------------------


def test_the_certificate_is_one_that_browsers_take_by_its_hash() -> None:
    now = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
    certificate = QuicCertificate.self_made(["localhost", "::1"], now)
    cert = certificate.cert
    assert cert.not_valid_after_utc - cert.not_valid_before_utc < datetime.timedelta(days=14)
    assert cert.not_valid_before_utc < now < certificate.renew_at < cert.not_valid_after_utc
    assert isinstance(certificate.key.curve, ec.SECP256R1)
    assert len(certificate.sha256) == 64
    assert certificate.sha256 != QuicCertificate.self_made(["localhost"], now).sha256


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/anon?jwt=a.b.c", ("anon", "a.b.c")),
        ("//anon//x/?x=1&jwt=a", ("anon/x", "a")),
        ("", ("", None)),
        ("/a?jwt=", ("a", None)),
        ("http://[::1", ("", None)),
        ("/a%20b?jwt=%61", ("a b", "a")),
        ("/a?" + "x=1&" * 50, ("", None)),
    ],
)
def test_path_and_token_are_read_from_any_target(target: str, found: tuple[str, str | None]) -> None:
    assert split_target_untrusted(target) == found

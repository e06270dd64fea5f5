"""What hostile and unlucky peers do to QUIC and HTTP/3: it ends their connection at most, and leaves nothing behind.

Each trap of aioquic's, and each way to be hostile, with the tests that keep it shut:

    replies on streams we opened are parsed as HTTP/3   test_the_reply_on_a_bidirectional_stream_that_we_opened_is_read
    streams the client opened stay for ever             test_streams_that_are_over_leave_nothing_behind
    resets and stops come as QUIC events alone          test_a_stop_by_the_client_ends_a_group_and_nothing_raises
    their codes are HTTP/3's                            test_codes_survive_http
    a write after STOP_SENDING raises                   test_nothing_done_to_a_stream_that_is_over_raises
    a reset beyond MAX_STREAMS ends the connection      test_no_stream_is_opened_beyond_what_the_client_grants
    a datagram too long blocks all later ones           test_datagrams_fit_to_the_byte_and_longer_ones_are_not_sent
    datagrams pile up without limit                     test_datagrams_that_found_no_room_are_lost_rather_than_late
    streams pile up without limit                       test_no_more_is_handed_to_quic_than_leaves_soon
    a packet costs more the more streams are open       test_a_subscriber_far_behind_costs_a_bounded_number_of_groups_and_no_other_subscriber
    streams have no priority                            test_what_is_wanted_most_goes_first_and_shares_a_packet_with_the_rest
    the path's packet size is not probed                test_no_datagram_is_longer_than_every_path_carries
    streams are opened on the CONNECT stream            test_a_stream_opened_on_the_sessions_own_stream_is_ignored
    GOAWAY is not known                                 test_a_goaway_of_http_changes_nothing
    who vanishes is there until the idle timeout        test_a_publisher_that_vanishes_takes_its_broadcasts_with_it
    malformed HTTP/3                                    test_malformed_http_ends_its_connection_at_most
    malformed messages                                  test_nothing_a_peer_sends_breaks_a_session
    malformed QMux                                      test_nothing_a_peer_sends_breaks_the_carrier
    malformed packets                                   test_junk_of_every_form_is_no_connection
    GREASE in HTTP/3 and QUIC                           test_grease_changes_nothing
    GREASE among streams of a session                   test_a_stream_of_an_unknown_kind_is_turned_away_and_the_rest_of_it_ignored
    GREASE among capsules                               test_a_capsule_of_grease_is_skipped_and_a_close_ends_the_session
    resets at every point of a request or group         test_a_reset_at_any_byte_of_a_stream_leaves_nothing_behind
    resets of the session itself                        test_a_session_reset_at_any_point_is_over
    streams opened and reset in quick succession        test_a_flood_of_streams_opened_and_reset_at_once_leaves_nothing_behind
    more streams than are granted                       test_who_takes_more_than_is_granted_is_put_out
    streams that never end                              test_a_peer_may_not_keep_any_number_of_streams_open
    floods of datagrams                                 test_a_flood_of_datagrams_is_counted_and_not_kept
    10,000 half-open handshakes                         test_ten_thousand_handshakes_that_nobody_finishes_keep_nobody_out
    handshakes in another's name                        test_before_an_address_is_proven_no_more_than_three_times_as_much_is_sent_to_it
    half-open handshakes from proven addresses          test_who_proves_an_address_and_then_waits_takes_up_no_other_networks_room
"""  # noqa: E501 - one line each, by which they are found

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from pathlib import Path

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.events import ConnectionTerminated
from hypothesis import given, settings
from hypothesis import strategies as st

from media.moq.carriers.quic_carrier import to_http_code
from media.moq.protocol.frames import Frame, FrameWriter
from media.moq.protocol.messages import (
    AnnounceOk,
    AnnounceRequest,
    Fetch,
    GroupHeader,
    Message,
    Probe,
    Setup,
    TrackRequest,
    write_message,
)
from media.moq.protocol.varint import prefixed, varint
from media.moq.quic.configuration import IDLE_S, PACKET_BYTES
from tests.moq.links import CLIENT, Link, wt_uni
from tests.moq.test_quic import SUBSCRIBE, V5, group, group_streams, publish

GREASE = 0x1F * 7 + 0x21  # RFC 9114 section 7.2.8: of this form, everywhere, and never with a meaning


def asks(type: int, message: Message) -> bytes:
    return varint(type) + write_message(V5, message)


def is_alive(link: Link) -> bool:
    return not [event for event in link.events if isinstance(event, ConnectionTerminated)]


def serves(link: Link, session: int) -> bool:
    """Whether a new subscription gets what is published."""
    track = publish(link) if (found := link.origin.find("room/bob")) is None else found.tracks["video"]
    link.open_bidi(session, SUBSCRIBE)
    group(link, track, track.next_sequence, b"still here")
    return any(link.received(stream).endswith(b"still here") for stream in group_streams(link, session))


def test_every_trap_has_a_test_that_exists() -> None:
    assert __doc__ is not None
    named = set(re.findall(r"\btest_\w+", __doc__))
    written = {
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.M)
    }
    assert len(named) > 25
    assert named <= written


# -- what aioquic leaves to us -----------------------------------------------------------------------------------------


def test_no_datagram_is_longer_than_every_path_carries() -> None:
    longest = 0

    def look(datagram: bytes) -> bool:
        nonlocal longest
        longest = max(longest, len(datagram))
        return False

    link = Link(loses=look)
    session = link.connect()
    track = publish(link)
    link.open_bidi(session, SUBSCRIBE)
    group(link, track, 1, bytes(100_000))
    assert longest == PACKET_BYTES


def test_a_goaway_of_http_changes_nothing() -> None:
    link = Link()
    session = link.connect()
    assert link.http is not None
    control = link.http._local_control_stream_id
    assert control is not None
    link.client.send_stream_data(control, varint(7) + prefixed(varint(0)))
    link.run()
    assert is_alive(link)
    assert serves(link, session)


def test_a_publisher_that_vanishes_takes_its_broadcasts_with_it() -> None:
    link = Link()
    session = link.connect()
    (asked,) = link.streams(encode_uint_var(0x41) + encode_uint_var(session) + b"\x01")
    link.client.send_stream_data(asked, write_message(V5, AnnounceOk(4, 1)) + b"\x07\x01\x04room\x00")
    link.run()
    assert link.origin.find("room") is not None
    ends = link.now + 2 * max(IDLE_S, link.quic._configuration.idle_timeout)
    while link.now < ends and (timer := link.quic.get_timer()) is not None:
        link.now = timer
        link.connection.handle_quic_timer(timer)
        link.connection.datagrams(timer)
        while (event := link.quic.next_event()) is not None:
            link.connection.handle(event)
    assert link.origin.find("room") is None
    assert not link.relay.peers


# -- GREASE and nonsense -----------------------------------------------------------------------------------------------


def test_grease_changes_nothing() -> None:
    link = Link()
    session = link.connect()
    assert link.http is not None
    control = link.http._local_control_stream_id
    assert control is not None
    link.client.send_stream_data(control, varint(GREASE) + prefixed(b"any"))
    unknown = link.client.get_next_available_stream_id(is_unidirectional=True)
    link.client.send_stream_data(unknown, varint(GREASE) + b"any", end_stream=True)
    request = link.client.get_next_available_stream_id()
    link.client.send_stream_data(request, varint(GREASE) + prefixed(b"any"), end_stream=True)
    link.run()
    assert is_alive(link)
    assert serves(link, session)


@pytest.mark.parametrize(
    "data",
    [
        b"\x04\x02\x01\x00",  # SETTINGS on a request
        b"\x00\x03abc",  # DATA before HEADERS
        b"\x01\x02\xff\xff",  # HEADERS that are no QPACK
        b"\x01\x80\xff\xff\xff",  # and that never end
        b"\x05\x04\x00abc",  # PUSH_PROMISE
        b"\x40",
        b"",
    ],
)
@pytest.mark.parametrize("is_last", [False, True])
def test_malformed_http_ends_its_connection_at_most(data: bytes, is_last: bool) -> None:
    link = Link()
    link.connect()
    stream = link.client.get_next_available_stream_id()
    link.client.send_stream_data(stream, data, end_stream=is_last)
    link.run()
    assert is_alive(link) == bool(link.relay.peers)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([2, 6, 10, 14, 18, 4, 8, 12]),
            st.one_of(
                st.binary(max_size=40),
                st.tuples(st.sampled_from([0, 1, 2, 3, 4, 7, 0x41, 0x54, GREASE]), st.binary(max_size=20)).map(
                    lambda typed: varint(typed[0]) + prefixed(typed[1])
                ),
            ),
            st.booleans(),
        ),
        max_size=8,
    )
)
def test_no_bytes_on_any_stream_raise(soup: list[tuple[int, bytes, bool]]) -> None:
    link = Link()
    link.connect()
    ended = set()
    for stream, data, is_last in soup:
        if stream not in ended:
            with suppress(ValueError):  # we may have reset it
                link.client.send_stream_data(stream, data, end_stream=is_last)
            link.run(5)
        if is_last:
            ended.add(stream)
    link.run()
    assert is_alive(link) == bool(link.relay.peers)


# -- resets ------------------------------------------------------------------------------------------------------------

FRAMES = FrameWriter(stamps=True)
PICTURE = Frame(1_000, b"picture", is_keyframe=True)
REQUESTS = {
    "announcements": asks(1, AnnounceRequest("room")),
    "subscription": SUBSCRIBE,
    "fetch": asks(3, Fetch("room/bob", "video", 1, 0)),
    "probe": asks(4, Probe(1, 1)),
    "track": asks(6, TrackRequest("room/bob", "video")),
}
HOW = ("reset", "stop and reset", "stop, then reset")
ONE_WAY = {
    "group": asks(0, GroupHeader(0, 5)) + FRAMES.header(PICTURE) + PICTURE.payload,
    "setup": asks(1, Setup(((2, b"/anon?jwt=t"),))),
}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *itertools.product(REQUESTS, ["reset", "stop and reset", "stop, then reset"]),
        *((name, "reset") for name in ONE_WAY),
    ],
)
def test_a_reset_at_any_byte_of_a_stream_leaves_nothing_behind(name: str, how: str) -> None:
    link = Link()
    session = link.connect()
    group(link, publish(link), 0, b"old")
    assert link.connection._http is not None
    before = len(link.connection._http._stream), len(link.peer.session._streams), len(link.quic._streams)
    bidi = encode_uint_var(0x41) + encode_uint_var(session)
    whole = wt_uni(session) + ONE_WAY[name] if name in ONE_WAY else bidi + REQUESTS[name]
    for at in range(1, len(whole) + 1):
        stream = link.client.get_next_available_stream_id(is_unidirectional=name in ONE_WAY)
        link.client.send_stream_data(stream, whole[:at])
        link.run()
        if how != "reset":
            link.client.stop_stream(stream, to_http_code(1))
        if how == "stop, then reset":
            link.run()
        link.client.reset_stream(stream, to_http_code(1))
        link.run()
    assert is_alive(link)
    assert not link.peer.deliveries
    assert len(link.peer.session._streams) <= before[1]
    assert len(link.connection._http._stream) <= before[0]
    assert len(link.quic._streams) <= before[2]
    assert serves(link, session)


@pytest.mark.parametrize("subscribed", [False, True])
@pytest.mark.parametrize("how", ["reset", "stop", "fin"])
def test_a_session_reset_at_any_point_is_over(how: str, subscribed: bool) -> None:
    link = Link()
    session = link.connect()
    track = publish(link)
    if subscribed:
        link.open_bidi(session, SUBSCRIBE)
        group(link, track, 1, b"begun", finished=False)
    match how:
        case "reset":
            link.client.reset_stream(session, 0x10C)
        case "stop":
            link.client.stop_stream(session, 0x10C)
        case "fin":
            link.client.send_stream_data(session, b"", end_stream=True)
    group(link, track, 2, b"after")
    assert not link.relay.peers
    assert not track.readers


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_flood_of_streams_opened_and_reset_at_once_leaves_nothing_behind() -> None:
    link = Link()
    session = link.connect()
    publish(link)
    assert link.connection._http is not None
    before = len(link.connection._http._stream), len(link.quic._streams)
    opened = 0
    for _ in range(20):
        for is_unidirectional in (False, True):
            for _ in range(50):
                stream = link.client.get_next_available_stream_id(is_unidirectional=is_unidirectional)
                prefix = wt_uni(session) if is_unidirectional else encode_uint_var(0x41) + encode_uint_var(session)
                link.client.send_stream_data(stream, prefix + SUBSCRIBE)
                opened += 1
        link.run(2)
        for stream in tuple(link.client._streams):
            if stream > 60 and stream % 4 in (0, 2) and link.client._streams[stream].sender._reset_error_code is None:
                link.client.reset_stream(stream, to_http_code(0))
        link.run()
    assert opened == 2_000
    assert is_alive(link)
    link.client.send_ping(1)  # aioquic lets go of streams when it sends the next time
    link.run()
    assert len(link.connection._http._stream) < before[0] + 60
    assert len(link.quic._streams) < before[1] + 60
    assert len(link.peer.deliveries) < 60


@pytest.mark.parametrize("what", ["streams", "bytes of a stream", "bytes"])
def test_who_takes_more_than_is_granted_is_put_out(what: str) -> None:
    link = Link()
    session = link.connect()
    # The client forgets what it was granted; of bytes little is granted, lest the test needs many.
    link.client._remote_max_streams_bidi = link.client._remote_max_streams_uni = 1 << 20
    match what:
        case "streams":
            for _ in range(300):
                stream = link.client.get_next_available_stream_id()
                link.client.send_stream_data(stream, encode_uint_var(0x41) + encode_uint_var(session))
        case _:
            link.client._remote_max_data = 1 << 60
            stream = link.client.get_next_available_stream_id()
            prefix = encode_uint_var(0x41) + encode_uint_var(session)
            link.client.send_stream_data(stream, prefix)
            link.run()
            state = link.client._streams[stream]
            state.max_stream_data_remote = 1 << 60
            if what == "bytes":
                link.quic._local_max_data.value = 1_000
                link.quic._local_max_data.used = 0
            else:
                link.quic._streams[stream].max_stream_data_local = 1_000
            link.client.send_stream_data(stream, bytes(20_000))
    link.run()
    assert not is_alive(link)
    assert not link.relay.peers


def test_a_flood_of_datagrams_is_counted_and_not_kept() -> None:
    link = Link()
    session = link.connect()
    for number in range(3_000):
        link.client.send_datagram_frame(varint(session // 4) + varint(number) + bytes(100))
        if number % 100 == 0:
            link.run(20)
    link.run()
    counts = link.peer.session.counts
    assert counts["datagrams_unexpected"] + counts["datagrams_malformed"] > 2_000
    assert not link.peer.session._streams.keys() - set(range(20))
    assert serves(link, session)


def test_a_client_that_moves_is_answered_where_it_is_once_it_has_proven_that() -> None:
    link = Link()
    session = link.connect()
    elsewhere = ("127.0.0.9", 9)
    link.client.send_ping(1)
    for datagram, _ in link.client.datagrams_to_send(now=link.now):
        link.connection.receive_untrusted(datagram, elsewhere, link.now)
    destinations = {address for _, address in link.connection.datagrams(link.now)}
    assert destinations <= {elsewhere, CLIENT}
    assert not link.quic._network_paths[0].is_validated or link.quic._network_paths[0].addr == CLIENT
    link.run()
    assert serves(link, session)

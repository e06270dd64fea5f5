"""Data channels: how they open and close, what is refused, and that limits cost the channel and nothing else."""

from __future__ import annotations

import pytest

from media.channel import WAITING
from media.channels import Channels
from media.facts import TransportId
from media.webrtc import dcep
from media.webrtc.data_channel import (
    BURST,
    MAX_BUFFERED,
    MAX_CHANNELS,
    MESSAGES_PER_S,
    ChannelClosed,
    ChannelMessage,
    ChannelOpened,
    DataChannels,
)
from media.webrtc.data_section import DataOffer, find_data
from media.webrtc.dcep import Opening, Payload
from media.webrtc.dtls_records import MTU
from media.webrtc.negotiation import answer_publisher, answer_viewer
from media.webrtc.sctp import Association
from media.webrtc.sctp_chunks import ABORT, build_chunk
from media.webrtc.sctp_inbound import MAX_MESSAGE
from media.webrtc.sctp_reliability import RELIABLE, Reliability
from media.webrtc.sdp import MalformedSdp, parse_sdp_untrusted
from media.wire.malformed import MalformedPacket
from tests.media.associations import SECOND_NS, Wire, association, packet
from tests.media.offers import LOCAL, offer_text
from tests.media.test_negotiation import VP8
from tests.media.transports import World

EVENTS = "mesi.events"


class Pair(Wire):
    """A client that may open channels, and the server; `raw` is the client's association, to break rules with."""

    def __init__(self, *, seed: int = 0, loss: float = 0.0, max_message: int | None = 65_536) -> None:
        self.raw, self.below = association(seed + 1), association(seed + 2)
        limits = {"labels": (EVENTS,), "max_message": max_message, "now_ns": SECOND_NS}
        self.client = DataChannels(self.raw, peers_parity=1, **limits)
        self.server = DataChannels(self.below, peers_parity=0, **limits)
        super().__init__((self.client, self.server), seed=seed, loss=loss)
        self.raw.connect(self.now_ns)
        self.run_until(lambda: self.raw.is_established and self.below.is_established)

    def opened(self, stream: int = 0, opening: Opening = Opening(EVENTS)) -> Pair:  # noqa: B008  (a value)
        self.client.open(stream, opening)
        self.run_until(lambda: ChannelOpened(stream, EVENTS, "") in self.told[1])
        return self

    def counted(self, name: str) -> int:
        return self.server.counters()[f"channels_{name}"]


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(4))
def test_a_channel_opens_says_text_both_ways_and_closes_whatever_is_lost(seed: int, loss: float) -> None:
    pair = Pair(seed=seed, loss=loss).opened()
    for text in (b"one", b"", b"three" * 900):
        pair.client.send(0, text)
        pair.server.send(0, text, is_text=False)
    pair.run_until(lambda: len(pair.told[0]) == 3 and len(pair.told[1]) == 4)
    assert pair.told[0] == [ChannelMessage(0, text, False) for text in (b"one", b"", b"three" * 900)]
    assert pair.told[1][1:] == [ChannelMessage(0, text, True) for text in (b"one", b"", b"three" * 900)]
    pair.server.send(0, b"last")
    assert pair.server.close(0, "over") == [ChannelClosed(0, "over")]
    pair.run_until(lambda: ChannelClosed(0, "closed_by_peer") in pair.told[0])
    assert pair.told[0][3:] == [ChannelMessage(0, b"last", True), ChannelClosed(0, "closed_by_peer")]
    pair.run_until(lambda: not pair.server._channels and not pair.client._channels)
    pair.opened()  # its stream may be used again


def test_a_client_that_closes_is_answered_with_a_reset_of_our_direction() -> None:
    pair = Pair().opened()
    pair.client.close(0, "over")
    pair.run(1)
    assert pair.told[1][-1] == ChannelClosed(0, "closed_by_peer")
    assert not pair.server._channels
    assert not pair.client._channels


@pytest.mark.parametrize(
    ("stream", "opening", "counter"),
    [
        (0, Opening("other"), "refused_label"),
        (1, Opening(EVENTS), "refused_open"),
        (0, Opening("x" * 200), "refused_open"),
    ],
    ids=["label", "parity", "length"],
)
def test_what_is_refused_is_closed_and_counted(stream: int, opening: Opening, counter: str) -> None:
    pair = Pair()
    pair.client.open(stream, opening)
    pair.run(1)
    assert pair.told[0] == [ChannelClosed(stream, "closed_by_peer")]
    assert (pair.told[1], pair.counted(counter), pair.counted("opened")) == ([], 1, 0)


@pytest.mark.parametrize("unordered", [False, True], ids=["ordered", "unordered"])
def test_what_a_channel_asked_for_is_how_we_send_on_it(unordered: bool) -> None:
    pair = Pair().opened(opening=Opening(EVENTS, "", unordered, Reliability(retransmissions=0)))
    pair.told[0].clear()
    pair.lost = lambda to, sent: to == 0 and b"first" in sent
    pair.server.send(0, b"first")
    pair.run(0.05)
    pair.server.send(0, b"second")
    pair.run(0.1)  # less than the first timer
    assert pair.told[0] == ([ChannelMessage(0, b"second", True)] if unordered else [])
    pair.run(3)
    assert pair.told[0] == [ChannelMessage(0, b"second", True)]
    assert (pair.server.counters()["sctp_abandoned"], pair.server.buffered) == (1, 0)


def test_no_more_channels_than_the_limit_and_one_that_closed_makes_room() -> None:
    pair = Pair()
    for number in range(MAX_CHANNELS):
        pair.opened(2 * number)
    pair.client.open(2 * MAX_CHANNELS, Opening(EVENTS))
    pair.run(1)
    assert (pair.told[0], pair.counted("refused_limit")) == ([ChannelClosed(2 * MAX_CHANNELS, "closed_by_peer")], 1)
    pair.client.close(0, "over")
    pair.run(1)
    pair.opened(2 * MAX_CHANNELS + 2)


def test_a_message_on_no_channel_closes_its_stream() -> None:
    pair = Pair()
    pair.raw.send(4, Payload.STRING, b"who is there?")
    pair.run(1)
    assert (pair.told[1], pair.counted("strays")) == ([], 1)
    assert 4 in pair.server._channels


def test_a_second_opening_and_what_is_no_dcep_are_counted_and_change_nothing() -> None:
    pair = Pair().opened()
    pair.raw.send(0, Payload.DCEP, dcep.build_open(Opening(EVENTS)))
    pair.raw.send(0, Payload.DCEP, b"\x09")
    pair.raw.send(0, 99, b"of another kind")
    pair.client.send(0, b"still here")
    pair.run(1)
    assert pair.told[1][1:] == [ChannelMessage(0, b"still here", True)]
    assert (pair.counted("refused_open"), pair.counted("strays")) == (2, 1)


def test_a_client_that_does_not_read_loses_the_channel_and_not_our_memory() -> None:
    pair = Pair().opened()
    pair.lost = lambda to, sent: to == 0
    message = bytes(10_000)
    sent = 0
    while not (closed := pair.server.send(0, message)):
        sent += 1
    assert closed == [ChannelClosed(0, "slow")]
    assert MAX_BUFFERED - 20_000 < sent * len(message) <= MAX_BUFFERED
    pair.run(0.1)
    assert pair.server.buffered < 100_000  # what had begun
    assert (pair.server.send(0, message), pair.counted("closed_slow")) == ([], 1)


def test_who_says_too_much_loses_the_channel_and_who_keeps_to_the_pace_does_not() -> None:
    pair = Pair().opened()
    for _ in range(3 * MESSAGES_PER_S):
        pair.client.send(0, b"steady")
        pair.run(1 / MESSAGES_PER_S + 0.005)
    assert ChannelClosed(0, "too_fast") not in pair.told[1]
    for _ in range(BURST + 5):
        pair.client.send(0, b"at once")
    pair.run(1)
    assert (pair.told[1][-1], pair.counted("closed_too_fast")) == (ChannelClosed(0, "too_fast"), 1)
    assert BURST - 5 <= pair.told[1].count(ChannelMessage(0, b"at once", True)) <= BURST + 1


def test_what_is_longer_than_the_peer_takes_closes_the_channel() -> None:
    pair = Pair(max_message=1_000).opened()
    assert pair.server.send(0, bytes(1_000)) == []
    assert pair.server.send(0, bytes(1_001)) == [ChannelClosed(0, "too_large")]
    assert pair.counted("closed_too_large") == 1
    unlimited = Pair(max_message=None).opened()
    assert unlimited.server.send(0, bytes(100_000)) == []


def test_channels_end_with_the_association_and_may_open_on_another() -> None:
    pair = Pair().opened()
    abort = packet(build_chunk(ABORT), tag=pair.below._own_tag)
    assert pair.server.receive_untrusted(abort, pair.now_ns) == [ChannelClosed(0, "aborted_by_peer")]
    anew = association(7)
    pair.client = DataChannels(anew, labels=(), peers_parity=1, max_message=None, now_ns=pair.now_ns)
    pair.ends, pair.told = (pair.client, pair.server), ([], [])
    anew.connect(pair.now_ns)
    pair.opened()
    restarted: Association = association(8)
    restarted.connect(pair.now_ns)
    pair.ends = (DataChannels(restarted, labels=(), peers_parity=1, max_message=None, now_ns=pair.now_ns), pair.server)
    pair.run(1)
    assert pair.told[1][-1] == ChannelClosed(0, "restarted")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x03",
        b"\x02\x00",
        b"\x01" + bytes(11),
        b"\x03\x05" + bytes(10),
        b"\x03\x00" + bytes(6) + b"\x00\x05\x00\x00" + b"four",
        b"\x03\x00" + bytes(6) + b"\x00\x02\x00\x00" + b"\xff\xfe",
    ],
)
def test_what_is_no_message_of_dcep_is_malformed(message: bytes) -> None:
    with pytest.raises(MalformedPacket):
        dcep.parse_open_untrusted(message)


def test_every_type_of_channel_is_read_and_written() -> None:
    kinds = {0: RELIABLE, 1: Reliability(retransmissions=70_000), 2: Reliability(lifetime_ms=70_000)}
    for kind, reliability in kinds.items():
        for unordered in (False, True):
            bound = 70_000 if kind else 0
            message = bytes([3, kind | 0x80 * unordered, 0, 0]) + bound.to_bytes(4) + b"\x00\x05\x00\x01labelp"
            opening = Opening("label", "p", unordered, reliability)
            assert dcep.parse_open_untrusted(message) == opening
            assert dcep.build_open(opening) == message
    assert dcep.parse_open_untrusted(dcep.ACKNOWLEDGED) is None


# -- in a transport ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server_is_client", [False, True])
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_channels_work_in_either_role_of_dtls(server_is_client: bool, loss: float) -> None:
    world = World(seed=3, loss=loss, server_is_client=server_is_client)
    for end in (world.server, world.client):
        end._data_offer = DataOffer(5000, None)
    world.server._labels = (EVENTS,)
    world.connect()
    assert world.is_connected
    stream = int(server_is_client)
    world.take_from_client(world.client.open_channel(EVENTS, world.now_ns))
    while ChannelOpened(stream, EVENTS, "") not in world.told_server:
        world.step()
    world.take_from_server(world.server.send_message(stream, b"long " * 2_000, None, world.now_ns))
    world.take_from_client(world.client.send_message(b"short", world.now_ns))
    world.run(5)
    assert max(map(len, world.sent)) <= MTU
    assert ChannelMessage(stream, b"long " * 2_000, True) in world.told_client
    assert ChannelMessage(stream, b"short", True) in world.told_server
    world.take_from_server(world.server.close_channel(stream, "over", world.now_ns))
    world.run(5)
    assert ChannelClosed(stream, "closed_by_peer") in world.told_client
    assert world.server.is_secured
    assert not world.closings()


def test_without_an_offer_of_data_nothing_is_made_of_it() -> None:
    world = World()
    world.client._data_offer = DataOffer(5000, None)
    world.connect()
    world.run(3)
    assert world.server.data_counters() == {}
    assert not world.closings()
    assert world.server._dtls.take_data() == []


class Engines:
    """What becomes of what is sent, and closed."""

    def __init__(self) -> None:
        self.closed: list[tuple[int, int, str]] = []

    def send_message(self, transport: TransportId, stream: int, message: bytes, key: str | None) -> None:
        raise AssertionError("nobody says anything")

    def buffered(self, transport: TransportId) -> int:
        return 0

    def close_channel(self, transport: TransportId, stream: int, reason: str) -> None:
        self.closed.append((transport, stream, reason))


def test_a_channel_whose_messages_are_not_taken_in_time_is_closed() -> None:
    engines, told = Engines(), []
    channels = Channels(engines, told.append)
    channels.take(TransportId(1), ChannelOpened(0, EVENTS, ""))
    for _ in range(WAITING):
        channels.take(TransportId(1), ChannelMessage(0, b"more", True))
    assert (engines.closed, told[0].channel.closed) == ([], None)
    channels.take(TransportId(1), ChannelMessage(0, b"more", True))
    assert engines.closed == [(1, 0, "too_fast")]
    channels.take(TransportId(1), ChannelClosed(0, "too_fast"))
    assert (told[0].channel.closed, len(channels)) == ("too_fast", 0)


# -- in a description --------------------------------------------------------------------------------------------------

SECTION = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:data\r\na=sctp-port:5000\r\n"


def offering(section: str = SECTION, name: str = "chromium156-vp8-sub", bundled: str = " data") -> str:
    text = offer_text(name)
    [group] = [line for line in text.splitlines() if line.startswith("a=group:BUNDLE")]
    return text.replace(group, group + bundled) + section


def data_lines(sdp: str) -> list[str]:
    return sdp[sdp.index("m=application") :].splitlines()


def test_data_channels_are_accepted_in_the_bundle_with_our_port_and_limit() -> None:
    offer = parse_sdp_untrusted(offering(name="chromium156-vp8-pub"))
    answer = answer_publisher(offer, LOCAL)
    assert answer.data == DataOffer(5000, 65_536)
    lines = data_lines(answer.sdp)
    assert lines[0] == "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"
    assert {"a=mid:data", "a=sctp-port:5000", f"a=max-message-size:{MAX_MESSAGE}", "a=setup:passive"} < set(lines)
    assert answer.sdp.split("a=group:BUNDLE ")[1].splitlines()[0].split()[-1] == "data"


@pytest.mark.parametrize(("size", "largest"), [("0", None), ("262144", 262_144), ("18446744073709551615", 2**64 - 1)])
def test_the_longest_message_is_what_the_peer_says(size: str, largest: int | None) -> None:
    offer = parse_sdp_untrusted(offering(SECTION + f"a=max-message-size:{size}\r\n"))
    found = find_data(offer)
    assert found is not None
    assert found[1] == DataOffer(5000, largest)


@pytest.mark.parametrize(
    ("section", "bundled"),
    [
        (SECTION, ""),
        (SECTION.replace("a=sctp-port:5000\r\n", "a=sctpmap:5000 webrtc-datachannel 1024\r\n"), " data"),
        (SECTION.replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000"), " data"),
        (SECTION.replace("5000", "0"), " data"),
        (SECTION.replace("application 9", "application 0"), " data"),
    ],
    ids=["own-transport", "no-port", "former-form", "port-0", "rejected"],
)
def test_other_offers_of_data_are_refused_and_media_go_on(section: str, bundled: str) -> None:
    answer = answer_viewer(parse_sdp_untrusted(offering(section, bundled=bundled)), LOCAL, [VP8], stream="s")
    assert (answer.data, data_lines(answer.sdp)[0].split()[1]) == (None, "0")
    assert answer.tracks


@pytest.mark.parametrize(
    "section",
    [
        SECTION.replace("5000", "65536"),
        SECTION.replace("5000", "x"),
        SECTION + "a=sctp-port:5000\r\n",
        SECTION + "a=max-message-size:-1\r\n",
    ],
    ids=["too-large", "no-number", "twice", "negative"],
)
def test_attributes_that_say_no_number_or_come_twice_are_malformed(section: str) -> None:
    with pytest.raises(MalformedSdp):
        parse_sdp_untrusted(offering(section))

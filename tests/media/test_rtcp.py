from __future__ import annotations

import base64
import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.wire import twcc
from media.wire.malformed import MalformedPacket
from media.wire.rtcp import (
    Bye,
    Fir,
    Nack,
    Pli,
    ReceiverReport,
    Remb,
    ReportBlock,
    RtcpPacket,
    Sdes,
    SenderReport,
    Unknown,
    build_rtcp,
    parse_rtcp_untrusted,
)
from media.wire.twcc import Twcc
from tests.media.packets import RECORDINGS, recorded

u8, u16, u24, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 24, 32))
blocks = st.builds(ReportBlock, u32, u8, st.integers(-(2**23), 2**23 - 1), u32, u32, u32, u32)
some_blocks = st.lists(blocks, max_size=31).map(tuple)


@st.composite
def rising_numbers(draw: st.DrawFn) -> tuple[int, ...]:
    steps = draw(st.lists(st.integers(1, 40), min_size=1, max_size=30))
    number = draw(u16)
    numbers = []
    for step in steps:
        number += step
        numbers.append(number & 0xFFFF)
    return tuple(numbers)


deltas = st.lists(st.none() | st.integers(0, 255) | st.integers(-0x8000, 0x7FFF), min_size=1, max_size=300).map(tuple)
packets = st.one_of(
    st.builds(SenderReport, u32, st.integers(0, 2**64 - 1), u32, u32, u32, some_blocks),
    st.builds(ReceiverReport, u32, some_blocks),
    st.builds(Sdes, st.lists(st.tuples(u32, st.binary(max_size=255)), max_size=31).map(tuple)),
    st.builds(Bye, st.lists(u32, max_size=31).map(tuple), st.binary(max_size=255)),
    st.builds(Nack, u32, u32, rising_numbers()),
    st.builds(Pli, u32, u32),
    st.builds(Fir, u32, st.lists(st.tuples(u32, u8), max_size=10).map(tuple)),
    st.builds(Twcc, u32, u32, u16, u8, u24, deltas),
    st.builds(
        Unknown, st.integers(207, 223), st.integers(0, 31), st.binary(max_size=8).map(lambda x: x[: len(x) & 12])
    ),
)


@given(st.lists(packets, min_size=1, max_size=4))
def test_what_was_built_is_read_back(compound: list[RtcpPacket]) -> None:
    assert parse_rtcp_untrusted(build_rtcp(*compound)) == compound


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_rtcp_is_read_whole(name: str) -> None:
    for datagram in recorded(name, "rtcp"):
        parsed = parse_rtcp_untrusted(datagram)
        assert not [packet for packet in parsed if isinstance(packet, Unknown)]
        assert parse_rtcp_untrusted(build_rtcp(*parsed)) == parsed


def test_the_feedback_of_chromium_counts_up_and_covers_without_gaps() -> None:
    reports = [
        packet
        for datagram in recorded("chromium156-vp8", "rtcp")
        for packet in parse_rtcp_untrusted(datagram)
        if isinstance(packet, Twcc)
    ]
    assert len(reports) > 10
    for before, after in itertools.pairwise(reports):
        assert after.feedback_count == (before.feedback_count + 1) & 0xFF
        assert (after.base_seq - before.base_seq) & 0xFFFF <= len(before.deltas)


def test_a_remb_is_read() -> None:
    body = "8fce0005" + "00000001" + "00000000" + "52454d42" + "010e7103" + "12345678"
    assert parse_rtcp_untrusted(bytes.fromhex(body)) == [Remb(1, 0x27103 << 3, (0x12345678,))]


def test_another_applications_message_is_no_remb() -> None:
    body = "8fce0003" + "00000001" + "00000000" + "58585858"
    assert parse_rtcp_untrusted(bytes.fromhex(body)) == [Unknown(206, 15, bytes.fromhex(body)[4:])]


def test_nacks_are_packed_into_masks() -> None:
    built = build_rtcp(Nack(1, 2, (65_535, 0, 15, 16)))
    assert built.hex() == "81cd0004" + "00000001" + "00000002" + "ffff8001" + "00100000"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        "81c90000",  # a report block announced, none there
        "81c9ffff00000001",  # longer than the datagram
        "41c9000100000001",  # version 1
        "a0c90001" + "00000000",  # padding of 0
        "a0c90001" + "000000ff",  # padding larger than the packet
        "8fce0004" + "00000001" + "00000000" + "52454d42" + "ff000000",  # REMB that claims 255 SSRCs
        "8fcd0005" + "00000001" + "00000002" + "00000002" + "00000000" + "f0000000",  # reserved symbol 0b11
        "8fcd0005" + "00000001" + "00000002" + "00000002" + "00000000" + "60020000",  # a run of reserved symbols
        "8fcd0005" + "00000001" + "00000002" + "00002002" + "00000000" + "1fff1fff",  # more packets than we read
        "8fcd0005" + "00000001" + "00000002" + "00000002" + "00000000" + "00000000",  # runs of nothing
        "8fcd0004" + "00000001" + "00000002" + "00000002" + "00000000",  # no chunk
        "81ca0002" + "00000001" + "01ff4141",  # SDES item beyond its chunk
        "81ca0002" + "00000001" + "01014102",  # SDES item whose length is missing
        "9fca0001" + "00000001",  # 31 chunks announced
        "9fcb0001" + "00000001",  # 31 sources announced
        "81cb0002" + "00000001" + "ff414141",  # BYE reason beyond the packet
        "81ce0001" + "00000001",  # PLI without its media source
    ],
)
def test_malformed_packets_are_named_so(text: str) -> None:
    with pytest.raises(MalformedPacket):
        parse_rtcp_untrusted(bytes.fromhex(text))


def test_the_input_that_crashed_another_sfu_does_not_crash_us() -> None:
    with suppress(MalformedPacket):
        parse_rtcp_untrusted(base64.b64decode("j80ABTR4VngFEjLNAAU0VngAEonVYWFBViGeBEFWBA=="))


def test_extended_reports_are_skipped_whatever_their_blocks_claim() -> None:
    compound = bytes.fromhex("80cf0002" + "00000001" + "05ffffff") + build_rtcp(Pli(1, 2))
    assert parse_rtcp_untrusted(compound)[1] == Pli(1, 2)


def test_what_follows_a_malformed_packet_is_dropped() -> None:
    assert parse_rtcp_untrusted(build_rtcp(Pli(1, 2)) + b"\x81\xc9") == [Pli(1, 2)]
    assert parse_rtcp_untrusted(build_rtcp(Pli(1, 2)) + bytes.fromhex("81c90000") + build_rtcp(Pli(3, 4))) == [
        Pli(1, 2)
    ]


def test_padding_is_taken_off_even_where_it_fills_no_word() -> None:
    browsers = bytes.fromhex("afcd0005" + "00000001" + "00000002" + "00010001" + "00000000" + "20010401")
    assert parse_rtcp_untrusted(browsers) == [Twcc(1, 2, 1, 0, 0, (4,))]


def test_padding_of_the_last_packet_is_taken_off() -> None:
    padded = bytes.fromhex("a1ce0003" + "00000001" + "00000002" + "00000004")
    assert parse_rtcp_untrusted(padded) == [Pli(1, 2)]


@given(
    st.binary(max_size=80)
    | st.tuples(st.integers(0x80, 0xBF), st.integers(200, 207), st.integers(0, 12), st.binary(max_size=60)).map(
        lambda parts: bytes([parts[0], parts[1], 0, parts[2]]) + parts[3]
    )
)
def test_any_bytes_are_packets_or_malformed(datagram: bytes) -> None:
    with suppress(MalformedPacket):
        assert parse_rtcp_untrusted(datagram)


@given(st.integers(0, 2**60), st.lists(st.integers(0, 2**32 - 1), max_size=31))
def test_a_remb_is_written_as_it_is_read_and_never_says_more(bitrate: int, ssrcs: list[int]) -> None:
    (read,) = parse_rtcp_untrusted(build_rtcp(Remb(1, bitrate, tuple(ssrcs))))
    assert isinstance(read, Remb)
    assert read.ssrcs == tuple(ssrcs)
    assert bitrate - bitrate / 2**17 <= read.bitrate_bps <= bitrate


TEMPLATE = Twcc(1, 2, 0, 250, 0, ())


def times_of(reports: list[Twcc], base_seq: int) -> dict[int, int]:
    """Return {offset from base_seq: arrival in ticks, modulo the 24 bits of the reference time}."""
    times = {}
    for report in reports:
        tick = report.reference_time * twcc.TICKS_PER_REFERENCE
        for index, delta in enumerate(report.deltas):
            if delta is not None:
                tick += delta
                times[(report.base_seq + index - base_seq) & 0xFFFF] = tick % (twcc.TICKS_PER_REFERENCE << 24)
    return times


gaps = st.one_of(
    st.integers(0, 60_000_000),
    st.sampled_from([0, 249_999, 250_000, 63_750_000, 64_000_000, 8_191_750_000, 8_192_000_000, 20_000_000_000]),
    st.integers(-5_000_000, 0),
)


@given(u16, st.integers(0, 2**62), st.lists(st.none() | gaps, max_size=400))
def test_every_arrival_is_told_once_to_the_quarter_millisecond(
    base_seq: int, start_ns: int, steps: list[int | None]
) -> None:
    now, arrivals = start_ns + 10**10, list[int | None]()
    for step in steps:
        now += step or 0
        arrivals.append(None if step is None else now)
    reports = list(twcc.reports(base_seq, arrivals, TEMPLATE))
    wrapped = twcc.TICKS_PER_REFERENCE << 24
    expected = {i: ns // twcc.TICK_NS % wrapped for i, ns in enumerate(arrivals) if ns is not None}
    assert times_of(reports, base_seq) == expected
    assert [report.feedback_count for report in reports] == [(250 + i) & 0xFF for i in range(len(reports))]
    for report in reports:
        built = build_rtcp(report)
        assert len(built) <= twcc.MAX_REPORT
        assert parse_rtcp_untrusted(built) == [report]


@pytest.mark.parametrize(
    ("deltas", "chunks"),
    [
        ((4,) * 100, "2064"),  # a run of small deltas
        ((4, None) * 7, "aaaa"),  # one-bit vector
        ((4, None, 300, 4, 4, 4, 4), "d255"),  # two-bit vector
        ((None,) * 8 + (4,), "80" + "20"),  # one-bit vector of what is left
        ((300,) * 8, "4008"),  # a run of large deltas
        ((None,) * 8_192, "1fff"),  # the longest run
    ],
)
def test_chunks_take_the_form_that_covers_most(deltas: tuple[int | None, ...], chunks: str) -> None:
    report = Twcc(1, 2, 0, 0, 0, deltas)
    assert build_rtcp(report)[20:22].hex() == chunks
    assert parse_rtcp_untrusted(build_rtcp(report)) == [report]


def test_a_report_with_1024_packets_of_large_deltas_is_split() -> None:
    arrivals: list[int | None] = [i * 100_000_000 for i in range(1024)]
    reports = list(twcc.reports(65_000, arrivals, TEMPLATE))
    assert len(reports) == 2
    assert sum(len(report.deltas) for report in reports) == 1024
    assert max(len(build_rtcp(report)) for report in reports) <= twcc.MAX_REPORT

"""Bursts in the books: whatever is asked of them, they answer as the packets that they are."""

from __future__ import annotations

from collections.abc import Iterator

from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream
from hypothesis import given
from hypothesis import strategies as st

from media.moq.packets import AES, Chunk, Head
from media.moq.sent_packets import Frame, SentBurst, SentPacket, SentPackets
from tests.moq.test_packets import KERNELS, MOST

Told = list[tuple[int, float, int, list[tuple[int | None, int, int, bool]]]]


def delivered(delivery: QuicDeliveryState, stream: QuicStream, start: int, stop: int, is_last: bool) -> None:
    raise AssertionError("nobody is told")


def plain(frames: list[Frame]) -> list[tuple[int | None, int, int, bool]]:
    return [(stream.stream_id, start, stop, is_last) for stream, start, stop, is_last in frames]


def told(packets: list[SentPacket]) -> Told:
    return [(one.packet_number, one.sent_time, one.sent_bytes, plain(one.frames)) for one in packets]


def merged(frames: list[tuple[int | None, int, int, bool]]) -> Iterator[tuple[int | None, int, int, bool]]:
    """Join frames that follow each other in a stream."""
    whole = frames[0]
    for frame in frames[1:]:
        if frame[0] == whole[0] and frame[1] == whole[2]:
            whole = (whole[0], whole[1], *frame[2:])
        else:
            yield whole
            whole = frame
    yield whole


def burst_of(number: int, sizes: list[int], most: int = 40) -> SentBurst:
    """Return a burst of so many bytes of each of some streams."""
    sent = []
    for at, size in enumerate(sizes):
        stream = QuicStream(stream_id=4 * at + 3)
        sent.append((stream, Chunk(4 * at + 3, 100 * at, bytes(size), is_last=at % 2 == 0)))
    built = KERNELS[AES[0]].build(Head(0x41, b"12345678"), number, MOST, most, [chunk for _, chunk in sent])
    return SentBurst.of(number, built, sent, float(number), delivered)


SIZES = st.lists(st.one_of(st.integers(1, 5_000), st.sampled_from([1, 1_100, 1_170])), min_size=1, max_size=4)
BURSTS = st.lists(st.tuples(SIZES, st.integers(0, 3), st.integers(1, 12)), min_size=1, max_size=5)


def books_of(sizes: list[tuple[list[int], int, int]]) -> tuple[SentPackets, dict[int, SentPacket]]:
    """Return bursts with packets of others between them, and the same as packets that are each by itself."""
    number, kept, each = 10, SentPackets({}), dict[int, SentPacket]()
    for of_streams, others, most in sizes:
        burst = burst_of(number, of_streams, most)
        kept.bursts.append(burst)
        each.update({packet.packet_number: packet for packet in burst.packets()})
        number = burst.stop
        for _ in range(others):
            each[number] = kept[number] = SentPacket(number, float(number), 40, delivered, [])
            number += 1
    return kept, each


@given(BURSTS)
def test_who_looks_at_packets_finds_each_by_itself_in_its_order(sizes: list[tuple[list[int], int, int]]) -> None:
    kept, each = books_of(sizes)
    assert kept.first == 10
    assert told(list(kept.values())) == told(list(each.values()))
    assert list(kept) == list(each) == [number for number, _ in kept.items()] == list(kept.keys())
    assert not kept.bursts


@given(BURSTS, st.lists(st.tuples(st.integers(5, 60), st.integers(1, 30)), max_size=4))
def test_what_is_taken_out_is_what_those_numbers_are(
    sizes: list[tuple[list[int], int, int]], ranges: list[tuple[int, int]]
) -> None:
    kept, each = books_of(sizes)
    for start, count in ranges:
        wanted = [each.pop(number) for number in tuple(each) if start <= number < start + count]
        own = kept.take_own(start, start + count)
        bursts = kept.take_bursts(start, start + count)
        found = [*own, *(packet for burst in bursts for packet in burst.packets())]
        assert told(sorted(found, key=lambda packet: packet.packet_number)) == told(wanted)  # type: ignore[arg-type,return-value]
        for burst in bursts:
            packets = burst.packets()
            assert burst.sent_bytes == sum(packet.sent_bytes for packet in packets)
            frames = [frame for packet in packets for frame in plain(packet.frames)]
            assert list(merged(plain(burst.frames))) == list(merged(frames))
        assert kept.first == next(iter(each), None)
    assert told(list(kept.values())) == told(list(each.values()))


def test_what_is_forgotten_is_forgotten_with_its_bursts() -> None:
    kept, each = books_of([([3_000], 1, 12)])
    assert kept.pop(11) is not None
    assert len(kept) == len(each) - 1
    assert 11 not in kept
    del kept[10]
    assert kept[12].packet_number == 12
    kept.bursts.append(burst_of(90, [10]))
    kept.clear()
    assert not kept.bursts
    assert len(kept) == 0

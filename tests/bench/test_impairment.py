"""A bad network is as bad as it was asked to be, and equally bad for the same seed."""

import socket
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bench.impairment import Impairment, Link, relay

MS = 1_000_000
COUNT = 20_000


def through(impairment: Impairment, *, seed: int = 1, size: int = 1200, every_ns: int = MS) -> list[list[int]]:
    link = Link(impairment, seed)
    return [link.enter(size, number * every_ns) for number in range(COUNT)]


def runs_of_loss(outcome: list[list[int]]) -> list[int]:
    runs, length = [], 0
    for times in outcome:
        if times and length:
            runs.append(length)
        length = 0 if times else length + 1
    return runs


def test_a_link_without_impairment_changes_nothing() -> None:
    assert through(Impairment()) == [[number * MS] for number in range(COUNT)]


@pytest.mark.parametrize("burst", [1.0, 8.0])
def test_so_much_is_lost_in_bursts_so_long(burst: float) -> None:
    outcome = through(Impairment(loss=0.1, burst=burst))
    assert sum(not times for times in outcome) / COUNT == pytest.approx(0.1, rel=0.2)
    runs = runs_of_loss(outcome)
    # Single losses run on by chance, too: 1 / (1 - loss) on average.
    assert sum(runs) / len(runs) == pytest.approx(max(burst, 1 / 0.9), rel=0.15)


def test_delay_and_jitter_keep_the_order() -> None:
    outcome = through(Impairment(delay_ms=40, jitter_ms=30))
    times = [each[0] for each in outcome]
    assert times == sorted(times)
    delays = [at - number * MS for number, at in enumerate(times)]
    assert min(delays) >= 40 * MS
    assert max(delays) <= 70 * MS
    assert max(delays) - min(delays) > 5 * MS


def test_a_share_comes_late_and_is_overtaken() -> None:
    times = [each[0] for each in through(Impairment(reordered=0.05, late_ms=20))]
    overtaken = sum(later < earlier for earlier, later in pairwise(times))
    assert overtaken / COUNT == pytest.approx(0.05, rel=0.2)


def test_a_bottleneck_lets_its_rate_through_and_drops_what_finds_its_queue_full() -> None:
    outcome = through(Impairment(rate_bps=4_800_000, queue_ms=100))  # half of what comes
    out = [times[0] for times in outcome if times]
    assert len(out) / COUNT == pytest.approx(0.5, abs=0.02)
    assert {later - earlier for earlier, later in pairwise(out)} == {2 * MS}
    assert max(times[0] - number * MS for number, times in enumerate(outcome) if times) <= 102 * MS


def test_a_bottleneck_that_idles_saves_nothing_up() -> None:
    outcome = through(Impairment(rate_bps=9_600_000), every_ns=10 * MS)
    assert outcome == [[number * 10 * MS + MS] for number in range(COUNT)]


def test_some_come_twice() -> None:
    assert sum(len(times) == 2 for times in through(Impairment(duplicated=0.1))) / COUNT == pytest.approx(0.1, rel=0.2)


@given(
    impairment=st.builds(
        Impairment, loss=st.floats(0, 0.4), reordered=st.floats(0, 1), jitter_ms=st.floats(0, 50), burst=st.just(3.0)
    ),
    seed=st.integers(),
)
def test_the_same_seed_is_the_same_network_and_nothing_comes_before_it_was_sent(
    impairment: Impairment, seed: int
) -> None:
    one, other = Link(impairment, seed), Link(impairment, seed)
    for number in range(100):
        times = one.enter(1000, number * MS)
        assert times == other.enter(1000, number * MS)
        assert all(at >= number * MS for at in times)


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.1}, {"loss": 0.9}, {"burst": 0.5}, {"delay_ms": -1.0}, {"rate_bps": 0.0}, {"reordered": -0.1}]
)
def test_what_no_network_does_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shares|bursts|rate"):
        Impairment(**wrong)


async def test_datagrams_go_both_ways_and_each_client_has_a_port_of_its_own() -> None:
    with trio.fail_after(10), trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        async with relay(server.getsockname(), Impairment(delay_ms=5), Impairment(), seed=1) as between:
            sources = set()
            for name in (b"one", b"two"):
                with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as client:
                    began = trio.current_time()
                    await client.sendto(name, between.address)
                    asked, source = await server.recvfrom(100)
                    assert trio.current_time() - began >= 0.005
                    await server.sendto(asked + b"!", source)
                    assert await client.recvfrom(100) == (name + b"!", between.address)
                    sources.add(source)
            assert len(sources) == 2
            assert between.up.counts.entered == between.down.counts.entered == 2


async def test_a_client_that_is_gone_sends_and_gets_nothing() -> None:
    with (
        trio.fail_after(10),
        trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as server,
        trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as client,
    ):
        await server.bind(("127.0.0.1", 0))
        async with relay(server.getsockname(), Impairment(), Impairment(), seed=1) as between:
            await client.sendto(b"here", between.address)
            _, source = await server.recvfrom(100)
            between.gone |= set(between.clients)
            await client.sendto(b"gone", between.address)
            await server.sendto(b"gone", source)
            await trio.testing.wait_all_tasks_blocked(0.05)
            between.gone.clear()
            await client.sendto(b"back", between.address)
            await server.sendto(b"back", source)
            assert (await server.recvfrom(100))[0] == (await client.recvfrom(100))[0] == b"back"


async def test_a_relay_ends_while_datagrams_arrive() -> None:
    with trio.fail_after(10), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        for _ in range(20):
            async with relay(server.getsockname(), Impairment(), Impairment(), seed=1) as between:
                server.sendto(b"here", between.address)
                await trio.testing.wait_all_tasks_blocked(0.01)
                server.sendto(b"late", server.recvfrom(100)[1])
                await trio.lowlevel.checkpoint()  # woken with the reader, and half the time before it


async def test_a_relay_holds_so_much_and_drops_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.impairment.MAX_WAITING", 3)
    with trio.fail_after(10), trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as client:
        await client.bind(("127.0.0.1", 0))
        async with relay(client.getsockname(), Impairment(delay_ms=60_000), Impairment(), seed=1) as between:
            for _ in range(5):
                await client.sendto(b"early", between.address)
            while between.up.counts.entered < 5:  # noqa: ASYNC110
                await trio.sleep(0.001)
            assert between.up.counts.overflowed == 2


async def test_what_cannot_be_sent_on_is_counted() -> None:
    nowhere = ("127.0.0.1", 0)
    with trio.fail_after(10), trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as client:
        async with relay(nowhere, Impairment(), Impairment(), seed=1) as between:
            await client.sendto(b"lost", between.address)
            while not between.up.counts.unsent:  # noqa: ASYNC110
                await trio.sleep(0.001)

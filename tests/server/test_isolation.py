"""Faults on purpose in a whole node with real media: what breaks is over, and nobody else misses a packet."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed

import signalling.rooms.room
from media.door import Media
from server.client import Publisher, publish, watch
from signalling.identifiers import AccountId, StreamId
from signalling.rooms.registry import Live
from tests.media.test_door import DELTA, KEY
from tests.server.nodes import Site, open_site, open_socket


class Sequence:
    """The numbers of the RTP packets that arrived at one viewer."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def take(self, packet: bytes, at_ns: int) -> None:
        self.numbers.append(int.from_bytes(packet[2:4]))

    def assert_whole(self, at_least: int) -> None:
        assert len(self.numbers) >= at_least
        first = self.numbers[0]
        assert self.numbers == list(range(first, first + len(self.numbers)))


class Broken:
    """The room that is to break, and what a fault needs to get at it."""

    def __init__(self, site: Site, stream: str, owner: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.stream, self.owner, self.monkeypatch = site, StreamId(stream), AccountId(owner), monkeypatch

    @property
    def live(self) -> Live:
        return self.site.running.rooms._registry._running[self.stream]

    @property
    def media(self) -> Media:
        return self.site.running.rooms._media

    def transport(self, *, publishes: bool) -> int:
        members = self.live.room.members
        return next(member.transport for member in members if member.publishes == publishes)


async def settled(sequence: Sequence) -> int:
    """Return how many packets a viewer has got when it has read what was sent before the cut."""
    count = -1
    while count != len(sequence.numbers):
        count = len(sequence.numbers)
        await trio.sleep(0.1)
    return count


def raise_in_the_policy(broken: Broken) -> None:
    step = signalling.rooms.room.step

    def faulty(state, *arguments):  # type: ignore[no-untyped-def]
        if state.owner == broken.owner:
            raise ZeroDivisionError("a bug in the policy")
        return step(state, *arguments)

    broken.monkeypatch.setattr("signalling.rooms.room.step", faulty)


def raise_in_telling(broken: Broken) -> None:
    broken.monkeypatch.setattr(broken.live.audience, "tell", lambda *_: 1 / 0)


def raise_in_showing(broken: Broken) -> None:
    broken.monkeypatch.setattr(broken.live.audience, "show_presence", lambda *_: 1 / 0)


async def send_forever(publisher: Publisher) -> None:
    number = 0
    while True:
        payload = (KEY if number % 20 == 0 else DELTA) + number.to_bytes(4)
        publisher.send("video", payload, timestamp=number * 450, marker=True, at_ns=time.monotonic_ns())
        number += 1
        await trio.sleep(0.005)


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(5):
        # Real sockets have no event to wait for.
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize("fault", [raise_in_the_policy, raise_in_telling, raise_in_showing])
async def test_a_fault_in_a_room_ends_it_and_other_viewers_miss_no_packet(
    fault: Callable[[Broken], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        sound, unlucky = await site.stream(ann), await site.stream(bob)
        whole, cut = Sequence(), Sequence()
        async with (
            publish(site.http, site.url("whip", sound), ann.token, ("video",)) as good,
            publish(site.http, site.url("whip", unlucky), bob.token, ("video",)) as bad,
            watch(site.http, site.url("whep", sound), eve.token, ("video",), whole.take),
            watch(site.http, site.url("whep", unlucky), eve.token, ("video",), cut.take) as victim,
            open_socket(site, eve) as socket,
            trio.open_nursery() as nursery,
        ):
            await socket.ask("join", stream=unlucky)
            nursery.start_soon(send_forever, good)
            nursery.start_soon(send_forever, bad)
            await until(lambda: len(whole.numbers) > 20 and len(cut.numbers) > 20)
            rooms = site.running.rooms
            fault(Broken(site, unlucky, bob.id, monkeypatch))
            status = None if fault is raise_in_showing else 500
            await bob.ask("PUT", f"/streams/{unlucky}/time_limit", {"seconds": 3600}, status)
            await until(lambda: rooms.counters()["rooms"] == 1)
            ended_at, seen = await settled(cut), len(whole.numbers)
            if fault is raise_in_telling:
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.wait_for("stream.ended")
                assert closed.value.reason is not None
                assert closed.value.reason.reason == "internal_error"
                await socket.connection._stream.aclose()  # which its library leaves open when the server closes
            else:
                assert (await socket.wait_for("stream.ended"))["reason"] == "internal_error"
            await until(lambda: victim.ended is not None)
            await until(lambda: len(whole.numbers) > seen + 40)
            assert len(cut.numbers) == ended_at
            whole.assert_whole(60)
            assert rooms.counters()["room_faults"] == 1
            assert site.running.rooms._registry._nursery is not None
            hosts = [task for task in site.running.rooms._registry._nursery.child_tasks if "_host" in task.name]
            assert len(hosts) == 1
            await eve.ask("GET", f"/streams/{unlucky}", status=410)
            assert (await eve.ask("GET", f"/streams/{sound}"))["card"]["state"] == "live"
            again = await site.stream(bob)
            assert again != unlucky
            nursery.cancel_scope.cancel()


def kill_it(broken: Broken) -> None:
    broken.media.close(broken.transport(publishes=False), "killed")  # type: ignore[arg-type]


def raise_in_its_engine(broken: Broken) -> None:
    peer = broken.media._endpoints.by_id[broken.transport(publishes=False)].peer  # type: ignore[index]
    broken.monkeypatch.setattr(peer, "receive_untrusted", lambda *_: 1 / 0)
    broken.monkeypatch.setattr(peer, "close", lambda *_: 1 / 0)


@pytest.mark.parametrize("fault", [kill_it, raise_in_its_engine])
async def test_the_end_of_one_transport_is_no_affair_of_the_others_in_its_room(
    fault: Callable[[Broken], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        stream = await site.stream(ann)
        whole, cut = Sequence(), Sequence()
        async with (
            publish(site.http, site.url("whip", stream), ann.token, ("video",)) as streamer,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(send_forever, streamer)
            await until(lambda: site.running.rooms._media.counters()["transports"] == 1)
            async with (
                watch(site.http, site.url("whep", stream), eve.token, ("video",), cut.take) as eves,
                watch(site.http, site.url("whep", stream), bob.token, ("video",), whole.take),
            ):
                await until(lambda: len(whole.numbers) > 20 and len(cut.numbers) > 20)
                fault(Broken(site, stream, ann.id, monkeypatch))
                if fault is raise_in_its_engine:
                    await eves.socket.send(bytes(20))  # no check, so that the engine gets to see it
                    await until(lambda: site.running.rooms._media.counters()["transport_faults"])
                await until(lambda: site.running.rooms._media.counters()["transports"] == 2)
                ended_at, seen = await settled(cut), len(whole.numbers)
                await until(lambda: len(whole.numbers) > seen + 40)
                assert len(cut.numbers) == ended_at
                whole.assert_whole(60)
                await until(lambda: site.running.rooms._registry._running[StreamId(stream)].room.watching == {bob.id})
                assert site.running.rooms.counters()["room_faults"] == 0
            nursery.cancel_scope.cancel()

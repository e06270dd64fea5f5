"""Devices on a bad network and a node that is killed at any step: nothing acknowledged is lost, nothing shown twice.

One seed determines one run. Requests and answers get lost, devices are away and come back, some begin anew with
nothing, and the process dies within writes; what a device has not heard an answer to it sends again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from server.events.feed import Feed
from server.talk import belonging, opening
from server.talk.belonging import Doing
from server.talk.messenger import Messenger
from server.talk.opening import Shape
from server.talk.pace import Paces
from server.talk.reading import Edges
from server.talk.showing import fill
from signalling.identifiers import AccountId, Actor
from signalling.messenger.model import ConversationId
from signalling.messenger.quotas import Quotas
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from tests.money.mortal import Killed, MortalStore
from tests.money.test_tips import open_accounts

NAMES = ("ann", "bob", "eve")
GROUP = ConversationId("c_group")
DIRECT = ConversationId("c_direct")
MEMBERS = {GROUP: NAMES, DIRECT: ("ann", "bob")}
STEPS = 150


class Lost(Exception):
    """A request or its answer did not arrive."""


class Clock:
    """A clock that moves a little with each look."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def wall_ms(self) -> int:
        self.ms += 7
        return self.ms

    def now_ns(self) -> int:
        return self.wall_ms() * 1_000_000


class NoRooms:
    """Nobody is shown anything that only matters now."""

    def show_now(self, account: AccountId, event: object, key: str) -> None:
        return

    @property
    def sessions(self) -> NoRooms:
        return self

    def is_here(self, account: AccountId) -> bool:
        return False


class Node:
    """A messenger over a file; `restart` is what comes after a kill."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self.kills = 0
        self.restart()

    def restart(self) -> None:
        self.store = MortalStore(self._path)
        self.feed = Feed(self.store, self._clock.wall_ms, fill)
        rooms = cast(Rooms, NoRooms())
        paces = Paces(1e6, 10**6)
        self.messenger = Messenger(self.store, self._clock, rooms, Quotas(), paces, self.feed)

    async def survive(self, doing: Callable[[], Awaitable[Any]], dice: random.Random) -> Any:
        """Do something on the way of which the process may die, and the request or its answer get lost."""
        fate = dice.random()
        if fate < 0.1:
            raise Lost
        if fate < 0.3:
            self.store.count(dice.randrange(1, 12))
        try:
            answer = await doing()
        except Killed:
            self.kills += 1
            self.store.close()
            self.restart()
            raise Lost from None
        finally:
            self.store.count(0)
        if fate > 0.9:
            raise Lost
        return answer


@dataclass
class Device:
    """One of somebody's devices: what it shows, up to which event it has heard, and what it has not sent yet."""

    name: str
    number: int
    heard: int = 0
    shown: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: {id: {} for id in MEMBERS})
    unsent: list[tuple[ConversationId, str]] = field(default_factory=list)
    acknowledged: dict[str, tuple[str, int]] = field(default_factory=dict)
    written: int = 0

    @property
    def actor(self) -> Actor:
        return Actor(AccountId(self.name), self.name)

    def write(self, conversation: ConversationId) -> None:
        self.written += 1
        self.unsent.append((conversation, f"{self.name} {self.number} {self.written}"))

    async def send(self, node: Node, dice: random.Random) -> None:
        while self.unsent:
            conversation, text = self.unsent[0]
            sent = await node.survive(
                lambda conversation=conversation, text=text: node.messenger.send(  # type: ignore[misc]
                    self.actor, conversation, text, text, None
                ),
                dice,
            )
            self.acknowledged[text] = (conversation, sent.seq)
            self.unsent.pop(0)

    async def listen(self, node: Node, dice: random.Random) -> None:
        page = await node.survive(lambda: node.feed.page(self.actor, self.heard, dice.randrange(1, 20)), dice)
        for entry in page.events:
            assert entry.id > self.heard
            self.heard = entry.id
            if entry.type == "message.created":
                assert entry.data["seq"] not in self.shown[entry.subject], "shown twice"
            if entry.type in ("message.created", "message.changed") and entry.data["message"] is not None:
                self.shown[entry.subject][entry.data["seq"]] = entry.data["message"]
        self.heard = max(self.heard, page.next)

    async def change(self, node: Node, dice: random.Random) -> None:
        conversation = dice.choice([id for id, members in MEMBERS.items() if self.name in members])
        mine = [seq for seq, each in self.shown[conversation].items() if each["from"]["id"] == self.name]
        newest = max(self.shown[conversation], default=0)
        match dice.randrange(3):
            case 0 if mine:
                await node.survive(
                    lambda: node.messenger.edit(self.actor, conversation, dice.choice(mine), "new"), dice
                )
            case 1 if mine:
                seq = dice.choice(mine)
                await node.survive(lambda: node.messenger.erase(self.actor, conversation, seq, for_all=True), dice)
            case _:
                await node.survive(
                    lambda: node.messenger.mark(self.actor, conversation, newest, newest, private=False), dice
                )


async def begin(node: Node) -> None:
    node.store.migrate()
    await node.store.write(open_accounts, *NAMES)
    await node.store.write(opening.open_direct, DIRECT, AccountId("ann"), "bob", 1)
    await node.store.write(opening.open_group, GROUP, AccountId("ann"), Shape("All", history="all"), 1)
    for name in NAMES[1:]:
        await node.store.write(belonging.invite, Doing(AccountId("ann"), GROUP, 1), name)
        await node.store.write(belonging.join, Doing(AccountId(name), GROUP, 1))


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_gets_lost_and_dies_all_devices_show_what_was_acknowledged_once(
    seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    node = Node(tmp_path / "db", Clock())
    await begin(node)
    devices = [Device(name, number) for name in NAMES for number in (1, 2)]
    for _ in range(STEPS):
        device = dice.choice(devices)
        try:
            match dice.randrange(10):
                case 0 | 1 | 2:
                    device.write(dice.choice([id for id, members in MEMBERS.items() if device.name in members]))
                    await device.send(node, dice)
                case 3 | 4:
                    await device.send(node, dice)
                case 5 | 6 | 7:
                    await device.listen(node, dice)
                case 8:
                    await device.change(node, dice)
                case _:
                    if dice.random() < 0.2:  # it begins anew, from nothing
                        device.heard, device.shown = 0, {id: {} for id in MEMBERS}
        except (Lost, Refused):
            continue
    await settle(node, devices, dice)
    assert node.kills > 0
    await check(node, devices)
    node.store.close()


async def settle(node: Node, devices: list[Device], dice: random.Random) -> None:
    """Let the network come back, and everybody send and hear what is left."""
    with trio.fail_after(60):
        for device in devices:
            while device.unsent:
                try:
                    await device.send(node, dice)
                except Lost:
                    continue
        for device in devices:
            head = (await node.feed.page(device.actor, 0, 1)).next
            while True:
                before = device.heard
                try:
                    await device.listen(node, dice)
                except Lost:
                    continue
                if device.heard == before >= head:
                    break


async def check(node: Node, devices: list[Device]) -> None:
    for conversation, members in MEMBERS.items():
        truth: list[Any] = []
        for name in members:
            actor = Actor(AccountId(name), name)
            page = await node.messenger.messages(actor, conversation, Edges(None, None, 1000))
            seen = [(each.seq, each.sender.id, each.text, each.erased_at) for each in page.messages]
            truth = truth or seen
            assert seen == truth, "all see the same"
            assert [seq for seq, *_ in seen] == list(range(1, page.head + 1)), "numbers without a gap"
            mine = await node.messenger.show(actor, conversation)
            unread = [seq for seq, sender, _, erased in seen if sender != name and not erased and seq > mine.mine.seen]
            assert mine.unread == len(unread)
        texts = [text for _, _, text, _ in truth if text not in ("", "new")]
        assert len(texts) == len(set(texts)), "written twice"
        for device in devices:
            if device.name not in members:
                continue
            shown = [
                (seq, each["from"]["id"], each["text"], each["erased_at"])
                for seq, each in sorted(device.shown[conversation].items())
            ]
            assert shown == truth
            for text, (where, seq) in device.acknowledged.items():
                if where == conversation:
                    assert truth[seq - 1][1] == device.name
                    assert truth[seq - 1][2] in (text, "new", "")
    count = sum(device.written for device in devices)
    assert sum(len(device.acknowledged) for device in devices) == count

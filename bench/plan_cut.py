"""A cut that has to hold on every node of a tree, simulated: messages get lost, clocks differ, links break.

The rules, which make it fail closed:

- A node forwards only while it holds a lease. It asks its parent for one again and again; what is granted counts from
  the moment at which it was asked for, by the asking node's own clock, less what two clocks may differ by. No clocks
  are compared. A parent grants no longer than its own lease lasts, and remembers by its own clock how long that may be.
- A cut is a new epoch. A node that hears of it, from its parent's word or with a grant, shuts out who lost the right
  and passes it on, again and again, until each child is settled: it has said that all below it are, or what was granted
  to it under the former epoch has run out.
- A node says that it is settled once its own fence has passed and all its children are. When the origin is, the cut is
  confirmed: nobody who lost the right gets a packet any more, whatever was lost.

Time is real time in ms; each node's clock runs at a rate of its own.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from bench.plan_tree import Tree

CUT_AT_MS = 3_000.0  # when all have had leases for a while
LATER_MS = 1_000.0  # simulated after the confirmation


@dataclass(frozen=True, slots=True)
class Network:
    """A link between two nodes: one way takes `delay_ms` and up to `jitter_ms` more; this share is lost."""

    delay_ms: float = 20.0
    jitter_ms: float = 20.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a lease lasts, how often one is asked for and a cut is repeated; by how much a clock may be off."""

    lease_ms: float = 1_000.0
    renew_ms: float = 150.0
    repeat_ms: float = 50.0
    fence_ms: float = 2.0
    drift: float = 2e-4


@dataclass(slots=True)
class _Node:
    """One node: `old_until` is how long it may send under the former epoch, by real time; -inf for never."""

    rate: float
    parent: int | None
    children: tuple[int, ...]
    lease_until: float = -math.inf
    old_until: float = -math.inf
    applied_at: float = math.inf
    settled_at: float = math.inf
    granted: dict[int, float] = field(default_factory=dict)  # under the former epoch, to each child
    settled: set[int] = field(default_factory=set)
    lapses: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one cut (ms after it). `last_ms` is when each node last sent to those without the right."""

    confirmed_ms: float
    last_ms: tuple[float, ...]
    lapses: int  # times that a node had to stop because no lease came
    messages: int
    simulated_ms: float

    @property
    def leaks(self) -> int:
        """How many nodes sent to those without the right after the confirmation."""
        return sum(last > self.confirmed_ms for last in self.last_ms)


class Cut:
    """One run; `broken` are nodes that nothing reaches from their parents, nor the other way, from a moment on."""

    def __init__(
        self, tree: Tree, network: Network, rules: Rules, seed: int, broken: dict[int, float] | None = None
    ) -> None:
        self._network, self._rules, self._random = network, rules, Random(seed)
        self._broken = broken or {}
        below: list[list[int]] = [[] for _ in tree.parents]
        for child, parent in enumerate(tree.parents):
            if parent is not None:
                below[parent].append(child)
        self._nodes = [
            _Node(1 + self._random.uniform(-rules.drift, rules.drift), parent, tuple(children))
            for parent, children in zip(tree.parents, below, strict=True)
        ]
        origin = self._nodes[0]
        origin.lease_until = origin.old_until = math.inf
        self._now, self._messages = 0.0, 0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def run(self) -> Outcome:
        """Simulate until a while after the confirmation."""
        for number in range(1, len(self._nodes)):
            self._after(self._random.uniform(0, self._rules.renew_ms), partial(self._ask, number))
        self._after(CUT_AT_MS, lambda: self._apply(0))
        end = math.inf
        while self._events and self._events[0][0] <= end:
            self._now, _, act = heapq.heappop(self._events)
            act()
            end = min(end, self._nodes[0].settled_at + LATER_MS)
        last = tuple(self._last(node) - CUT_AT_MS for node in self._nodes)
        lapses = sum(node.lapses for node in self._nodes)
        return Outcome(self._nodes[0].settled_at - CUT_AT_MS, last, lapses, self._messages, self._now)

    def _last(self, node: _Node) -> float:
        return min(node.old_until, node.applied_at + self._rules.fence_ms)

    # -- time and messages ---------------------------------------------------------------------------------------------

    def _after(self, delay_ms: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + delay_ms, next(self._order), act))

    def _send(self, child: int, act: Callable[[], None]) -> None:
        """Let something arrive over the link between a node and its parent, or not."""
        self._messages += 1
        lost = self._random.random() < self._network.loss or self._now >= self._broken.get(child, math.inf)
        if not lost:
            self._after(self._network.delay_ms + self._random.uniform(0, self._network.jitter_ms), act)

    # -- leases --------------------------------------------------------------------------------------------------------

    def _ask(self, number: int) -> None:
        node, asked_at = self._nodes[number], self._now
        if node.lease_until < self._now and node.lease_until != -math.inf:
            node.lapses += 1
            node.lease_until = -math.inf
        self._send(number, lambda: self._grant(number, asked_at))
        self._after(self._rules.renew_ms / node.rate, lambda: self._ask(number))

    def _grant(self, number: int, asked_at: float) -> None:
        parent = self._parent(number)
        lasts = min(self._rules.lease_ms, (parent.lease_until - self._now) * parent.rate)
        if lasts <= 0:
            return
        is_new = parent.applied_at <= self._now
        if not is_new:
            until = self._now + lasts / parent.rate
            parent.granted[number] = max(parent.granted.get(number, 0.0), until)
        self._send(number, lambda: self._take(number, asked_at, lasts, is_new=is_new))

    def _take(self, number: int, asked_at: float, lasts: float, *, is_new: bool) -> None:
        node = self._nodes[number]
        until = asked_at + lasts * (1 - 2 * self._rules.drift) / node.rate
        if is_new:
            self._apply(number)
        elif node.applied_at > self._now:
            node.old_until = max(node.old_until, until)
        node.lease_until = max(node.lease_until, until)

    # -- the cut -------------------------------------------------------------------------------------------------------

    def _apply(self, number: int) -> None:
        node = self._nodes[number]
        if node.applied_at <= self._now:
            return
        node.applied_at = self._now
        for child in node.children:
            self._after(max(node.granted.get(child, 0.0) - self._now, 0.0), partial(self._settle, child))
            self._tell(child)
        self._after(self._rules.fence_ms, lambda: self._look(number))

    def _tell(self, child: int) -> None:
        parent = self._parent(child)
        if child not in parent.settled:
            self._send(child, lambda: self._hear(child))
            self._after(self._rules.repeat_ms, lambda: self._tell(child))

    def _hear(self, number: int) -> None:
        self._apply(number)
        if self._nodes[number].settled_at <= self._now:
            self._send(number, lambda: self._settle(number))

    def _settle(self, child: int) -> None:
        number = self._nodes[child].parent
        assert number is not None, "the origin is nobody's child"
        self._nodes[number].settled.add(child)
        self._look(number)

    def _look(self, number: int) -> None:
        node = self._nodes[number]
        is_fenced = self._now >= node.applied_at + self._rules.fence_ms
        if is_fenced and node.settled_at == math.inf and len(node.settled) == len(node.children):
            node.settled_at = self._now
            if number:
                self._send(number, lambda: self._settle(number))

    def _parent(self, number: int) -> _Node:
        parent = self._nodes[number].parent
        assert parent is not None, "the origin asks nobody"
        return self._nodes[parent]

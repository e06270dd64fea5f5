"""How large a tree of relaying nodes has to be for so many viewers, and what is on each of its links.

Pure arithmetic on what was measured on one core. A node is a machine; viewers sit on the leaves alone, nodes above
them relay one copy of the stream to each node below.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """What one viewer of one stream costs."""

    packet_us: float  # of a core for each packet
    packets_per_s: float
    viewer_bps: float  # on the wire
    source_bps: float  # of all layers together: what one node sends another
    viewer_kb: float  # of memory, the signalling socket with it
    join_ms: float  # of the node's loop, which is one core


@dataclass(frozen=True, slots=True)
class Machine:
    """One node: cores that forward, and its network; `use` is the share of both that is planned with."""

    cores: int
    network_bps: float
    use: float

    def viewers(self, costs: Costs) -> int:
        """Return how many it carries."""
        return int(min(self.by_cores(costs), self.by_network(costs)))

    def by_cores(self, costs: Costs) -> float:
        """Return how many its cores carry."""
        return self.use * self.cores * MEGA / (costs.packet_us * costs.packets_per_s)

    def by_network(self, costs: Costs) -> float:
        """Return how many its network carries."""
        return self.use * self.network_bps / costs.viewer_bps


@dataclass(frozen=True, slots=True)
class Tree:
    """All nodes: the parent of each (the first is the origin and has none), and how many viewers each serves."""

    parents: tuple[int | None, ...]
    viewers: tuple[int, ...]

    @property
    def leaves(self) -> tuple[int, ...]:
        """The nodes that serve viewers."""
        return tuple(node for node, count in enumerate(self.viewers) if count)

    @property
    def depth(self) -> int:
        """How many links a packet crosses on its way from the origin to the farthest leaf."""
        return max(self.distance(node) for node in range(len(self.parents)))

    def distance(self, node: int) -> int:
        """Return how many links away from the origin a node is."""
        links, parent = 0, self.parents[node]
        while parent is not None:
            links, parent = links + 1, self.parents[parent]
        return links

    def children(self) -> Counter[int]:
        """Return how many nodes are below each, directly."""
        return Counter(parent for parent in self.parents if parent is not None)

    def below(self, node: int) -> list[int]:
        """Return a node and all that get their packets through it."""
        found = {node}
        for child, parent in enumerate(self.parents):  # parents come before their children
            if parent in found:
                found.add(child)
        return sorted(found)


def grow(viewers: int, of_a_node: int, fanout: int) -> Tree:
    """Return the flattest tree of nodes that serve so many viewers each, and so many nodes below each at most.

    Raises ValueError where a node carries nobody.
    """
    if of_a_node < 1 or fanout < 2:
        raise ValueError("a node has to carry one viewer, and two nodes below it")
    widths = [max(-(-viewers // of_a_node), 1)]
    while widths[0] > 1:
        widths.insert(0, -(-widths[0] // fanout))
    parents: list[int | None] = [None]
    above = [0]
    for width in widths[1:]:
        row = range(len(parents), len(parents) + width)
        parents += [above[place * len(above) // width] for place in range(width)]
        above = list(row)
    share = [viewers * (place + 1) // len(above) - viewers * place // len(above) for place in range(len(above))]
    return Tree(tuple(parents), tuple([0] * (len(parents) - len(above)) + share))


@dataclass(frozen=True, slots=True)
class Load:
    """What the busiest node of a kind sends, and how much of its cores that takes."""

    nodes: int
    sends_bps: float
    cores: float


def loads(tree: Tree, costs: Costs) -> dict[str, Load]:
    """Return the load of the origin, of the relays between and of the leaves, as far as there are any."""
    children, found = tree.children(), {}
    packets = costs.packets_per_s * costs.source_bps / costs.viewer_bps
    kinds: dict[str, list[int]] = {"origin": [0], "relay": [], "leaf": []}
    for node in range(1, len(tree.parents)):
        kinds["leaf" if tree.viewers[node] else "relay"].append(node)
    for kind, nodes in kinds.items():
        if nodes:
            viewers, copies = max(tree.viewers[node] for node in nodes), max(children[node] for node in nodes)
            sends = viewers * costs.viewer_bps + copies * costs.source_bps
            spent = (viewers * costs.packets_per_s + copies * packets) * costs.packet_us / MEGA
            found[kind] = Load(len(nodes), sends, spent)
    return found

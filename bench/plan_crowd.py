"""How soon a crowd sees its picture, simulated: a million who come at once, and those of a node that has failed.

Each leaf admits one after the other, in the time that a join was measured to take; a stream that a leaf does not have
yet comes down the tree first, and the picture then is in the leaf's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.plan_tree import Tree

Times = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ways:
    """How far away things are (ms): a viewer from its leaf, and a node from the next, there and back."""

    viewer_ms: float = 40.0
    node_ms: float = 60.0


def wait_for_turn(arrivals_ms: Times, service_ms: float) -> Times:
    """Return when each is admitted by a leaf that takes so long for each, first come, first served."""
    order = np.arange(len(arrivals_ms)) * service_ms
    # Lindley's recursion: who comes is served when the last is done, or at once.
    starts: Times = np.maximum.accumulate(np.sort(arrivals_ms) - order) + order
    return starts + service_ms


def storm(tree: Tree, within_s: float, join_ms: float, ways: Ways, seed: int) -> Times:
    """Return how long after asking each viewer has a picture (ms), when all come within a time, to leaves by chance."""
    random = np.random.default_rng(seed)
    leaves = tree.leaves
    counts = random.multinomial(sum(tree.viewers), np.full(len(leaves), 1 / len(leaves)))
    found = []
    for leaf, count in zip(leaves, counts, strict=True):
        arrivals = np.sort(random.uniform(0, within_s * 1e3, count))
        admitted = wait_for_turn(arrivals, join_ms)
        if count:  # the first has the stream fetched
            admitted = np.maximum(admitted, admitted[0] + tree.distance(leaf) * ways.node_ms)
        found.append(admitted - arrivals + ways.viewer_ms)
    return np.sort(np.concatenate(found))


@dataclass(frozen=True, slots=True)
class Failure:
    """What came of a node's failure: whom it hit, when each saw a picture again (ms), how full the others then were."""

    viewers: int
    back_ms: Times
    others_use: float


def leaf_fails(tree: Tree, notice_ms: float, join_ms: float, of_a_node: int, ways: Ways, seed: int) -> Failure:
    """Let the fullest leaf end: its viewers notice after once to twice `notice_ms`, and go to the others by chance."""
    random = np.random.default_rng(seed)
    failed = max(tree.leaves, key=lambda leaf: tree.viewers[leaf])
    others = [leaf for leaf in tree.leaves if leaf != failed]
    if not others:
        return Failure(tree.viewers[failed], np.full(tree.viewers[failed], np.inf), np.inf)
    counts = random.multinomial(tree.viewers[failed], np.full(len(others), 1 / len(others)))
    back = [
        wait_for_turn(random.uniform(notice_ms, 2 * notice_ms, count), join_ms) + ways.viewer_ms for count in counts
    ]
    fullest = max(tree.viewers[leaf] + int(count) for leaf, count in zip(others, counts, strict=True))
    return Failure(tree.viewers[failed], np.sort(np.concatenate(back)), fullest / of_a_node)


def relay_fails(tree: Tree, lease_ms: float, ways: Ways, seed: int) -> Failure:
    """Let the relay with the most viewers below it end: its children stop when no lease comes, and ask another."""
    random = np.random.default_rng(seed)
    relays = [node for node in range(1, len(tree.parents)) if not tree.viewers[node]]
    if not relays:
        return Failure(0, np.zeros(0), 0.0)
    hit = max(([leaf for leaf in tree.below(relay) if tree.viewers[leaf]] for relay in relays), key=len)
    # A lease was asked for some time ago; the origin names another parent; the stream comes from that.
    back = [np.full(tree.viewers[leaf], random.uniform(0.5, 1) * lease_ms + 2 * ways.node_ms) for leaf in hit]
    return Failure(sum(tree.viewers[leaf] for leaf in hit), np.sort(np.concatenate(back)), 0.0)

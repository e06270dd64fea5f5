"""Followers of the log who hear the same, with the sockets of those that are written to together.

Where to write is looked up once, and anew only after some connection has ended; who can take nothing just now is known
to the `Fanout` itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import trio

from server.connections.fanout import Fanout, Rows
from signalling.sessions.session import Session
from signalling.wire.messages import Encoding

if TYPE_CHECKING:
    from server.connections.outbox import SocketOutbox


@dataclass(slots=True, eq=False)
class Follower:
    """A session that follows the log as `account` (None: all of it), and has everything up to `position`.

    While it is told, `position` is where it began to be. `behind` is set once it has to read for itself. It is told
    with those of the same `lane`.
    """

    session: Session
    account: str | None
    position: int
    lane: int = 0
    behind: trio.Event = field(default_factory=trio.Event)


class Part(NamedTuple):
    """Those of a crowd who are written to in one call: `rows` of `fanout`, and whose they are."""

    fanout: Fanout
    encoding: Encoding
    rows: Rows
    followers: Sequence[Follower]
    outboxes: Sequence[SocketOutbox]
    generation: int


class Crowd:
    """Followers, each named once; those `apart` are written to one by one."""

    __slots__ = ("_apart", "_parts", "followers")

    def __init__(self, followers: Sequence[Follower]) -> None:
        self.followers = followers
        self._parts: list[Part] | None = None
        self._apart: list[Follower] = []

    def parts(self) -> tuple[Sequence[Part], Sequence[Follower]]:
        """Return who is written to together, and who apart; who has no connection is among neither."""
        parts = self._parts
        if parts is None or any(part.fanout.generation != part.generation for part in parts):
            self._apart = []
            parts = self._parts = list(self._look())
        return parts, self._apart

    def _look(self) -> Iterator[Part]:
        found: dict[tuple[Fanout, Encoding], tuple[list[Follower], list[SocketOutbox]]] = {}
        for follower in self.followers:
            outbox = follower.session.outbox
            if outbox is None:
                continue
            if outbox.fanout is None:
                self._apart.append(follower)
                continue
            # Nobody else names a Fanout as what writes to it.
            fanout, socket = cast(Fanout, outbox.fanout), cast("SocketOutbox", outbox)
            followers, outboxes = found.setdefault((fanout, follower.session.encoding), ([], []))
            followers.append(follower)
            outboxes.append(socket)
        for (fanout, encoding), (followers, outboxes) in found.items():
            rows = np.array([outbox.row for outbox in outboxes], dtype=np.int64)
            yield Part(fanout, encoding, rows, followers, outboxes, fanout.generation)

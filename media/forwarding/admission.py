"""Who may receive: the one writer of the admission columns, which the kernel reads inline on every packet.

A room requires, a participant holds; a packet passes when the holder has all that its room requires; what lapses,
lapses by itself. A change is a few stores, in an order that never admits more than the old or the new state does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from media.forwarding.tables import FOREVER, Tables

__all__ = ["FOREVER", "NOTHING", "Admission", "Grant", "Holding"]


class Grant(IntFlag):
    """What a participant holds and a room requires."""

    WELCOME = 1  # has an account and is not ejected
    TICKET = 2
    CHOSEN = 4  # the two of a one-to-one
    ENTITLED = 8  # meets a private stream's rules


NOTHING = Grant(0)


@dataclass(frozen=True, slots=True)
class Holding:
    """What a viewer holds before `until_ns` (monotonic), and what it `keeps` from then on.

    Without `keeps` an ex-holder of a ticket would be locked out of an open room.
    """

    holds: Grant
    until_ns: int = FOREVER
    keeps: Grant = NOTHING

    def joined(self, other: Holding) -> Holding:
        """Return what either holds, until the earlier end, and then what both keep."""
        until_ns = min(self.until_ns, other.until_ns)
        return Holding(self.holds | other.holds, until_ns, self.keeps & other.keeps)


class Admission:
    """Writes the admission columns of one node's tables; every method is a few stores and never waits."""

    def __init__(self, tables: Tables) -> None:
        self._rooms, self._transports, self._tracks = tables.rooms, tables.transports, tables.tracks

    def require(self, room: int, requires: Grant) -> None:
        """Let only those through who hold all of `requires`."""
        if int(self._rooms["requires"][room]) & ~int(requires):
            self._rooms["opened_ns"][room] = time.monotonic_ns()  # first: see fanout.start_subscription
        self._rooms["requires"][room] = int(requires)

    def require_for_layer(self, layer: int, requires: Grant, from_spatial: int = 0) -> None:
        """Let a layer of simulcast only through to those who hold all of `requires` beside what the room requires.

        From its spatial layer `from_spatial` on, if it has several within itself. Of two stores the first is the one
        after which nobody has more than before or after both.
        """
        if not requires:
            self._tracks["layer_requires"][layer] = 0
        self._tracks["reserved_from"][layer] = from_spatial
        self._tracks["layer_requires"][layer] = int(requires)

    def open_until(self, room: int, until_ns: int) -> None:
        """Let nothing through from `until_ns` on."""
        now_ns = time.monotonic_ns()
        if self._rooms["open_until"][room] <= now_ns < until_ns:
            self._rooms["opened_ns"][room] = now_ns
        self._rooms["open_until"][room] = until_ns

    def hold(self, transport: int, holding: Holding) -> None:
        """Replace what a viewer's transport holds.

        The kernel reads between the stores. Each state on the way is within the old or the new one, so that nobody
        receives for a moment; and it holds what both hold, so that nobody whose right goes on misses a packet.
        """
        row = self._transports
        holds = int(holding.holds)
        keeps = holds if holding.until_ns == FOREVER else int(holding.keeps)
        row["holds"][transport] = int(row["holds"][transport]) & holds
        # `keeps` must not count earlier than both states say: the later of the two ends goes with it.
        if holding.until_ns < row["until"][transport]:
            row["keeps"][transport] = keeps
            row["until"][transport] = holding.until_ns
        else:
            row["until"][transport] = holding.until_ns
            row["keeps"][transport] = keeps
        row["holds"][transport] = holds

    def held_by(self, transport: int, now_ns: int) -> Grant:
        """Return what a viewer's transport holds at a moment."""
        row = self._transports[transport]
        return Grant(int(row["holds"] if now_ns < row["until"] else row["keeps"]))

    def held_by_each(self, transports: npt.NDArray[np.int64], now_ns: int) -> list[Grant]:
        """Return what each of many viewers' transports holds at a moment."""
        until, holds, keeps = (self._transports[name][transports] for name in ("until", "holds", "keeps"))
        return [Grant(held) for held in np.where(now_ns < until, holds, keeps).tolist()]

    def reaches(self, transport: int, now_ns: int) -> bool:
        """Whether a transport has all that its room requires at a moment, as the kernel judges it.

        Publishers are sent feedback alone, for which nothing is required.
        """
        if self._transports["publishes"][transport]:
            return True
        room = self._rooms[int(self._transports["room"][transport])]
        return now_ns < room["open_until"] and not int(room["requires"]) & ~self.held_by(transport, now_ns)

    def next_lapse_ns(self, transport: int, now_ns: int) -> int:
        """Return when a viewer's rights, or its room's time, end by themselves next."""
        row = self._transports[transport]
        ends = (int(row["until"]), int(self._rooms["open_until"][int(row["room"])]))
        return min((end_ns for end_ns in ends if end_ns > now_ns), default=FOREVER)

    def publish_until(self, transport: int, until_ns: int) -> None:
        """Accept a publisher's packets only before `until_ns`."""
        self._transports["publish_until"][transport] = until_ns

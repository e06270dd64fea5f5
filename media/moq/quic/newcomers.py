"""Connections that have no session yet: how many there may be, of everyone and of one network."""

from __future__ import annotations

from collections import Counter

# 100 MB at the most, and who came first goes first: within the few round trips of a handshake nobody can bring so many.
MAX_NEWCOMERS = 1_024
MAX_OF_A_NETWORK = 256  # a crowd behind one address joins within seconds; what waits for ever is no crowd


class Newcomers:
    """Who is on the way in, by number, those that came first in front."""

    def __init__(self) -> None:
        self._networks: dict[int, str] = {}
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._networks)

    def has_room_for(self, network: str) -> bool:
        """Whether one more of a network may come."""
        return self._of[network] < MAX_OF_A_NETWORK

    def enter(self, number: int, network: str) -> int | None:
        """Take one in; returns the number of the one that has to go for it, if one has."""
        oldest = next(iter(self._networks)) if len(self._networks) >= MAX_NEWCOMERS else None
        if oldest is not None:
            self.leave(oldest)
        self._networks[number] = network
        self._of[network] += 1
        return oldest

    def leave(self, number: int) -> None:
        """Let go of one that is in, or will never be; once is enough."""
        network = self._networks.pop(number, None)
        if network is not None:
            self._of[network] -= 1
            if not self._of[network]:
                del self._of[network]

"""What a session may do, as the relay asks whoever decides it."""

from __future__ import annotations

from typing import Protocol


class Rights(Protocol):
    """What a session may do; asked again and again, so that it may change at any moment."""

    @property
    def home(self) -> str | None:
        """The broadcast that it came for, None when it came for none in particular."""

    def is_pending(self, path: str) -> bool:
        """Whether it is still being found out what it may watch: requests wait for `Peer.review` or `Peer.dismiss`."""

    def may_publish(self, path: str) -> bool:
        """Whether it may announce this broadcast."""

    def may_watch(self, path: str) -> bool:
        """Whether it may hear of this broadcast and subscribe to it."""

    def admits(self, path: str) -> bool:
        """Whether an object of this broadcast may be written to it now."""

    def admits_best(self, path: str) -> bool:
        """Whether an object of what is reserved of this broadcast may be written to it now."""

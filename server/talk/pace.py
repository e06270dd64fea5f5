"""How fast one account may write, change things, and reach people whom it does not know."""

from __future__ import annotations

import trio

from server.web.rates import TokenBuckets
from signalling.refusals import Refused

CHANGES_PER_S, CHANGES_BURST = 10.0, 100  # edits, reactions, markers and searches: what a person taps at most
REACHES_PER_S, REACHES_BURST = 1 / 20, 60  # new conversations and invitations: enough to invite a class at once
RINGS_PER_S, RINGS_BURST = 1 / 30, 4  # of one account in one conversation: who does not answer has heard it
CALLS_PER_S, CALLS_BURST = 1 / 10, 20  # of one account, whomever it calls


class Paces:
    """Token buckets by account, for messages as they are set; each call takes one or raises Refused("too_fast")."""

    def __init__(self, messages_per_s: float, messages_burst: int) -> None:
        self._writes = TokenBuckets(messages_per_s, messages_burst)
        self._changes = TokenBuckets(CHANGES_PER_S, CHANGES_BURST)
        self._reaches = TokenBuckets(REACHES_PER_S, REACHES_BURST)
        self._rings = TokenBuckets(RINGS_PER_S, RINGS_BURST)
        self._calls = TokenBuckets(CALLS_PER_S, CALLS_BURST)

    @property
    def refused(self) -> int:
        """How often somebody was too fast."""
        return self._writes.refused + self._changes.refused + self._reaches.refused

    def write(self, account: str) -> None:
        """Write one message."""
        _take(self._writes, account)

    def change(self, account: str) -> None:
        """Change one thing."""
        _take(self._changes, account)

    def reach(self, account: str) -> None:
        """Reach one person."""
        _take(self._reaches, account)

    @property
    def unrung(self) -> int:
        """How often somebody called too often."""
        return self._rings.refused + self._calls.refused

    def ring(self, account: str, conversation: str) -> None:
        """Call the others of a conversation once."""
        _take(self._rings, f"{account} {conversation}")
        _take(self._calls, account)


def _take(buckets: TokenBuckets, account: str) -> None:
    wait_s = buckets.take(account, trio.current_time())
    if wait_s:
        raise Refused("too_fast", retry_after_ms=int(wait_s * 1000) + 1)

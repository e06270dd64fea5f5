"""What a MoQ session may do: the rooms' rules, asked for each object that is written to it.

A stream's broadcast has the stream's id as its path; the guest of a one-to-one publishes under `<stream>/guest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from signalling.identifiers import Actor, StreamId
from signalling.ports import Clock


class RoomsRules(Protocol):
    """The rooms, as far as a session's rights need them."""

    def receives(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether an object of what `source` publishes in the stream may be written to someone now."""

    def barred(self, actor: Actor, stream: StreamId) -> str | None:
        """Why someone can have nothing of a stream for good, as the word of a refusal; None when that is not so."""


@dataclass(frozen=True, slots=True, eq=False)
class SessionRights:
    """The rights of whoever shows a token that holds until `expires_at` (epoch ms), here to one `stream` or to all."""

    rules: RoomsRules
    clock: Clock
    actor: Actor
    expires_at: int
    stream: StreamId | None = None

    def may_publish(self, path: str) -> bool:
        """Never: publishers come over WHIP."""
        return False

    def may_watch(self, path: str) -> bool:
        """Whether it may hear of a broadcast: whoever would not receive it learns not that it is there."""
        return self.admits(path)

    def admits(self, path: str) -> bool:
        """Whether an object of this broadcast may be written to it now."""
        stream, _, source = path.partition("/")
        if self.clock.wall_ms() >= self.expires_at or self.stream not in (None, stream):
            return False
        return self.rules.receives(self.actor, StreamId(stream), source)

    def over(self) -> str | None:
        """Why the session is to end, as the word of a refusal; None while it may go on."""
        if self.clock.wall_ms() >= self.expires_at:
            return "no_session"
        return None if self.stream is None else self.rules.barred(self.actor, self.stream)

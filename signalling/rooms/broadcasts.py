"""What a MoQ session may do: the rooms' rules, asked for each object that is written to it.

A stream's broadcast has the stream's id as its path; the guest of a one-to-one publishes under `<stream>/guest`, and
who is live beside the streamer under `<stream>/host:<account>`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from signalling.identifiers import AccountId, Actor, StreamId
from signalling.policy.hosting import is_host
from signalling.policy.verdicts import Sight
from signalling.ports import Clock

SOURCES = ("", "guest")  # what is published in a stream: the streamer's, and that of the guest of a one-to-one


class RoomsRules(Protocol):
    """The rooms, as far as a session's rights need them."""

    def receives(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether an object of what `source` publishes in the stream may be written to someone now."""

    def receives_best(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether that is so of the best layer of its picture, too."""

    def knows(self, actor: Actor, stream: StreamId) -> bool:
        """Whether it is known what someone may have of a stream; whoever asks for it meanwhile is judged and waits."""

    def shows(self, actor: Actor, stream: StreamId, sight: Sight) -> bool:
        """Whether someone finds a stream who is not present in it."""

    def may_publish(self, actor: Actor, stream: StreamId, source: str) -> bool:
        """Whether someone may publish in a stream now, as its streamer (""), beside it, or as a one-to-one's guest."""

    def barred(self, actor: Actor, stream: StreamId) -> str | None:
        """Why someone can have nothing of a stream for good, as the word of a refusal; None when that is not so."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class SessionRights:
    """The rights of whoever shows a token that holds until `expires_at` (epoch ms), here to one `stream` or to all.

    `sight` is which streams one who came for all of them finds, None while that is not known; `denied` why the
    session is to end; `displaced` are streams in which newer devices of its account took its place.
    """

    rules: RoomsRules
    clock: Clock
    actor: Actor
    expires_at: int
    stream: StreamId | None = None
    sight: Sight | None = None
    denied: str | None = None
    displaced: set[StreamId] = field(default_factory=set)

    @property
    def home(self) -> str | None:
        """The stream that it came for."""
        return self.stream

    def is_pending(self, path: str) -> bool:
        """Whether it is still being found out what it may watch of a stream."""
        stream, _, source = path.partition("/")
        known = stream in self.displaced or self.rules.knows(self.actor, StreamId(stream))
        return self._reaches(stream) and (source in SOURCES or is_host(source)) and not known

    def may_publish(self, path: str) -> bool:
        """Whether it may publish this broadcast now: the streamer's, a host's, or the guest's of a one-to-one."""
        stream, _, source = path.partition("/")
        return self._reaches(stream) and self.rules.may_publish(self.actor, StreamId(stream), source)

    def may_watch(self, path: str) -> bool:
        """Whether it may hear of a broadcast: whoever would not receive it learns not that it is there."""
        if self.admits(path):
            return True
        stream, _, source = path.partition("/")
        return (
            source == ""
            and self.sight is not None
            and stream not in self.displaced
            and self._reaches(stream)
            and not self.rules.knows(self.actor, StreamId(stream))
            and self.rules.shows(self.actor, StreamId(stream), self.sight)
        )

    def admits(self, path: str) -> bool:
        """Whether an object of this broadcast may be written to it now."""
        return self._holds(path, self.rules.receives)

    def admits_best(self, path: str) -> bool:
        """Whether an object of the best layer of this broadcast's picture may be written to it now."""
        return self._holds(path, self.rules.receives_best)

    def _holds(self, path: str, receives: Callable[[Actor, StreamId, str], bool]) -> bool:
        stream, _, source = path.partition("/")
        may_receive = self._reaches(stream) and stream not in self.displaced
        return may_receive and receives(self.actor, StreamId(stream), source)

    def _reaches(self, stream: str) -> bool:
        return self.clock.wall_ms() < self.expires_at and self.stream in (None, stream)

    def over(self) -> str | None:
        """Why the session is to end, as the word of a refusal; None while it may go on."""
        if self.clock.wall_ms() >= self.expires_at:
            return "no_session"
        return self.denied or (None if self.stream is None else self.rules.barred(self.actor, self.stream))


def of_accounts(accounts: frozenset[AccountId]) -> Callable[[object], bool]:
    """Return what picks the rights of these accounts."""
    return lambda rights: isinstance(rights, SessionRights) and rights.actor.account in accounts

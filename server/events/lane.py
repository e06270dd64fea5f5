"""Tells some of those who follow the log what waits for them, in few writes and in the order of ids.

Mostly each hears what others hear too, and all of them are written to in one call. Where somebody came, fell behind or
is in several crowds, each is told exactly what he does not have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np

from server.connections.fanout import Fanout
from server.events.crowd import Crowd, Follower, Part
from signalling.sessions.fanning import show_each
from signalling.sessions.session import Session
from signalling.wire.messages import Bundle, Encoded, Encoding

AT_ONCE = 64  # events in one write
AT_ONCE_BYTES = 65_536  # and of how many bytes, but for a single one: a quarter of what closes a slow session
MAX_AHEAD = 64  # frames, or KiB, queued for a slow session before more is read: a quarter of what closes it

W = TypeVar("W")
_Events = Sequence[tuple[int, Encoded]]


class _Piece(NamedTuple):
    """What is written at once, and the ids of its first and last event."""

    first: int
    last: int
    bundle: Bundle


@dataclass(slots=True)
class _Share:
    """Events, by rising ids, that a crowd hears; `version` is the lane's when the first of them came."""

    crowd: Crowd
    version: int
    events: list[tuple[int, Encoded]] = field(default_factory=list)


class Lane:
    """Followers who are told at the same time; `drop` is called with one that has to read for itself."""

    def __init__(self, drop: Callable[[Follower], None]) -> None:
        self._drop = drop
        self._present: set[Follower] = set()
        self._shares: dict[Crowd, _Share] = {}
        self._version = 0  # rises with each who comes or goes: what came before may be for others than are here
        self._exact_up_to = 0
        self.sent = self.fallen_behind = 0

    @property
    def is_due(self) -> bool:
        """Whether something waits."""
        return bool(self._shares)

    def enter(self, follower: Follower) -> None:
        """Tell a follower what comes, from its position on."""
        self._present.add(follower)
        self._version += 1
        self._exact_up_to = max(self._exact_up_to, follower.position)

    def leave(self, follower: Follower) -> None:
        """Tell a follower nothing more."""
        self._present.discard(follower)
        self._version += 1

    def add(self, crowd: Crowd, events: Iterable[tuple[int, Encoded]]) -> None:
        """Have a crowd of this lane told of events, whose ids are above those of all before."""
        share = self._shares.get(crowd)
        if share is None:
            share = self._shares[crowd] = _Share(crowd, self._version)
        share.events += events

    def tell(self) -> None:
        """Tell all that waits."""
        shares, self._shares = list(self._shares.values()), {}
        if self._are_apart(shares):
            for turn in _turns([(share.crowd, divided(share.events)) for share in shares]):
                self._write(turn)
        else:
            self._tell_exactly(shares)

    def _are_apart(self, shares: Sequence[_Share]) -> bool:
        """Whether everybody is in one crowd alone, and has nothing yet of what it hears."""
        if any(share.version != self._version or share.events[0][0] <= self._exact_up_to for share in shares):
            return False
        found = [share.crowd.parts() for share in shares]
        rows = [part.rows for parts, _ in found for part in parts]
        alone = [follower.session for _, apart in found for follower in apart]
        together = np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
        return len(set(alone)) == len(alone) and np.unique(together).size == together.size

    # -- all who hear the same in one call -----------------------------------------------------------------------------

    def _write(self, turn: Sequence[tuple[Crowd, _Piece]]) -> None:
        together: dict[tuple[Fanout, Encoding], list[tuple[Part, _Piece]]] = {}
        for crowd, piece in turn:
            parts, apart = crowd.parts()
            self.sent += len(piece.bundle.events) * len(crowd.followers)
            for part in parts:
                together.setdefault((part.fanout, part.encoding), []).append((part, piece))
            for follower in apart:
                if self._keeps_up(follower, piece) and follower.session.outbox is not None:
                    follower.session.outbox.offer_all(piece.bundle, follower.session.encoding)
        for (fanout, encoding), written in together.items():
            shown = [(piece.bundle, part.rows) for part, piece in written]
            framing = written[0][0].outboxes[0].framing
            for which, place, taken in fanout.show_rows(encoding, framing, shown):
                part, piece = written[which]
                self._queue(part, place, piece, taken)

    def _queue(self, part: Part, place: int, piece: _Piece, taken: int | None) -> None:
        """Have a connection get what it did not take, where it keeps up and is still the session's."""
        follower, outbox = part.followers[place], part.outboxes[place]
        if follower.session.outbox is not outbox:
            return
        if taken is not None:
            outbox.take_up(piece.bundle.framed(part.encoding, outbox.framing), taken)
        elif self._keeps_up(follower, piece):
            outbox.offer_all(piece.bundle, part.encoding)

    # -- each what it does not have ------------------------------------------------------------------------------------

    def _tell_exactly(self, shares: Sequence[_Share]) -> None:
        heard = [[each for each in share.crowd.followers if each in self._present] for share in shares]
        counts = Counter(chain.from_iterable(heard))
        mixed: dict[Follower, list[tuple[int, Encoded]]] = {}
        parts: list[tuple[Sequence[Follower], Sequence[_Piece]]] = []
        for share, followers in zip(shares, heard, strict=True):
            alike = []
            for follower in followers:
                if counts[follower] > 1 or follower.position >= share.events[0][0]:
                    missing = [each for each in share.events if each[0] > follower.position]
                    mixed.setdefault(follower, []).extend(missing)
                else:
                    alike.append(follower)
            parts.append((alike, divided(share.events)))
        for follower, events in mixed.items():
            parts.append(([follower], divided(sorted(events, key=lambda each: each[0]))))
        for turn in _turns(parts):
            show_each(self._due(turn))

    def _due(self, turn: Iterable[tuple[Sequence[Follower], _Piece]]) -> Iterator[tuple[Bundle, Sequence[Session]]]:
        for followers, piece in turn:
            sessions = [follower.session for follower in followers if self._keeps_up(follower, piece)]
            self.sent += len(piece.bundle.events) * len(sessions)
            yield piece.bundle, sessions

    def _keeps_up(self, follower: Follower, piece: _Piece) -> bool:
        """Whether a follower can be sent what comes next for it; else it has to read for itself."""
        if follower.behind.is_set():
            return False
        if follower.session.waiting() < MAX_AHEAD:
            return True
        self.fallen_behind += 1
        follower.position = max(follower.position, piece.first - 1)
        self._drop(follower)
        follower.behind.set()
        return False


def divided(events: _Events) -> list[_Piece]:
    """Return events in pieces that are each written at once."""
    pieces: list[_Piece] = []
    begin = size = 0
    for place, (_, event) in enumerate(events):
        length = len(event.frame(Encoding.MSGPACK))
        if place > begin and (size + length > AT_ONCE_BYTES or place - begin == AT_ONCE):
            pieces.append(_piece(events[begin:place]))
            begin, size = place, 0
        size += length
    if len(events) > begin:
        pieces.append(_piece(events[begin:]))
    return pieces


def _piece(events: _Events) -> _Piece:
    return _Piece(events[0][0], events[-1][0], Bundle([event for _, event in events]))


def _turns(shares: Sequence[tuple[W, Sequence[_Piece]]]) -> Iterator[list[tuple[W, _Piece]]]:
    """Return first the first piece of everybody, and so on, so that who is too slow is found out."""
    longest = max((len(pieces) for _, pieces in shares), default=0)
    for place in range(longest):
        yield [(who, pieces[place]) for who, pieces in shares if len(pieces) > place]

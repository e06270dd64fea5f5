"""Tells many sessions the same: those whose connections are written to together, in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from signalling.messages import Bundle, Encoded, Encoding
    from signalling.ports import Fanout, Outbox
    from signalling.session import Session

T = TypeVar("T")


class _Together(Generic[T]):
    """Connections that are written to in one call, and what is to each; two lists, as pairs would be objects."""

    def __init__(self) -> None:
        self.outboxes: list[Outbox] = []
        self.each: list[T] = []

    def add(self, outbox: Outbox, one: T) -> None:
        self.outboxes.append(outbox)
        self.each.append(one)


def tell_all(sessions: Iterable[Session], event: Encoded) -> None:
    """Send sessions, each of them named once, an event that must arrive."""
    crowds: dict[tuple[Fanout, Encoding], _Together[int]] = {}
    for session in sessions:
        outbox, number = session.note(event)
        if outbox is None:
            continue
        fanout, encoding = outbox.fanout, session.encoding
        if fanout is None:
            outbox.offer(event.frame(encoding, number))
        else:
            _crowd(crowds, fanout, encoding).add(outbox, number)
    for (fanout, encoding), crowd in crowds.items():
        fanout.tell(encoding, event, crowd.outboxes, crowd.each)


def show_each(shown: Iterable[tuple[Session, Bundle]]) -> None:
    """Send each session events that it does not repeat, in one go."""
    crowds: dict[tuple[Fanout, Encoding], _Together[Bundle]] = {}
    for session, bundle in shown:
        outbox = session.outbox
        if outbox is None:
            continue
        fanout, encoding = outbox.fanout, session.encoding
        if fanout is None:
            outbox.offer_all(bundle, encoding)
        else:
            _crowd(crowds, fanout, encoding).add(outbox, bundle)
    for (fanout, encoding), crowd in crowds.items():
        fanout.show(encoding, crowd.outboxes, crowd.each)


def show_newest(sessions: Iterable[Session], event: Encoded, key: str) -> None:
    """Send sessions an event that they do not repeat; who is slow hears the newest of one key alone."""
    crowds: dict[tuple[Fanout, Encoding], list[Outbox]] = {}
    for session in sessions:
        outbox = session.outbox
        if outbox is None:
            continue
        if outbox.fanout is None:
            outbox.offer(event.frame(session.encoding), key=key)
        else:
            crowds.setdefault((outbox.fanout, session.encoding), []).append(outbox)
    for (fanout, encoding), crowd in crowds.items():
        fanout.show_newest(encoding, event, crowd, key)


def _crowd(crowds: dict[tuple[Fanout, Encoding], _Together[T]], fanout: Fanout, encoding: Encoding) -> _Together[T]:
    key = fanout, encoding
    crowd = crowds.get(key)
    if crowd is None:
        crowd = crowds[key] = _Together()
    return crowd

"""Tells many sessions the same: those whose connections are written to together, in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signalling.ports import Fanout, Outbox
    from signalling.sessions.session import Session
    from signalling.wire.messages import Bundle, Encoded, Encoding


def tell_all(sessions: Iterable[Session], event: Encoded) -> None:
    """Send sessions, each of them named once, an event that must arrive."""
    # Two lists, as a pair for each of thousands would be an object, and set off the collector in the middle of them.
    crowds: dict[tuple[Fanout, Encoding], tuple[list[Outbox], list[int]]] = {}
    for session in sessions:
        outbox, number = session.note(event)
        if outbox is None:
            continue
        fanout, encoding = outbox.fanout, session.encoding
        if fanout is None:
            outbox.offer(event.frame(encoding, number))
        else:
            outboxes, numbers = crowds.setdefault((fanout, encoding), ([], []))
            outboxes.append(outbox)
            numbers.append(number)
    for (fanout, encoding), (outboxes, numbers) in crowds.items():
        fanout.tell(encoding, event, outboxes, numbers)


def show_each(shown: Iterable[tuple[Bundle, Iterable[Session]]]) -> None:
    """Send sessions events that they do not repeat, each bundle in one go."""
    crowds: dict[tuple[Fanout, Encoding], list[tuple[Bundle, list[Outbox]]]] = {}
    for bundle, sessions in shown:
        outboxes: dict[tuple[Fanout, Encoding], list[Outbox]] = {}
        for session in sessions:
            outbox = session.outbox
            if outbox is None:
                continue
            fanout = outbox.fanout
            if fanout is None:
                outbox.offer_all(bundle, session.encoding)
            else:
                outboxes.setdefault((fanout, session.encoding), []).append(outbox)
        for key, some in outboxes.items():
            crowds.setdefault(key, []).append((bundle, some))
    for (fanout, encoding), rows in crowds.items():
        fanout.show(encoding, rows)


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

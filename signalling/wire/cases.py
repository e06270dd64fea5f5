"""What the sides of a case, and its reviewers, are told over the signalling socket."""

from __future__ import annotations

from signalling.wire.events import WireEvent


class CaseTold(WireEvent, frozen=True, kw_only=True, tag="case"):
    """A case of yours stands otherwise now: a report of yours, or what was cut short; the API shows it."""

    case: str
    kind: str
    state: str


class ReviewWaiting(WireEvent, frozen=True, kw_only=True, tag="review.waiting"):
    """To reviewers: a case waits for one of them; `state` is open, appealed, or second for one who agrees or not."""

    case: str
    state: str

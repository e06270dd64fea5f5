"""What people are told of tips, and of the goals that these are given for."""

from __future__ import annotations

from signalling.identifiers import StreamId
from signalling.wire.events import WireEvent
from signalling.wire.views import Money, Person


class TipTold(WireEvent, frozen=True, kw_only=True, rename={"sender": "from"}, tag="tip"):
    """Someone tipped someone, in a `stream` or elsewhere (null): to the two, and to all who may see it in the stream.

    Of an anonymous tip only the two know by whom it is; what it says is shown to others only from those who may chat.
    """

    tip: str
    stream: StreamId | None
    sender: Person | None
    to: Person
    amount: Money
    menu_item: str | None
    message: str
    anonymous: bool
    at: int


class GoalTold(WireEvent, frozen=True, kw_only=True, tag="goal"):
    """How much a streamer has collected for a goal, of `amount`; `reached_at` is null until it is reached."""

    goal: str
    stream: StreamId | None
    title: str
    amount: Money
    collected: str
    reached_at: int | None


class TipReversedTold(WireEvent, frozen=True, kw_only=True, tag="tip.reversed"):
    """To both: a tip was taken back."""

    tip: str

"""What can be asked of a room, and the facts that reach it: inputs of the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from signalling.identifiers import AccountId, Mode
from signalling.policy.verdicts import Demands, Verdict
from signalling.wire.views import BestPicture, TicketOffer


@dataclass(frozen=True, slots=True)
class Join:
    """Someone is present, admitted or waiting; without a verdict what is known of the account stays as it is."""

    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """Someone is no longer present."""


@dataclass(frozen=True, slots=True)
class PrepareMode:
    """The streamer asks what a switch would do; `token` is fresh and unguessable."""

    mode: Mode
    token: str


@dataclass(frozen=True, slots=True)
class ConfirmMode:
    """The streamer does what was prepared under `token`, in `after_s` seconds; doing it twice is doing it once."""

    token: str
    allow_empty: bool = False
    after_s: int = 0


@dataclass(frozen=True, slots=True)
class CallOffMode:
    """The streamer takes an announced switch back."""


@dataclass(frozen=True, slots=True)
class SetTimeLimit:
    """The streamer lets the stream end in `seconds`, or clears the limit with None."""

    seconds: int | None


@dataclass(frozen=True, slots=True)
class SetBestPicture:
    """The streamer says for whom the best layer of the picture is while the stream is public."""

    best_picture: BestPicture


@dataclass(frozen=True, slots=True)
class Describe:
    """The streamer calls the stream something else, or describes it anew; None leaves it as it is."""

    title: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class GrantTicket:
    """An account gets a ticket."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class RevokeTicket:
    """An account loses its ticket."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class Entitle:
    """An account may watch while the stream is private."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class Disentitle:
    """An account may no longer watch while the stream is private."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class AddHost:
    """An account may publish beside the streamer, for as long as it may watch."""

    account: AccountId
    name: str


@dataclass(frozen=True, slots=True)
class DropHost:
    """An account may no longer publish beside the streamer."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class Eject:
    """An account is put out and stays out, whatever else it holds."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class Readmit:
    """An ejected account may come back."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class RequestOneToOne:
    """A viewer asks for a one-to-one, of so many seconds or of whatever length suits the streamer.

    `id` names what was agreed and maybe paid outside the room; the request lapses after `expires_s`, None for never.
    """

    seconds: int | None = None
    id: str = ""
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class CancelOneToOne:
    """A viewer takes the request back."""


@dataclass(frozen=True, slots=True)
class DeclineOneToOne:
    """The streamer turns a request down."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class Manner:
    """How accepted viewers are taken: so long they are waited for, 0 for not at all; and whether the next is called.

    The next in line is called when one who was waited for did not come.
    """

    confirm_s: int = 0
    calls_next: bool = False


AT_ONCE = Manner()


@dataclass(frozen=True, slots=True)
class AcceptOneToOne:
    """The streamer takes one viewer into a one-to-one of `seconds`, once that one has confirmed to be there."""

    account: AccountId
    seconds: int
    manner: Manner = AT_ONCE


@dataclass(frozen=True, slots=True)
class ConfirmOneToOne:
    """A viewer comes to the one-to-one that is offered; doing it twice is doing it once."""


@dataclass(frozen=True, slots=True)
class AskExtension:
    """The guest asks for so many seconds more; `number` names what is held for them outside the room, 0 for nothing."""

    seconds: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class CancelExtension:
    """The guest takes that back."""


@dataclass(frozen=True, slots=True)
class AcceptExtension:
    """The streamer agrees to so many seconds more: to those that are asked for."""

    seconds: int


@dataclass(frozen=True, slots=True)
class DeclineExtension:
    """The streamer does not."""


@dataclass(frozen=True, slots=True)
class EndOneToOne:
    """Either side hangs up."""


@dataclass(frozen=True, slots=True)
class Chat:
    """Someone says something; the same `client_txn` twice is said once."""

    text: str
    client_txn: str


@dataclass(frozen=True, slots=True)
class ShowRoom:
    """The streamer wants to see the whole room."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Fact: what the rules outside the room say of some accounts now."""

    verdicts: tuple[tuple[AccountId, Verdict], ...]


Seat = Literal["bought", "paying", "none"]


@dataclass(frozen=True, slots=True)
class Seated:
    """Fact: what the box office says of some accounts now, and what it sells."""

    seats: tuple[tuple[AccountId, Seat], ...]
    offer: TicketOffer | None = None


@dataclass(frozen=True, slots=True)
class Hidden:
    """Fact: for this account the stream no longer exists, since one of the two blocked the other."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class Unhidden:
    """Fact: for this account it exists again."""

    account: AccountId


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """Fact: the stream's rules have a new version, and everyone is judged by it."""

    demands: Demands


@dataclass(frozen=True, slots=True)
class TakenDown:
    """Fact: a review decided that the stream ends."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Fact: an account's newest device took the place of its oldest."""


@dataclass(frozen=True, slots=True)
class StreamerFlows:
    """Fact: the streamer's media arrives."""


@dataclass(frozen=True, slots=True)
class StreamerLost:
    """Fact: it no longer does."""


@dataclass(frozen=True, slots=True)
class MediaFlows:
    """Fact: both sides of the one-to-one send media."""


@dataclass(frozen=True, slots=True)
class MediaStops:
    """Fact: one side of the one-to-one no longer sends."""


@dataclass(frozen=True, slots=True)
class MediaMissed:
    """Fact: for so long, in which the clock of the one-to-one ran, media did not pass both ways."""

    missed_ns: int


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """Fact: what a request was agreed on no longer holds."""

    request: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExtensionFailed:
    """Fact: who asked for more time, under this number in this request, has given up."""

    request: str
    number: int


@dataclass(frozen=True, slots=True)
class EndStream:
    """The streamer ends the stream."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Fact: time passed; due when `policy.deadline_ns` says so."""


OwnersCommand = (
    PrepareMode
    | ConfirmMode
    | CallOffMode
    | SetTimeLimit
    | SetBestPicture
    | Describe
    | GrantTicket
    | RevokeTicket
    | Entitle
    | Disentitle
    | AddHost
    | DropHost
    | Eject
    | Readmit
    | DeclineOneToOne
    | AcceptOneToOne
    | AcceptExtension
    | DeclineExtension
    | EndStream
)
Command = (
    OwnersCommand
    | Join
    | Leave
    | RequestOneToOne
    | CancelOneToOne
    | ConfirmOneToOne
    | AskExtension
    | CancelExtension
    | EndOneToOne
)
Fact = (
    Judged
    | Seated
    | Hidden
    | Unhidden
    | RulesChanged
    | TakenDown
    | TakenOver
    | StreamerFlows
    | StreamerLost
    | MediaFlows
    | MediaStops
    | MediaMissed
    | RequestFailed
    | ExtensionFailed
    | Tick
)

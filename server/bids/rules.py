"""Decides about the money of a paid private chat: `step(bid, command, now_ms) -> bid`.

    asked      what was bid is held, and who is asked has until a deadline to accept
    accepted   they chat; it is paid when who paid says so, or at a second deadline where the other has written by then,
               a file and a call being as good as a text
    paid       it was paid out
    returned   all went back: refused, withdrawn, not answered, accepted and nothing written, or parted before that
    frozen     the one who is paid has parted in the middle: what it was worth is decided by a review

Pure: no clock, no SQL. Who is asked is called the host, as in other one-to-ones; who pays the guest.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from server.money.amounts import Amount
from signalling.refusals import Refused

ANSWER_MS = 48 * 3_600_000  # as for a bid to meet: who has not answered by then is not waited for
CHAT_MS = 48 * 3_600_000  # from the acceptance on


class State(StrEnum):
    """What a bid has come to."""

    ASKED = "asked"
    ACCEPTED = "accepted"
    PAID = "paid"
    RETURNED = "returned"
    FROZEN = "frozen"


OPEN = (State.ASKED, State.ACCEPTED)


class Bid(msgspec.Struct, frozen=True):
    """One request for a paid chat, and what became of it; times in epoch ms. `until` is the next deadline."""

    id: str
    conversation: str
    guest: str
    host: str
    asset: str
    units: int
    fee_bps: int
    asked_at: int
    until: int
    state: State = State.ASKED
    reason: str = ""
    accepted_at: int | None = None
    ended_at: int | None = None

    @property
    def amount(self) -> Amount:
        """What was bid."""
        return Amount(self.asset, self.units)

    @property
    def hold(self) -> str:
        """The name of its hold in the books."""
        return f"chat.{self.id}"

    @property
    def is_open(self) -> bool:
        """Whether its money is still held."""
        return self.state in OPEN


# -- commands ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accept:
    """The host takes it."""


@dataclass(frozen=True, slots=True)
class Decline:
    """The host does not, or gives back what was accepted."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The guest no longer wants it."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """The guest says that they have had their chat."""


@dataclass(frozen=True, slots=True)
class RunOut:
    """A deadline is over; `written`: the host has written, sent a file or been in a call since the acceptance."""

    written: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two blocks the other."""

    by_host: bool
    written: bool


Command = Accept | Decline | Withdraw | Confirm | RunOut | Part


def is_for(bid: Bid, account: str, command: Command) -> bool:
    """Whether a command is for this account to give, and not for the other of the two."""
    return account == (bid.host if isinstance(command, Accept | Decline) else bid.guest)


def step(bid: Bid, command: Command, now_ms: int) -> Bid:
    """Return what a bid has become. Raises Refused("bid_closed") for what comes too late, or too early."""
    if not bid.is_open:
        raise Refused("bid_closed")
    is_asked, is_due = bid.state is State.ASKED, now_ms >= bid.until
    match command:
        case Accept() if is_asked and not is_due:
            return replace(bid, state=State.ACCEPTED, accepted_at=now_ms, until=now_ms + CHAT_MS)
        case Decline():
            return _end(bid, State.RETURNED, "declined", now_ms)
        case Withdraw() if is_asked:
            return _end(bid, State.RETURNED, "withdrawn", now_ms)
        case Confirm() if not is_asked:
            return _end(bid, State.PAID, "confirmed", now_ms)
        case RunOut(written) if is_due:
            if is_asked:
                return _end(bid, State.RETURNED, "expired", now_ms)
            return _end(bid, State.PAID, "over", now_ms) if written else _end(bid, State.RETURNED, "silent", now_ms)
        case Part(by_host, written):
            if is_asked or not written:
                return _end(bid, State.RETURNED, "parted", now_ms)
            return _end(bid, State.FROZEN if by_host else State.PAID, "parted", now_ms)
        case _:
            raise Refused("bid_closed")


def _end(bid: Bid, state: State, reason: str, now_ms: int) -> Bid:
    return replace(bid, state=state, reason=reason, ended_at=now_ms)

"""Decides what a command does to the books: `step(view, command, now_ms) -> Transfer`.

Double entry, append only. A leg takes units from one account and gives the same units to another, so what a transfer
does adds up to 0 in every asset by its form. Nothing is ever changed: a hold is resolved, and a mistake reversed, by
another transfer.

    hold     wallet -> held, a promise with an end
    posted   held -> whoever earned it; what is left goes back to the wallet
    voided   held -> wallet, because it was not wanted or not delivered
    expired  held -> wallet, because its time ran out

A hold is resolved exactly once, and so a transfer is reversed at most once. Pure: no clock, no randomness, no SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from server.money.quotes import Quote
from signalling.refusals import Refused


class Kind(StrEnum):
    """What an account is for."""

    WALLET = "wallet"  # what its owner may spend
    HELD = "held"  # what its owner has promised
    ESCROW = "escrow"  # what was paid for and not delivered yet; owned by what was sold
    FEE = "fee"  # what the platform keeps
    LIQUIDITY = "liquidity"  # what conversions pass through; below 0 where more was given out than taken in
    PROVIDER = "provider"  # the world outside, owned by a payment provider: below 0 by what it has brought in
    DEBT = "debt"  # below 0 by what its owner had already spent when it was taken back

    __hash__ = str.__hash__  # an account is hashed some ten times in a payment, and an enum's own is slow


OVERDRAWN = {Kind.LIQUIDITY, Kind.PROVIDER, Kind.DEBT}
PLATFORM = "platform"  # owner of the fee and liquidity accounts


class Account(msgspec.Struct, frozen=True, order=True):
    """One account: whose, what for, and in which asset."""

    owner: str
    kind: Kind
    asset: str


class Leg(msgspec.Struct, frozen=True):
    """`units`, more than 0, go from one account to another of the same asset."""

    source: Account
    target: Account
    units: int

    def __post_init__(self) -> None:
        assert self.units > 0
        assert self.source.asset == self.target.asset
        assert self.source != self.target


class Phase(StrEnum):
    """What a transfer is."""

    IMMEDIATE = "immediate"
    HOLD = "hold"
    POSTED = "posted"
    VOIDED = "voided"
    EXPIRED = "expired"
    REVERSED = "reversed"


class Transfer(msgspec.Struct, frozen=True):
    """What is written into the books, never to be changed: linked legs, all or none.

    `of` is the hold that it resolves or the transfer that it reverses; `expires_at`, in epoch ms, is a hold's end.
    """

    id: str
    phase: Phase
    reason: str
    legs: tuple[Leg, ...]
    of: str | None = None
    expires_at: int | None = None
    quote: Quote | None = None


# -- commands ----------------------------------------------------------------------------------------------------------


class Move(msgspec.Struct, frozen=True):
    """Move money at once."""

    id: str
    reason: str
    legs: tuple[Leg, ...]
    quote: Quote | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Promise units of a wallet until `expires_at` (epoch ms; None for as long as it takes)."""

    id: str
    reason: str
    wallet: Account
    units: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Post:
    """Pay a hold out; what the legs leave of it goes back."""

    hold: str
    legs: tuple[Leg, ...]
    quote: Quote | None = None


@dataclass(frozen=True, slots=True)
class Void:
    """Give a hold back."""

    hold: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Give a hold back whose time has run out."""

    hold: str


@dataclass(frozen=True, slots=True)
class Reverse:
    """Take a transfer back, in the assets and to the unit of the original. Who has spent it meanwhile, owes it."""

    transfer: str


Command = Move | Hold | Post | Void | Expire | Reverse
Resolution = Post | Void | Expire


class View(msgspec.Struct, frozen=True):
    """What the books say about a command: balances of all that `touched` names (a missing one is 0), and its subject.

    `past` is the transfer that the command is about, `settled` whether another has resolved or reversed it already.
    """

    balances: Mapping[Account, int]
    past: Transfer | None = None
    settled: bool = False


# -- deciding ----------------------------------------------------------------------------------------------------------


def about(command: Command) -> str | None:
    """Return the id of the transfer that a command resolves or reverses."""
    match command:
        case Post(hold) | Void(hold) | Expire(hold):
            return hold
        case Reverse(transfer):
            return transfer
        case _:
            return None


def touched(command: Command, past: Transfer | None) -> set[Account]:
    """Return the accounts whose balances a command may change, given the transfer that it is about."""
    legs = command.legs if isinstance(command, Move | Post) else ()
    accounts = {account for leg in legs for account in (leg.source, leg.target)}
    if isinstance(command, Hold):
        accounts |= {command.wallet, held(command.wallet)}
    if past is not None:
        accounts |= {account for leg in past.legs for account in (leg.source, leg.target)}
    if isinstance(command, Reverse):
        accounts |= {_own(account, Kind.WALLET) for account in accounts if account.kind is Kind.HELD}
        accounts |= {_own(account, Kind.DEBT) for account in accounts if account.kind is Kind.WALLET}
    return accounts


def step(view: View, command: Command, now_ms: int) -> Transfer:
    """Return the transfer that a command makes; raises Refused, and then nothing changes.

    Refusals: insufficient_funds, quote_expired, hold_unknown, hold_resolved, hold_expired, hold_not_due, exceeds_hold,
    transfer_unknown, already_reversed, not_reversible.
    """
    return decide(view, command, now_ms)[0]


def decide(view: View, command: Command, now_ms: int) -> tuple[Transfer, dict[Account, int]]:
    """Return the same with what it changes."""
    match command:
        case Move(identifier, reason, legs, quote):
            _check_quote(quote, now_ms)
            transfer = Transfer(identifier, Phase.IMMEDIATE, reason, legs, quote=quote)
        case Hold(identifier, reason, wallet, units, expires_at):
            assert wallet.kind is Kind.WALLET
            leg = Leg(wallet, held(wallet), units)
            transfer = Transfer(identifier, Phase.HOLD, reason, (leg,), expires_at=expires_at)
        case Post() | Void() | Expire():
            transfer = _resolve(view, command, now_ms)
        case Reverse():
            transfer = _reverse(view, command)
    assert transfer.legs
    changed = changes(transfer.legs)
    for account, units in changed.items():
        if units < 0 and account.kind not in OVERDRAWN and view.balances.get(account, 0) + units < 0:
            raise Refused("insufficient_funds", asset=account.asset)
    return transfer, changed


def changes(legs: Iterable[Leg]) -> dict[Account, int]:
    """Return by how many units each account changes, those that don't left out."""
    totals: dict[Account, int] = {}
    for leg in legs:
        totals[leg.source] = totals.get(leg.source, 0) - leg.units
        totals[leg.target] = totals.get(leg.target, 0) + leg.units
    if 0 in totals.values():
        return {account: units for account, units in totals.items() if units}
    return totals


def held(wallet: Account) -> Account:
    """Return where the promises of a wallet are."""
    return _own(wallet, Kind.HELD)


def _own(account: Account, kind: Kind) -> Account:
    return Account(account.owner, kind, account.asset)


def _check_quote(quote: Quote | None, now_ms: int) -> None:
    if quote is not None and now_ms >= quote.expires_at:
        raise Refused("quote_expired")


def _resolve(view: View, command: Resolution, now_ms: int) -> Transfer:
    hold = view.past
    if hold is None or hold.phase is not Phase.HOLD:
        raise Refused("hold_unknown")
    if view.settled:
        raise Refused("hold_resolved")
    (promise,) = hold.legs
    due = hold.expires_at is not None and now_ms >= hold.expires_at
    if isinstance(command, Post):
        if due:
            raise Refused("hold_expired")
        return _post(hold, promise, command, now_ms)
    if isinstance(command, Expire) and not due:
        raise Refused("hold_not_due")
    phase = Phase.EXPIRED if isinstance(command, Expire) else Phase.VOIDED
    back = Leg(promise.target, promise.source, promise.units)
    return Transfer(f"{hold.id}.{phase}", phase, hold.reason, (back,), of=hold.id)


def _post(hold: Transfer, promise: Leg, command: Post, now_ms: int) -> Transfer:
    _check_quote(command.quote, now_ms)
    assert command.legs, "a hold that pays nothing out is voided"
    assert all(leg.source == promise.target or leg.source.kind is Kind.LIQUIDITY for leg in command.legs)
    taken = sum(leg.units for leg in command.legs if leg.source == promise.target)
    if taken > promise.units:
        raise Refused("exceeds_hold")
    rest = promise.units - taken
    back = (Leg(promise.target, promise.source, rest),) if rest else ()
    identifier = f"{hold.id}.{Phase.POSTED}"
    return Transfer(identifier, Phase.POSTED, hold.reason, command.legs + back, of=hold.id, quote=command.quote)


def _reverse(view: View, command: Reverse) -> Transfer:
    past = view.past
    if past is None:
        raise Refused("transfer_unknown")
    if past.phase not in (Phase.IMMEDIATE, Phase.POSTED):
        raise Refused("not_reversible", "a hold is voided; what gave something back stays so")
    if view.settled:
        raise Refused("already_reversed")
    left = dict(view.balances)
    legs: list[Leg] = []
    for leg in past.legs:
        giver, taker = leg.target, leg.source
        if taker.kind is Kind.HELD:  # the promise is not renewed: it goes back to where it came from
            taker = _own(taker, Kind.WALLET)
        if giver == taker:  # what a partial posting gave back is there already
            continue
        there = leg.units
        if giver.kind is Kind.WALLET:
            there = min(leg.units, left.get(giver, 0))
            left[giver] = left.get(giver, 0) - there
        if there:
            legs.append(Leg(giver, taker, there))
        if leg.units > there:
            legs.append(Leg(_own(giver, Kind.DEBT), taker, leg.units - there))
    return Transfer(f"{past.id}.{Phase.REVERSED}", Phase.REVERSED, past.reason, tuple(legs), of=past.id)

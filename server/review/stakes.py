"""The money that a case is about: frozen until it is decided, or paid out before; and what a decision does with it.

What was delivered of something cut short is taken out of the payer's hold into an account of the case. A decision gives
a part of it back and pays the rest out. What was paid before goes back as a debt of who was paid, which is settled at
once as far as there is money. Each stake knows how much of it has gone back, so a later decision moves the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from server.database.prepared import Prepared
from server.money import books, debts, tips
from server.money.amounts import split
from server.money.ledger import PLATFORM, Account, Kind, Leg, Move
from server.money.payments import Terms, pay, wallet
from server.review.cases import WHOLE_BPS
from signalling.refusals import Refused

_COLUMNS = "id, case_id, kind, subject, payer, payee, asset, units, fee_bps, frozen, refunded, moves"
_ADD = Prepared(
    f"INSERT INTO case_stakes ({_COLUMNS}) VALUES (:id, :case_id, :kind, :subject, :payer, :payee, :asset, :units,"
    " :fee_bps, :frozen, :refunded, :moves) ON CONFLICT DO NOTHING"
)
_OF = Prepared(f"SELECT {_COLUMNS} FROM case_stakes WHERE case_id = :case_id ORDER BY id")
_SET = Prepared("UPDATE case_stakes SET frozen = :frozen, refunded = :refunded, moves = :moves WHERE id = :id")

# What happens to an asset that was paid on its way to its recipient, now (epoch ms); see `Terms`.
FindTerms = Callable[[str, int, int], Terms]


class Stake(msgspec.Struct, frozen=True):
    """One payment from `payer` to `payee`: what for, and how much of it has gone back."""

    id: str
    case: str
    kind: Literal["one_to_one", "ticket", "tip", "chat"]
    subject: str
    payer: str
    payee: str
    asset: str
    units: int
    fee_bps: int
    frozen: bool
    refunded: int = 0
    moves: int = 0

    @property
    def escrow(self) -> Account:
        """Where its money is while it is frozen."""
        return escrow_of(self.case, self.asset)


def escrow_of(case: str, asset: str) -> Account:
    """Return where the frozen money of a case is."""
    return Account(f"case.{case}", Kind.ESCROW, asset)


def add(connection: sa.Connection, stake: Stake) -> bool:
    """Write a stake down; False where another case is about the same payment, and none of its money moves twice."""
    return bool(_ADD(connection, **_values(stake)).rowcount == 1)


def of_case(connection: sa.Connection, case: str) -> list[Stake]:
    """Return what is at stake in a case."""
    return [_stake(row) for row in _OF(connection, case_id=case)]


def target(stake: Stake, refund_bps: int) -> int:
    """Return how many units of a stake are to be with the payer; a tip goes back whole or not at all."""
    if stake.kind == "tip":
        return stake.units if refund_bps == WHOLE_BPS else 0
    return split(stake.units, [refund_bps, WHOLE_BPS - refund_bps])[0]


def repay(connection: sa.Connection, stake: Stake, refund_bps: int, find_terms: FindTerms, now_ms: int) -> Stake:
    """Let this part of a stake be with who paid it, and the rest with who was paid."""
    wanted = target(stake, refund_bps)
    if stake.frozen:
        wanted = _release(connection, stake, wanted, now_ms)
    elif wanted > stake.refunded:
        _take_back(connection, stake, wanted - stake.refunded, find_terms, now_ms)
    elif wanted < stake.refunded:
        _pay_again(connection, stake, stake.refunded - wanted, find_terms, now_ms)
    after = replace(stake, frozen=False, refunded=wanted, moves=stake.moves + 1)
    _SET(connection, **{name: value for name, value in _values(after).items() if name in _CHANGING})
    return after


_CHANGING = ("id", "frozen", "refunded", "moves")


def _release(connection: sa.Connection, stake: Stake, wanted: int, now_ms: int) -> int:
    """Pay frozen money out, and back; what is too little for anything to arrive goes back, too."""
    legs: list[Leg] = []
    if wanted < stake.units:
        try:
            legs += pay(stake.escrow, stake.payee, stake.units - wanted, Terms(stake.fee_bps))
        except Refused as refused:
            if refused.code != "amount_too_small":
                raise
            wanted = stake.units
    if wanted:
        legs.append(Leg(stake.escrow, wallet(stake.payer, stake.asset), wanted))
    books.apply(connection, Move(_name(stake), "case", tuple(legs)), now_ms)
    return wanted


def _take_back(connection: sa.Connection, stake: Stake, units: int, find_terms: FindTerms, now_ms: int) -> None:
    """Turn a payment, or a part of it, round: the fee, too; who was paid owes it and pays at once what is there."""
    if stake.kind == "tip" and stake.moves == 0:
        _reverse_tip(connection, stake.subject, now_ms)
        return
    terms = _terms(stake, find_terms, now_ms)
    paid = _paid(Account(stake.payer, Kind.WALLET, stake.asset), stake.payee, units, terms)
    legs = tuple(Leg(_owing(leg.target, stake.payee), leg.source, leg.units) for leg in reversed(paid))
    books.apply(connection, Move(_name(stake), "case", legs, terms.quote), now_ms)
    _settle(connection, stake.payee, legs, now_ms)


def _pay_again(connection: sa.Connection, stake: Stake, units: int, find_terms: FindTerms, now_ms: int) -> None:
    """Pay out again what a decision gave back that did not stand."""
    terms = _terms(stake, find_terms, now_ms)
    legs = _paid(Account(stake.payer, Kind.DEBT, stake.asset), stake.payee, units, terms)
    books.apply(connection, Move(_name(stake), "case", legs, terms.quote), now_ms)
    _settle(connection, stake.payer, legs, now_ms)


def _reverse_tip(connection: sa.Connection, tip: str, now_ms: int) -> None:
    try:
        tips.reverse(connection, tip, now_ms)
    except Refused as refused:
        if refused.code != "already_reversed":  # an operator was faster, and it is where it is to be
            raise


def _terms(stake: Stake, find_terms: FindTerms, now_ms: int) -> Terms:
    """Return by which terms a stake is paid; one-to-ones and chats arrive in the asset in which they were paid."""
    if stake.kind in ("one_to_one", "chat"):
        return Terms(stake.fee_bps)
    return find_terms(stake.asset, stake.fee_bps, now_ms)


def _paid(source: Account, payee: str, units: int, terms: Terms) -> tuple[Leg, ...]:
    """Return how units are paid; of less than one unit of what arrives, all is the fee."""
    try:
        return pay(source, payee, units, terms)
    except Refused as refused:
        if refused.code != "amount_too_small":
            raise
        return (Leg(source, Account(PLATFORM, Kind.FEE, source.asset), units),)


def _owing(account: Account, payee: str) -> Account:
    is_theirs = account.owner == payee and account.kind is Kind.WALLET
    return Account(payee, Kind.DEBT, account.asset) if is_theirs else account


def _settle(connection: sa.Connection, owner: str, legs: Sequence[Leg], now_ms: int) -> None:
    for asset in {leg.source.asset for leg in legs if leg.source == Account(owner, Kind.DEBT, leg.source.asset)}:
        debts.settle(connection, owner, asset, now_ms)


def _name(stake: Stake) -> str:
    return f"case.{stake.id}.{stake.moves}"


def _values(stake: Stake) -> dict[str, Any]:
    values = msgspec.structs.asdict(stake)
    return {**values, "case_id": values.pop("case"), "units": str(stake.units), "refunded": str(stake.refunded)}


def _stake(row: Sequence[Any]) -> Stake:
    id, case, kind, subject, payer, payee, asset, units, fee_bps, frozen, refunded, moves = row
    money = (int(units), fee_bps, bool(frozen), int(refunded), moves)
    return Stake(id, case, kind, subject, payer, payee, asset, *money)

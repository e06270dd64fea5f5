"""The legs of a payment: the platform's fee, and the conversion into the asset that the recipient gets."""

from __future__ import annotations

from dataclasses import dataclass

from server.money.amounts import split
from server.money.ledger import PLATFORM, Account, Kind, Leg
from server.money.quotes import Quote
from signalling.refusals import Refused

WHOLE_BPS = 10_000  # basis points: hundredths of a percent


@dataclass(frozen=True, slots=True)
class Terms:
    """What happens to a payment on its way: the fee in basis points, the conversion (None: paid out as it came)."""

    fee_bps: int
    quote: Quote | None = None


def wallet(owner: str, asset: str) -> Account:
    """Return what somebody may spend of an asset."""
    return Account(owner, Kind.WALLET, asset)


def pay(source: Account, recipient: str, units: int, terms: Terms) -> tuple[Leg, ...]:
    """Return the linked legs that pay `units` of a source out to a recipient's wallet.

    The fee is taken in the asset that was paid, the rest converted through the platform's liquidity, so that fee, rate
    and rounding can all be seen in the books. Raises Refused("amount_too_small") when nothing would arrive.
    """
    asset = source.asset
    net, fee = split(units, [WHOLE_BPS - terms.fee_bps, terms.fee_bps])
    legs = [Leg(source, Account(PLATFORM, Kind.FEE, asset), fee)] if fee else []
    arrives = net if terms.quote is None else terms.quote.convert(net)
    if arrives == 0:
        raise Refused("amount_too_small")
    if terms.quote is None:
        return (*legs, Leg(source, wallet(recipient, asset), net))
    assert terms.quote.rate.asset == asset
    target = terms.quote.rate.target
    return (
        *legs,
        Leg(source, Account(PLATFORM, Kind.LIQUIDITY, asset), net),
        Leg(Account(PLATFORM, Kind.LIQUIDITY, target), wallet(recipient, target), arrives),
    )

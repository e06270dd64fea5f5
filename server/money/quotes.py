"""Quotes: the rate at which one asset becomes another, as an exact fraction of minor units that holds for a while."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import msgspec
from msgspec import Meta

from server.money.assets import Assets
from signalling.refusals import Refused

QUOTE_FOR_MS = 300_000  # to read a price, decide and pay
STALE_MS = 600_000  # a feed that said nothing for so long says nothing


class RateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one whole `asset` is worth in `target`, as a decimal in text: "0.0125"."""

    asset: str
    target: str
    rate: Annotated[str, Meta(pattern=r"^[0-9]{1,20}(\.[0-9]{1,20})?$")]


# The operator's own price of the platform's token, until a feed of the market takes its place.
DEFAULT_RATES = (
    RateSettings("USD", "MESI", "10"),
    RateSettings("EUR", "MESI", "11"),
    RateSettings("USDC", "MESI", "10"),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """`numerator` minor units of `target` for `denominator` minor units of `asset`; times in epoch ms."""

    asset: str
    target: str
    numerator: int
    denominator: int
    source: str
    taken_at: int


@dataclass(frozen=True, slots=True)
class Quote:
    """A rate that was promised until `expires_at`."""

    id: str
    rate: Rate
    expires_at: int

    def convert(self, units: int) -> int:
        """Return what units become, rounded down: the rest of a unit, always less than one, stays with liquidity."""
        return units * self.rate.numerator // self.rate.denominator


def make_quote(quote_id: str, rate: Rate | None, now_ms: int) -> Quote:
    """Promise a rate from now on; raises Refused("rate_unavailable") when there is none that can be trusted."""
    if rate is None or rate.numerator <= 0 or now_ms - rate.taken_at > STALE_MS:
        raise Refused("rate_unavailable")
    return Quote(quote_id, rate, now_ms + QUOTE_FOR_MS)


def fixed_rates(settings: Iterable[RateSettings], assets: Assets) -> Mapping[tuple[str, str], Fraction]:
    """Return minor units of the target for one of the asset, by (asset, target); raises ValueError."""
    rates: dict[tuple[str, str], Fraction] = {}
    for each in settings:
        try:
            shift = assets.find(each.target).scale - assets.find(each.asset).scale
        except Refused as error:
            raise ValueError(f"{each.asset} to {each.target}: {error.detail}") from None
        assert re.fullmatch(r"[0-9.]+", each.rate)
        value = Fraction(each.rate) * Fraction(10) ** shift
        if value == 0:
            raise ValueError(f"{each.asset} to {each.target}: the rate must be above 0")
        rates[each.asset, each.target] = value
    return rates


class FixedRates:
    """Rates that the operator wrote down; they never go stale."""

    def __init__(self, settings: Iterable[RateSettings], assets: Assets) -> None:
        self._rates = fixed_rates(settings, assets)

    def rate(self, asset: str, target: str, now_ms: int) -> Rate | None:
        """Return the rate between two assets, None where nobody said one."""
        value = self._rates.get((asset, target))
        if value is None:
            return None
        return Rate(asset, target, value.numerator, value.denominator, "configuration", now_ms)

"""Amounts of money: whole minor units of one asset, of any size, and how they are split without losing one.

On the wire an amount is {"asset": "USD", "units": "1500"}. The units are text because numbers above 2^53 don't survive
JavaScript, and whole because fractions of a cent don't exist. There are no floats here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from server.money.assets import Asset, Assets
from signalling.refusals import Refused

_UNITS = re.compile(r"0|[1-9][0-9]*", re.ASCII)


class Amount(msgspec.Struct, frozen=True, order=True):
    """`units` minor units of an asset, 0 or more: 1500 of USD are 15 dollars."""

    asset: str
    units: int

    def __post_init__(self) -> None:
        assert self.units >= 0, "an amount is never negative; a direction is said by its accounts"


class WireAmount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount as requests and answers hold it."""

    asset: str
    units: str


def read_amount_untrusted(wire: WireAmount, assets: Assets) -> Amount:
    """Return an amount above 0.

    Raises Refused (asset_unknown, invalid_amount, amount_exceeds_supply). Digits are counted before they are
    converted, so that a long number costs nothing.
    """
    asset = assets.find(wire.asset)
    if _UNITS.fullmatch(wire.units) is None or wire.units == "0":
        raise Refused("invalid_amount", "units must be a whole number above 0, in digits alone, as text")
    if len(wire.units) > len(str(asset.supply)) or int(wire.units) > asset.supply:
        raise Refused("amount_exceeds_supply", f"there are only {asset.supply} units of {asset.code}")
    return Amount(asset.code, int(wire.units))


def wire_amount(amount: Amount) -> WireAmount:
    """Return an amount as answers hold it."""
    return WireAmount(amount.asset, str(amount.units))


def parse_decimal_untrusted(text: str, asset: Asset) -> Amount:
    """Read what people write, such as "12.50", as an amount above 0; raises Refused like `read_amount_untrusted`."""
    match = re.fullmatch(r"([0-9]{1,80})(?:\.([0-9]{1,80}))?", text, re.ASCII)
    fraction = (match[2] or "") if match else ""
    if match is None or len(fraction) > asset.scale:
        raise Refused("invalid_amount", f"write it like 12{'.50'[: asset.scale + 1] if asset.scale else ''}")
    units = int(match[1] + fraction.ljust(asset.scale, "0"))
    if units == 0:
        raise Refused("invalid_amount", "must be above 0")
    if units > asset.supply:
        raise Refused("amount_exceeds_supply", f"there are only {asset.supply} units of {asset.code}")
    return Amount(asset.code, units)


def format_units(units: int, scale: int) -> str:
    """Return units as people read them: -1250 with scale 2 is "-12.50"."""
    digits = str(abs(units)).rjust(scale + 1, "0")
    whole, fraction = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    return f"{'-' if units < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"


def split(units: int, weights: Sequence[int]) -> list[int]:
    """Split units in the proportion of the weights, to the last unit (largest remainder method).

    What is left after rounding down goes, a unit each, to the largest remainders, the earlier first among equals.
    """
    total = sum(weights)
    assert units >= 0
    assert total > 0
    assert min(weights) >= 0
    parts = [units * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: -(units * weights[index] % total))
    for index in by_remainder[: units - sum(parts)]:
        parts[index] += 1
    return parts

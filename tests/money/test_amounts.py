"""Amounts: strict on the wire, exact when split, and no floats anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.money.amounts import (
    Amount,
    WireAmount,
    format_units,
    parse_decimal_untrusted,
    read_amount_untrusted,
    split,
    wire_amount,
)
from server.money.assets import Assets, AssetSettings
from signalling.refusals import Refused

ASSETS = Assets()
REFUSED = {
    ("USD", ""): "invalid_amount",
    ("USD", "0"): "invalid_amount",
    ("USD", "-1"): "invalid_amount",
    ("USD", "+1"): "invalid_amount",
    ("USD", "01"): "invalid_amount",
    ("USD", "1.0"): "invalid_amount",
    ("USD", "1e3"): "invalid_amount",
    ("USD", " 1"): "invalid_amount",
    ("USD", "1\n"): "invalid_amount",
    ("USD", "1_0"): "invalid_amount",
    ("USD", "١"): "invalid_amount",
    ("USD", "NaN"): "invalid_amount",
    ("usd", "1"): "asset_unknown",
    ("", "1"): "asset_unknown",
    ("USD", "100000000000001"): "amount_exceeds_supply",
    ("USD", "9" * 5000): "amount_exceeds_supply",  # Python itself would refuse to read it
}


@pytest.mark.parametrize(("asset", "units"), REFUSED, ids=lambda text: text[:12])
def test_what_is_no_amount_is_refused_with_its_code(asset: str, units: str) -> None:
    with pytest.raises(Refused) as refused:
        read_amount_untrusted(WireAmount(asset, units), ASSETS)
    assert refused.value.code == REFUSED[asset, units]


@given(st.integers(1, 10**14))
def test_an_amount_survives_the_wire(units: int) -> None:
    amount = Amount("USD", units)
    assert read_amount_untrusted(wire_amount(amount), ASSETS) == amount


def test_an_asset_with_eighteen_decimals_is_read_beyond_64_bits() -> None:
    assets = Assets([AssetSettings("WEI", 18)])
    units = 10**12 * 10**18
    assert read_amount_untrusted(WireAmount("WEI", str(units)), assets).units == units


@given(st.integers(0, 10**40), st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(sum))
def test_a_split_loses_nothing_and_is_off_by_less_than_a_unit(units: int, weights: list[int]) -> None:
    parts = split(units, weights)
    assert sum(parts) == units
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - units * weight) < sum(weights)


def test_what_is_left_of_a_split_goes_to_the_largest_remainders() -> None:
    assert split(10, [1, 1, 1]) == [4, 3, 3]
    assert split(5, [9000, 1000]) == [5, 0]
    assert split(15, [9000, 1000]) == [14, 1]  # 13.5 and 1.5: the earlier first among equals
    assert split(7, [1, 2, 4, 0]) == [1, 2, 4, 0]


@pytest.mark.parametrize(("text", "units"), [("12", 1200), ("12.5", 1250), ("0.01", 1), ("007.10", 710)])
def test_what_people_write_is_read_to_the_cent(text: str, units: int) -> None:
    assert parse_decimal_untrusted(text, ASSETS.find("USD")) == Amount("USD", units)


@pytest.mark.parametrize("text", ["", ".5", "5.", "1.001", "-1", "1,5", "0", "0.00", "1e2", "९", "1 ", "9" * 90])
def test_what_people_write_wrongly_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="invalid_amount"):
        parse_decimal_untrusted(text, ASSETS.find("USD"))


@given(st.integers(-(10**30), 10**30), st.integers(0, 18))
def test_units_are_shown_as_they_are_written(units: int, scale: int) -> None:
    shown = format_units(units, scale)
    assert int(shown.replace(".", "")) == units
    assert len(shown.partition(".")[2]) == scale


def test_the_table_of_surfaces_and_the_rule_for_recipients_hold() -> None:
    ASSETS.check_surface("MESI", "web")
    with pytest.raises(Refused, match="asset_not_allowed_on_surface"):
        ASSETS.check_surface("MESI", "mobile")
    ASSETS.check_recipient("BONUS", 5)
    ASSETS.check_recipient("USD", 0)
    with pytest.raises(Refused, match="recipient_not_eligible"):
        ASSETS.check_recipient("BONUS", 4)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="USD is there twice"):
        Assets([AssetSettings("USD"), AssetSettings("USD")])
    with pytest.raises(ValueError, match="settles in GOLD, which is no asset"):
        Assets([AssetSettings("USD", settles_in="GOLD")])

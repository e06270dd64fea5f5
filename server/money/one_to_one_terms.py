"""What a streamer asks for a one-to-one: lengths with their prices, and conditions. Pure: no clock, no SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from server.access.rules import Rule, fault_of
from server.money.amounts import Amount, WireAmount, read_amount_untrusted
from server.money.assets import Assets
from signalling.policy.one_to_one import ONE_TO_ONE_S
from signalling.refusals import Refused

MAX_CONDITIONS = 8  # rules, each with as many parts as a stream's
MAX_CHOICES = 8  # lengths to choose from; a longer list is not read
MAX_WAITING = 100  # as many as a room lets wait
CALLS_NEXT = True  # where nothing was said: a streamer who waits for one viewer would rather have another than none
# Any number is taken, since one out of range has a code of its own.
Length = Annotated[int, Meta(extra_json_schema={"minimum": ONE_TO_ONE_S[0], "maximum": ONE_TO_ONE_S[1]})]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One length, from 300 to 1800 s, and what it costs; null for nothing."""

    seconds: Length
    price: WireAmount | None = None


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a streamer asks for a one-to-one.

    With `conditions`, all of them, `needs` says whether they are asked besides the price ("all"), or whether who meets
    them pays nothing ("any"). Who has asked waits `cooldown_s` before asking again, and so many wait at most.
    When a viewer does not come whom the streamer has accepted, the next is offered it by itself, if `calls_next`.
    """

    choices: Annotated[tuple[Choice, ...], Meta(min_length=1, max_length=MAX_CHOICES)]
    conditions: Annotated[tuple[Rule, ...], Meta(max_length=MAX_CONDITIONS)] = ()
    needs: Literal["all", "any"] = "all"
    cooldown_s: Annotated[int, Meta(ge=0, le=86_400)] = 60
    max_waiting: Annotated[int, Meta(ge=1, le=MAX_WAITING)] = MAX_WAITING
    calls_next: bool = CALLS_NEXT

    def choose(self, seconds: int | None) -> Choice:
        """Return the choice of a length; without one it is the only one. Raises Refused("duration_out_of_range")."""
        fitting = [choice for choice in self.choices if seconds in (None, choice.seconds)]
        if len(fitting) != 1:
            lengths = ", ".join(str(choice.seconds) for choice in self.choices)
            raise Refused("duration_out_of_range", f"the lengths offered are, in seconds, {lengths}")
        return fitting[0]

    def is_free(self, choice: Choice, meets_conditions: bool) -> bool:
        """Whether who meets the conditions, or doesn't, pays nothing; who may not ask at all is told before."""
        return choice.price is None or (self.needs == "any" and bool(self.conditions) and meets_conditions)

    def demands_conditions(self, choice: Choice) -> bool:
        """Whether money alone is not enough."""
        return bool(self.conditions) and (self.needs == "all" or choice.price is None)


def check_offer_untrusted(offer: Offer, assets: Assets) -> None:
    """Raise Refused.

    Codes: duration_out_of_range, invalid_offer, invalid_rules, recipient_not_eligible, and those of
    `read_amount_untrusted`.
    """
    lengths = [choice.seconds for choice in offer.choices]
    if not ONE_TO_ONE_S[0] <= min(lengths) <= max(lengths) <= ONE_TO_ONE_S[1]:
        raise Refused("duration_out_of_range")
    if len(set(lengths)) != len(lengths):
        raise Refused("invalid_offer", "each length has one price")
    prices = _prices(offer.choices)
    for price in prices:
        read_amount_untrusted(price, assets)
        assets.check_recipient(price.asset, 0)  # what only some may receive nobody can be asked for here
    if len({price.asset for price in prices}) > 1:
        raise Refused("invalid_offer", "all prices are of one asset")
    fault = next((fault for rule in offer.conditions if (fault := fault_of(rule)) is not None), None)
    if fault is not None:
        raise Refused("invalid_rules", fault)


def _prices(choices: Iterable[Choice]) -> list[WireAmount]:
    return [choice.price for choice in choices if choice.price is not None]


def price_to_hold(choice: Choice, most: Amount | None, tip: Amount | None) -> Amount:
    """Return what is held of a viewer who agrees to pay `most`, and maybe more than is asked (`tip`).

    Raises Refused: payment_required (nothing was agreed to), price_changed (with the price as it is), invalid_price.
    """
    assert choice.price is not None
    price = Amount(choice.price.asset, int(choice.price.units))
    if most is None:
        raise Refused("payment_required", price=choice.price)
    if most.asset != price.asset or price.units > most.units:
        raise Refused("price_changed", price=choice.price)
    if tip is None:
        return price
    if tip.asset != price.asset or tip.units < price.units:
        raise Refused("invalid_price", "a tip is at least what is asked, in the same asset")
    return tip

"""The assets that a node knows, and on which surface each may be spent: one table, out of the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from signalling.refusals import Refused

Surface = Literal["web", "mobile"]
Code = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9]{2,15}$")]
# 40 digits hold every token there is, with 18 decimals; without a bound, a number could be megabytes long.
Supply = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,39}$")]


class AssetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One asset, as the configuration says it.

    `scale` is the number of decimals, `supply` the number of whole ones that exist, as text since it may be large.
    `settles_in` is the asset that recipients get instead, "" for this one. `recipient_tier` is the lowest tier of those
    who may receive it. `step_up_above` is how many whole ones a session may give within a day before it has to be a
    fresh one, "" for any number.
    """

    code: Code
    scale: Annotated[int, Meta(ge=0, le=18)] = 2
    supply: Supply = "1000000000000"
    surfaces: Annotated[tuple[Surface, ...], Meta(max_length=2)] = ("web", "mobile")
    settles_in: Annotated[str, Meta(pattern=r"^([A-Z][A-Z0-9]{2,15})?$")] = ""
    recipient_tier: Annotated[int, Meta(ge=0, le=1000)] = 0
    step_up_above: Annotated[str, Meta(pattern=r"^([1-9][0-9]{0,39})?$")] = ""


# The page takes the platform's own token; shops of mobile systems forbid that, and take fiat.
DEFAULTS = (
    AssetSettings("USD", 2, settles_in="MESI", step_up_above="500"),
    AssetSettings("EUR", 2, settles_in="MESI", step_up_above="500"),
    AssetSettings("USDC", 6, surfaces=("web",), settles_in="MESI", step_up_above="500"),
    AssetSettings("MESI", 6, surfaces=("web",), step_up_above="5000"),
    AssetSettings("BONUS", 6, surfaces=("web",), recipient_tier=5),
)


class Asset(msgspec.Struct, frozen=True):
    """One asset; `supply` and `step_up_above` are in minor units, `settles_in` names an asset, maybe this one."""

    code: str
    scale: int
    supply: int
    surfaces: tuple[Surface, ...]
    settles_in: str
    recipient_tier: int
    step_up_above: int | None

    @property
    def is_bonus(self) -> bool:
        """Whether it is given away by the platform: only some may receive it, and nobody buys it or is paid it out."""
        return self.recipient_tier > 0


class Assets:
    """All assets by their code; raises ValueError for settings that contradict each other."""

    def __init__(self, settings: Iterable[AssetSettings] = DEFAULTS) -> None:
        self._assets: dict[str, Asset] = {}
        for each in settings:
            if each.code in self._assets:
                raise ValueError(f"{each.code} is there twice")
            supply = int(each.supply) * 10**each.scale
            target = each.settles_in or each.code
            above = int(each.step_up_above) * 10**each.scale if each.step_up_above else None
            self._assets[each.code] = Asset(
                each.code, each.scale, supply, each.surfaces, target, each.recipient_tier, above
            )
        for asset in self:
            if asset.settles_in not in self._assets:
                raise ValueError(f"{asset.code} settles in {asset.settles_in}, which is no asset here")

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._assets.values())

    def find(self, code: str) -> Asset:
        """Return an asset; raises Refused("asset_unknown")."""
        asset = self._assets.get(code)
        if asset is None:
            raise Refused("asset_unknown", f"the assets here are {', '.join(self._assets)}")
        return asset

    def check_surface(self, code: str, surface: Surface) -> None:
        """Raise Refused("asset_not_allowed_on_surface") where this asset may not be spent.

        The surface comes from the class of the session, never from the request.
        """
        if surface not in self.find(code).surfaces:
            raise Refused("asset_not_allowed_on_surface", f"{code} can't be spent on {surface}")

    def check_recipient(self, code: str, tier: int) -> None:
        """Raise Refused("recipient_not_eligible") for somebody of too low a tier to receive this asset."""
        if tier < self.find(code).recipient_tier:
            raise Refused("recipient_not_eligible", f"{code} goes only to creators of a higher tier")

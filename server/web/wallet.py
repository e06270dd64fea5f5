"""The API of one's own wallet, and of the assets that there are."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from server.money.amounts import Amount, WireAmount, read_amount_untrusted
from server.money.assets import Asset, Assets, Surface
from server.money.cashier import Cashier, RequestedWithdrawal, StartedDeposit, WalletView
from server.money.idempotency import Request, read_request_untrusted
from server.money.statement import StatementPage, read_cursor_untrusted
from server.web import schemas as s
from server.web.api import ROOT
from server.web.money import AMOUNT
from server.web.routes import Access, Answer, Asked, Route
from server.web.tips import KEYED, SPENDING, answer

Provider = Annotated[str, Meta(min_length=1, max_length=32)]
OWN = ("no_session", "rate_limited")


class AssetView(msgspec.Struct, frozen=True):
    """An asset: its decimals, where it may be spent, and what recipients get instead (maybe itself).

    `recipient_tier` is the lowest tier of those who may receive it. What is given above `step_up_above` within a day
    needs a session that has just logged in; null for any amount.
    """

    asset: str
    scale: int
    surfaces: tuple[Surface, ...]
    settles_in: str
    recipient_tier: int
    step_up_above: str | None


class AssetList(msgspec.Struct, frozen=True):
    """All assets that can be paid with."""

    assets: tuple[AssetView, ...]


class Transit(s.Taken, frozen=True):
    """Money to bring in or out, and through whom; null for the only, or first, provider."""

    amount: WireAmount
    provider: Provider | None = None


def wallet_routes(cashier: Cashier) -> list[Route]:
    """Return the routes of people's own wallets."""
    listed = AssetList(tuple(map(_asset, cashier.assets)))

    async def assets(asked: Asked) -> Answer:
        return Answer(listed)

    async def show(asked: Asked) -> Answer:
        return Answer(await cashier.show(asked.actor.account))

    async def entries(asked: Asked) -> Answer:
        before = read_cursor_untrusted(asked.query.cursor)
        return Answer(await cashier.statement(asked.actor.account, before, asked.query.limit))

    async def deposit(asked: Asked) -> Answer:
        amount, request = _read(asked, "deposits", cashier.assets)
        return answer(await cashier.start_deposit(asked.body.provider, amount, request))

    async def withdraw(asked: Asked) -> Answer:
        amount, request = _read(asked, "withdrawals", cashier.assets)
        return answer(await cashier.withdraw(asked.body.provider, amount, request))

    mine = f"{ROOT}/me/wallet"
    moving = (*OWN, *AMOUNT, *KEYED, "invalid_request", "provider_unknown", "bonus_asset", "not_stored")
    return [
        Route("GET", f"{ROOT}/assets", "What can be paid with", assets, Access.ANYONE, result=AssetList),
        Route("GET", mine, "What is in my wallet", show, result=WalletView, problems=OWN),
        Route(
            "GET",
            f"{mine}/entries",
            "What changed in my wallet, the newest first",
            entries,
            query=s.PageQuery,
            result=StatementPage,
            problems=(*OWN, "invalid_cursor", "invalid_request"),
        ),
        Route(
            "POST",
            f"{mine}/deposits",
            "Pay in: get the address where a payment provider takes the money",
            deposit,
            body=Transit,
            result=StartedDeposit,
            status=201,
            problems=(*moving, "provider_unavailable"),
        ),
        Route(
            "POST",
            f"{mine}/withdrawals",
            "Have paid out what may be",
            withdraw,
            body=Transit,
            result=RequestedWithdrawal,
            status=201,
            problems=(*moving, *SPENDING, "not_withdrawable_yet"),
        ),
    ]


def _asset(asset: Asset) -> AssetView:
    above = None if asset.step_up_above is None else str(asset.step_up_above)
    return AssetView(asset.code, asset.scale, asset.surfaces, asset.settles_in, asset.recipient_tier, above)


def _read(asked: Asked, what: str, assets: Assets) -> tuple[Amount, Request]:
    key, body = asked.headers.get("Idempotency-Key"), msgspec.json.encode(asked.body)
    request = read_request_untrusted(asked.actor.account, f"POST /me/wallet/{what}", key, body)
    return read_amount_untrusted(asked.body.amount, assets), request

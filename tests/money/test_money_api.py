"""Money over HTTP and from the command line, with a whole node on either database."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click.testing
import httpx2
import msgspec
import pytest
import trio

from server.cli import main
from server.config import Config, ProviderSettings
from server.money.webhooks import sign
from tests.money.provider_service import SECRET
from tests.server.nodes import Site, open_site, small_config


def with_money(folder: Path, place: Path | str) -> Config:
    config = small_config(folder)
    provider = ProviderSettings("pay", "http://127.0.0.1:9/", SECRET)
    data = msgspec.structs.replace(config.data, database=place if isinstance(place, str) else "")
    return msgspec.structs.replace(config, data=data, payment_providers=(provider,))


class Bank:
    """A site, its administrator's rights, and the command line."""

    def __init__(self, site: Site, folder: Path, token: str) -> None:
        self.site, self.folder = site, folder
        self.admin = {"Authorization": f"Bearer {token}"}

    async def deposit(self, body: dict[str, str], **headers: str) -> httpx2.Response:
        url = "/api/v1/admin/ledger/deposits"
        return await self.site.http.post(url, json=body, headers={**self.admin, **headers})

    async def available(self, name: str) -> str:
        answer = await self.site.http.get(f"/api/v1/admin/ledger/balances/{name}", headers=self.admin)
        return str(next(each["available"] for each in answer.json()["balances"] if each["asset"] == "USD"))

    async def webhook(self, event: dict[str, Any], secret: str = SECRET, provider: str = "pay") -> httpx2.Response:
        body = msgspec.json.encode(event)
        headers = {**sign(secret, "m1", body, dt.datetime.now(dt.UTC)), "Content-Type": "application/json"}
        return await self.site.http.post(f"/api/v1/webhooks/payments/{provider}", content=body, headers=headers)

    async def type(self, *words: str) -> click.testing.Result:
        arguments = ["ledger", *words, "--data", str(self.folder)]
        return await trio.to_thread.run_sync(lambda: click.testing.CliRunner().invoke(main, arguments))


@asynccontextmanager
async def open_bank(tmp_path: Path, place: Path | str) -> AsyncIterator[Bank]:
    folder = tmp_path / "node"
    async with open_site(folder, with_money(folder, place)) as site:
        await site.person("ann")
        yield Bank(site, folder, await site.running.auth.admin_token())


async def test_an_administrator_puts_money_in_once_for_each_key(tmp_path: Path, place: Path | str) -> None:
    async with open_bank(tmp_path, place) as bank:
        body = {"name": "ann", "asset": "USD", "amount": "12.50"}
        first = await bank.deposit(body, **{"Idempotency-Key": "k1"})
        again = await bank.deposit(body, **{"Idempotency-Key": "k1"})
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert first.json()["amount"] == {"asset": "USD", "units": "1250"}
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        other = await bank.deposit({**body, "amount": "13"}, **{"Idempotency-Key": "k1"})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
        assert await bank.available("ann") == "1250"
        metrics = await bank.site.http.get("/metrics")
        assert "mesi_idempotency_replays_total 1.0" in metrics.text


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"name": "nobody"}, 404, "account_unknown"),
        ({"asset": "GOLD"}, 422, "asset_unknown"),
        ({"amount": "1.001"}, 422, "invalid_amount"),
        ({"amount": "-1"}, 422, "invalid_amount"),
        ({"amount": "9" * 30}, 422, "amount_exceeds_supply"),
        ({"extra": "1"}, 422, "invalid_request"),
    ],
)
async def test_a_deposit_that_makes_no_sense_is_a_problem(
    tmp_path: Path, change: dict[str, str], status: int, code: str
) -> None:
    async with open_bank(tmp_path, tmp_path) as bank:
        answer = await bank.deposit({"name": "ann", "asset": "USD", "amount": "1", **change})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await bank.available("ann") == "0"


async def test_only_administrators_see_and_move_others_money(tmp_path: Path) -> None:
    async with open_bank(tmp_path, tmp_path) as bank:
        ann = await bank.site.person("ann")
        for method, path, body in (
            ("POST", "/admin/ledger/deposits", {"name": "ann", "asset": "USD", "amount": "1"}),
            ("GET", "/admin/ledger/balances/ann", None),
            ("GET", "/admin/ledger/check", None),
        ):
            assert (await ann.ask(method, path, body, status=403))["code"] == "admin_only"


async def test_a_provider_s_webhook_credits_once_and_another_s_not(tmp_path: Path, place: Path | str) -> None:
    async with open_bank(tmp_path, place) as bank:
        ann = await bank.site.person("ann")
        amount = {"asset": "USD", "units": "700"}
        event = {"type": "deposit.settled", "transaction": "t1", "account": ann.id, "amount": amount}
        answers = [(await bank.webhook(event)).json() for _ in range(2)]
        assert answers == [{"outcome": "done"}, {"outcome": "repeated"}]
        forged = await bank.webhook(event, secret="whsec_" + "A" * 44)
        assert (forged.status_code, forged.json()["code"]) == (401, "webhook_rejected")
        unknown = await bank.webhook(event, provider="other")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "provider_unknown")
        assert await bank.available("ann") == "700"


async def test_the_command_line_puts_in_shows_and_checks(tmp_path: Path, place: Path | str) -> None:
    async with open_bank(tmp_path, place) as bank:
        done = await bank.type("deposit", "ann", "USD", "12.50")
        assert (done.exit_code, done.output.startswith("deposit.operator.")) == (0, True)
        shown = await bank.type("balance", "ann")
        assert shown.output.splitlines()[0] == "12.50 USD"
        checked = await bank.type("check")
        assert (checked.exit_code, checked.output) == (0, "The books are right.\n")
        wrong = await bank.type("deposit", "ann", "USD", "12,50")
        assert wrong.exit_code == 1
        assert "write it like 12.50" in wrong.output


async def test_the_command_line_names_what_is_wrong_with_the_books(tmp_path: Path) -> None:
    async with open_bank(tmp_path, tmp_path) as bank:
        await bank.type("deposit", "ann", "USD", "12.50")
        connection = sqlite3.connect(bank.folder / "mesi.sqlite")
        connection.execute("UPDATE balances SET units = '1251' WHERE kind = 'wallet'")
        connection.commit()
        connection.close()
        checked = await bank.type("check")
        assert checked.exit_code == 1
        assert "has 1251, but its entries add up to 1250" in checked.output

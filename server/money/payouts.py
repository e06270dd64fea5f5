"""Tells payment providers what to pay out, over HTTP, until they have heard it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Protocol

import httpx2
import msgspec
import structlog
import trio

from server.config import ProviderSettings
from server.database.store import Database, StoreFailed
from server.money import providers
from server.money.amounts import Amount, wire_amount
from server.money.providers import Withdrawal
from server.money.webhooks import sign

LOOK_S = 5.0  # how often unheard withdrawals are looked for; people wait days for a bank
AT_ONCE = 20  # withdrawals in one round
TIMEOUT_S = 20.0  # Standard Webhooks asks for 15 to 30 s

log = structlog.get_logger("money")


class ProviderFailed(Exception):
    """A provider could not be asked, or did not take what it was asked; asking again later makes sense."""


class Provider(Protocol):
    """A payment provider. What it does is told by its webhooks; being asked twice is being asked once."""

    async def start_deposit(self, reference: str, account: str, amount: Amount) -> str:
        """Return the address where the account's owner pays; raises ProviderFailed."""

    async def pay_out(self, withdrawal: Withdrawal) -> None:
        """Return when the provider has taken it on; raises ProviderFailed."""


class HttpProvider:
    """A provider that takes signed JSON at /deposits and /payouts, named by an Idempotency-Key."""

    def __init__(self, settings: ProviderSettings, http: httpx2.AsyncClient) -> None:
        self._settings, self._http = settings, http

    async def start_deposit(self, reference: str, account: str, amount: Amount) -> str:
        """Return the address where the account's owner pays; raises ProviderFailed."""
        answer = await self._ask("deposits", reference, {"account": account, "amount": wire_amount(amount)})
        try:
            return msgspec.json.decode(answer, type=dict[str, str])["url"]
        except (msgspec.MsgspecError, UnicodeError, LookupError):
            raise ProviderFailed(f"{self._settings.name} gave no url") from None

    async def pay_out(self, withdrawal: Withdrawal) -> None:
        """Return when the provider has taken it on; raises ProviderFailed."""
        fields = {"account": withdrawal.account, "amount": wire_amount(withdrawal.amount)}
        await self._ask("payouts", withdrawal.id, fields)

    async def _ask(self, what: str, key: str, fields: Mapping[str, object]) -> bytes:
        body = msgspec.json.encode({"id": key, **fields})
        headers = sign(self._settings.secret, key, body, dt.datetime.now(dt.UTC))
        headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        url = f"{self._settings.url.rstrip('/')}/{what}"
        try:
            answer = await self._http.post(url, content=body, headers=headers, timeout=TIMEOUT_S)
        except httpx2.HTTPError as error:
            raise ProviderFailed(f"{self._settings.name}: {error}") from error
        if not answer.is_success:
            raise ProviderFailed(f"{self._settings.name} answered {answer.status_code}")
        return answer.content


class Payouts:
    """Carries requested withdrawals to their providers; after a crash it starts over, which providers don't mind."""

    def __init__(self, store: Database, known: Mapping[str, Provider]) -> None:
        self._store, self._known = store, known
        self.told = self.failures = 0

    async def run(self) -> None:
        """Look for withdrawals from time to time, until cancelled."""
        while True:
            try:
                await self.tell()
            except StoreFailed as error:
                log.warning("payouts_wait", reason=str(error))
            await trio.sleep(LOOK_S)

    async def tell(self) -> None:
        """Tell providers of what was requested; what fails stays for the next time. Raises StoreFailed."""
        for withdrawal in await self._store.read(providers.untold, AT_ONCE):
            provider = self._known.get(withdrawal.provider)
            try:
                if provider is None:
                    raise ProviderFailed(f"{withdrawal.provider} is not in the configuration any more")
                await provider.pay_out(withdrawal)
            except ProviderFailed as error:
                self.failures += 1
                log.warning("payout_failed", withdrawal=withdrawal.id, reason=str(error))
                continue
            await self._store.write(providers.mark_told, withdrawal.id)
            self.told += 1

    def counters(self) -> dict[str, int]:
        """How providers took what they were told, by name."""
        return {"payouts_told": self.told, "payout_failures": self.failures}

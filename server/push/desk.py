"""What people do about what they are told: which devices, and of what."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

import sqlalchemy as sa

from server.database.store import Database
from server.push import devices
from server.push.devices import Device
from server.push.notices import Kinds
from signalling.identifiers import AccountId

ID_BYTES = 16


class PushDesk:
    """Devices and wishes on a node's store; raises Refused and StoreFailed. `recount` is called when devices change."""

    def __init__(
        self,
        store: Database,
        wall_ms: Callable[[], int],
        public_key: str,
        recount: Callable[[], Awaitable[None]],
        *,
        private: bool,
    ) -> None:
        self._store, self._wall_ms, self._recount, self._private = store, wall_ms, recount, private
        self.public_key = public_key

    async def show(self, account: AccountId) -> tuple[Kinds, list[Device]]:
        """Return what an account is told of, and where."""
        return await self._store.read(_show, account)

    async def set_kinds(self, account: AccountId, kinds: Kinds) -> None:
        """Say what an account wants to be told of."""
        await self._store.write(devices.set_kinds, account, kinds)

    async def place(self, account: AccountId, endpoint: str, p256dh: str, auth: str) -> Device:
        """Tell a device from now on, or still. Raises Refused("invalid_push_subscription")."""
        given = devices.subscription_untrusted(endpoint, p256dh, auth, private=self._private)
        id = f"d_{secrets.token_hex(ID_BYTES)}"
        device = await self._store.write(devices.place, id, account, given, self._wall_ms())
        await self._recount()
        return device

    async def remove(self, account: AccountId, id: str) -> None:
        """Tell a device no more. Raises Refused("push_device_unknown")."""
        await self._store.write(devices.remove, account, id)
        await self._recount()


def _show(connection: sa.Connection, account: str) -> tuple[Kinds, list[Device]]:
    return devices.kinds_of(connection, account), devices.list_of(connection, account)

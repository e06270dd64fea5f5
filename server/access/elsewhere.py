"""What blocks and suspensions cut besides streams."""

from __future__ import annotations

from typing import Protocol

from signalling.identifiers import AccountId


class Elsewhere(Protocol):
    """Where people meet who are to be parted. Each returns when nothing is sent any more that may not be."""

    async def set_apart(self, one: AccountId, other: AccountId) -> None:
        """Take up that one of two blocked the other."""

    async def shut_out(self, account: AccountId) -> None:
        """Take up that an account is suspended."""

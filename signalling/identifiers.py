"""Identifiers of people and streams, and who is asking."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

AccountId = NewType("AccountId", str)
StreamId = NewType("StreamId", str)


class Mode(StrEnum):
    """Who a stream is for."""

    PUBLIC = "public"
    PRIVATE = "private"
    PAID = "paid"
    ONE_TO_ONE = "one_to_one"


@dataclass(frozen=True, slots=True)
class Actor:
    """An authenticated account; `admin` may do what a stream's owner may.

    `until_ms` is when its token expires (wall-clock epoch), None where it showed none.
    """

    account: AccountId
    name: str
    admin: bool = False
    until_ms: int | None = field(default=None, compare=False)

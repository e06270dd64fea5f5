"""What the configuration says of conversations."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class MessageQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many messages a day (UTC) accounts may write from a tier on."""

    tier: Annotated[int, Meta(ge=0, le=100)]
    per_day: Annotated[int, Meta(ge=0, le=1_000_000)]


class Messages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast one account may write messages, and how many a day by its tier; no quotas are no limit."""

    per_s: Annotated[float, Meta(gt=0, le=1_000_000)] = 5.0
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 30
    quotas: Annotated[tuple[MessageQuota, ...], Meta(max_length=101)] = ()

"""What the configuration says of reviewing."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Review(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how many days a decision may be appealed against, and above how much money two reviewers decide.

    `second_above` is in whole ones of whatever asset was paid.
    """

    appeal_days: Annotated[int, Meta(ge=1, le=3650)] = 183
    second_above: Annotated[str, Meta(pattern=r"^[0-9]{1,12}$")] = "200"

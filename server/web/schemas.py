"""What the API takes, and what it gives besides the views that the signalling socket gives, too.

Unknown members of what it takes are refused; what it gives may grow. Times are wall-clock epoch milliseconds, and names
of durations end in their unit.
"""

from __future__ import annotations

import typing
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from media.door import Quality
from server.money.assets import Surface
from signalling.wire.views import BestPicture, Kind, Person

MODES = ("public", "private", "paid")
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Title = Annotated[str, Meta(min_length=1, max_length=200)]
Description = Annotated[str, Meta(max_length=2000)]
Password = Annotated[str, Meta(min_length=8, max_length=256)]
# Any text is taken, since what is no mode and no kind has a code of its own: invalid_mode.
ModeName = Annotated[str, Meta(extra_json_schema={"enum": [*MODES]})]
KindName = Annotated[str, Meta(extra_json_schema={"enum": [*typing.get_args(Kind)]})]
AnyModeName = Literal["public", "private", "paid", "one_to_one"]
PageSize = Annotated[int, Meta(ge=1, le=200)]


class Taken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request may hold."""


class Credentials(Taken, frozen=True):
    """A name and its password."""

    name: Name
    password: Password


class NewStream(Taken, frozen=True):
    """A stream to open; `best_picture` is for whom the best layer of simulcast is while it is public."""

    title: Title
    kind: KindName = "video"
    mode: ModeName = "public"
    description: Description = ""
    best_picture: BestPicture = "everyone"


class StreamDescription(Taken, frozen=True):
    """What a stream is called and how it is described from now on; null, or nothing, leaves it as it is."""

    title: Title | None = None
    description: Description | None = None


class WantedMode(Taken, frozen=True):
    """The mode to prepare."""

    mode: ModeName


class Confirmation(Taken, frozen=True):
    """What was given by the preparation; `allow_empty` when nobody would be left.

    With `after_s` (up to 600) the switch is announced to the viewers, and comes by itself in so many seconds.
    """

    confirm_token: str
    allow_empty: bool = False
    after_s: int = 0


class TimeLimit(Taken, frozen=True):
    """Seconds from now until the stream ends, null for no limit."""

    seconds: int | None


class WantedBestPicture(Taken, frozen=True):
    """For whom the best layer of simulcast is while the stream is public.

    "entitled" are those who might watch it if it were private: whoever meets its rules, and whom the streamer chose by
    name. In every other mode whoever watches has it. MoQ sessions get what is for everyone.
    """

    best_picture: BestPicture


class MoreSecondsAgreed(Taken, frozen=True):
    """The seconds more to agree to, as they were asked for."""

    seconds: int


class Invitation(Taken, frozen=True):
    """The viewer to take into a one-to-one, and for how long (300 to 1800 s)."""

    account: str
    seconds: int


class Whom(Taken, frozen=True):
    """An account, by its id."""

    account: str


class NewMessage(Taken, frozen=True):
    """A chat message; the same `client_txn` twice is one message."""

    text: Annotated[str, Meta(min_length=1, max_length=2000)]
    client_txn: Annotated[str, Meta(min_length=1, max_length=64)]


class NewAccount(Taken, frozen=True):
    """An account that an administrator makes; it has no password."""

    name: Name


class NewToken(Taken, frozen=True):
    """A token that an administrator makes for an account; `surface` is where it is used, and so what it may spend."""

    name: Name
    expires_s: Annotated[int, Meta(ge=1)] = 3600
    surface: Surface = "web"


class NewStreamFor(NewStream, frozen=True, kw_only=True):
    """A stream that an administrator opens for an account."""

    name: Name


class PageQuery(Taken, frozen=True):
    """Which part of a list; `cursor` comes from the page before."""

    cursor: str | None = None
    limit: PageSize = 50


class DirectoryQuery(PageQuery, frozen=True):
    """Which part of the directory, and which streams: of a kind, in a mode, with a text in title or streamer's name."""

    kind: Kind | None = None
    mode: AnyModeName | None = None
    text: Annotated[str, Meta(max_length=200)] = ""


class LayerWish(Taken, frozen=True, rename="camel"):
    """Which picture a viewer wishes for, after the layer extension of WHEP; without `encodingId` what fits best.

    `maxHeight` says how many pixels high it is shown: nothing larger is sent than the smallest that fills that. A
    session has one picture, so that `mediaId` chooses nothing.
    """

    encoding_id: Quality | None = None
    max_height: Annotated[int, Meta(ge=1, le=16_384)] | None = None
    media_id: Annotated[str, Meta(max_length=64)] | None = None


class Me(msgspec.Struct, frozen=True):
    """The account that asks."""

    id: str
    name: str
    admin: bool


class Session(msgspec.Struct, frozen=True):
    """A log-in: the bearer token, and until when it holds."""

    token: str
    expires_at: int
    account: Person


class Token(msgspec.Struct, frozen=True):
    """A bearer token, and until when it holds."""

    token: str
    expires_at: int


Shown = TypeVar("Shown")


def shown(value: object, schema: type[Shown]) -> Shown:
    """Return the parts of an inner value that the API shows; a part that is not there is a bug and raises."""
    return msgspec.convert(value, schema, from_attributes=True)

"""What clients see of streams and rooms, the same over HTTP and over the signalling socket."""

from __future__ import annotations

from typing import Literal

import msgspec

from signalling.identifiers import AccountId, Mode, StreamId

Kind = Literal["video", "audio"]
StateWord = Literal["waiting", "live", "interrupted", "one_to_one"]
BestPicture = Literal["everyone", "entitled"]
Role = Literal["streamer", "guest", "viewer"]


class Person(msgspec.Struct, frozen=True):
    """An account as others see it."""

    id: AccountId
    name: str


class Money(msgspec.Struct, frozen=True):
    """An amount: whole minor units of an asset, as text since there may be more than a JavaScript number can count."""

    asset: str
    units: str


class TicketOffer(msgspec.Struct, frozen=True):
    """Tickets that are sold just now: the sale, what one costs, and how many are left."""

    sale: str
    price: Money
    left: int


class Card(msgspec.Struct, frozen=True):
    """A stream as the directory lists it; all times are wall-clock epoch milliseconds.

    `started_at` is when it was opened; `state` is "waiting" before the first picture and "interrupted" while the
    streamer's connection is lost. At `switches_at` the mode will be `next_mode`; `offer` are the tickets on sale.
    `best_picture` is for whom the best layer of simulcast is while the stream is public: "entitled" are those who might
    watch it if it were private. `hosts` are live beside the streamer.
    """

    id: StreamId
    title: str
    description: str
    kind: Kind
    mode: Mode
    state: StateWord
    streamer: Person
    viewers: int
    epoch: int
    started_at: int
    ends_at: int | None
    one_to_one_ends_at: int | None
    next_mode: Mode | None = None
    switches_at: int | None = None
    offer: TicketOffer | None = None
    best_picture: BestPicture = "everyone"
    hosts: tuple[Person, ...] = ()


class You(msgspec.Struct, frozen=True):
    """What the asker may do in a stream: `reason` says why not, `readmit` which grants would help.

    `best_picture`: the best layer of simulcast is among what may be received. `extension_s` are the seconds more that
    the guest of the running one-to-one asks for: its two know of it, for all others it is 0.
    """

    admitted: bool
    reason: str | None
    grants: tuple[str, ...]
    role: Role
    readmit: tuple[str, ...] = ()
    best_picture: bool = False
    extension_s: int = 0


class StreamView(msgspec.Struct, frozen=True):
    """One stream, as one account sees it."""

    card: Card
    you: You
    server_now: int


class Page(msgspec.Struct, frozen=True):
    """Some streams of the directory, newest first; `cursor` leads to the next page, None when there is none.

    `version` counts the directory's changes: what was told of a stream with a higher one is newer than this page.
    """

    streams: tuple[Card, ...]
    cursor: str | None
    server_now: int
    version: int


class Prepared(msgspec.Struct, frozen=True):
    """What a mode switch would do as of now, by names; `confirm_token` does it until `expires_at`.

    The lists are cut off after MAX_NAMES, the counts are not. `paying` have reserved a seat and wait in the lobby,
    without media, until they have paid; `offer` are the tickets on sale, null when none are.
    """

    mode: Mode
    would_remove: tuple[str, ...]
    would_remove_count: int
    holders: tuple[str, ...]
    holders_count: int
    confirm_token: str
    expires_at: int
    paying: tuple[str, ...] = ()
    paying_count: int = 0
    offer: TicketOffer | None = None


class Followed(msgspec.Struct, frozen=True):
    """The log is followed, from the event after `after` on."""

    after: int


class ModeChanged(msgspec.Struct, frozen=True):
    """A confirmed switch, and who had to go, by names (the first MAX_NAMES).

    Between the decision and the last packet to the former audience at most `fenced_ns` passed. With `switches_at` the
    switch was only announced: it comes then, by itself, and who has to go is seen then.
    """

    mode: Mode
    epoch: int
    removed: tuple[str, ...]
    removed_count: int
    fenced_ns: int
    switches_at: int | None = None


class TimeLimitChanged(msgspec.Struct, frozen=True):
    """When the stream ends, None for no limit."""

    ends_at: int | None


class OneToOneAnswer(msgspec.Struct, frozen=True):
    """An accepted one-to-one of `seconds`: the viewer must confirm to be there before `confirm_by`.

    From then on both sides must send media before `setup_ends_at`. Of the two times one is null, both once it runs.
    """

    account: AccountId
    seconds: int
    confirm_by: int | None
    setup_ends_at: int | None


class ChatAccepted(msgspec.Struct, frozen=True):
    """A chat message was sent as number `seq`, at `at`."""

    seq: int
    at: int


class Done(msgspec.Struct, frozen=True):
    """It is done; `epoch` is the room's last access change."""

    epoch: int


class Participant(msgspec.Struct, frozen=True):
    """Someone present in a room; `watching` with a media connection."""

    account: Person
    admitted: bool
    watching: bool


class WaitingGuest(msgspec.Struct, frozen=True):
    """Someone who asked for a one-to-one of `seconds`; who is offered it has until `confirm_by` to come."""

    id: AccountId
    name: str
    seconds: int | None
    confirm_by: int | None = None


class OneToOneView(msgspec.Struct, frozen=True):
    """A one-to-one as its two see it; `ends_at` is None while the clock stands."""

    guest: Person
    ends_at: int | None


class RoomView(msgspec.Struct, frozen=True):
    """A whole room, for its streamer and administrators; lists are cut off after MAX_NAMES, `present` is not."""

    card: Card
    participants: tuple[Participant, ...]
    present: int
    tickets: tuple[Person, ...]
    entitled: tuple[Person, ...]
    ejected: tuple[Person, ...]
    requests: tuple[WaitingGuest, ...]
    one_to_one: OneToOneView | None
    server_now: int


MAX_NAMES = 1000  # a person does not read a longer list, and it fits an outbox

Reply = Prepared | ModeChanged | TimeLimitChanged | OneToOneAnswer | ChatAccepted | Done | StreamView | RoomView

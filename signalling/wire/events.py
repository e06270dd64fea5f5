"""What clients are told over the signalling socket; deadlines are wall-clock epoch milliseconds."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from signalling.identifiers import AccountId, Mode, StreamId
from signalling.messenger.model import ConversationId
from signalling.wire.views import BestPicture, Card, Person, TicketOffer, You

Circle = Literal["main", "one_to_one"]


class WireEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Every event carries the server's clock, so that a client with a wrong one counts down right."""

    server_now: int


class _OfStream(WireEvent, frozen=True, kw_only=True):
    stream: StreamId


class Welcome(WireEvent, frozen=True, kw_only=True, tag="welcome"):
    """The connection stands; `resumed` says whether the former session goes on."""

    session: str
    account: Person
    resumed: bool


class Gap(WireEvent, frozen=True, kw_only=True, tag="gap"):
    """Events after `after` are lost: fetch anew what matters."""

    after: int


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log, with the id that it has everywhere: here, in the API and in webhooks.

    `subject` is the account or the stream that it is about, `at` when it happened, `data` what its `type` says.
    """

    id: int
    type: str
    subject: str
    at: int
    data: dict[str, Any]


class LogEntryTold(WireEvent, frozen=True, kw_only=True, tag="events.entry"):
    """What happened, to those who follow the log, in the order of ids; follow on after the last id that arrived."""

    entry: LogEntry


class LogGap(WireEvent, frozen=True, kw_only=True, tag="events.gap"):
    """Events up to `dropped_to` are dropped, and you had read up to `after` only: fetch anew what matters."""

    after: int
    dropped_to: int


class BlockChanged(WireEvent, frozen=True, kw_only=True, tag="block.changed"):
    """You blocked someone, or no longer do, perhaps on another device; the other is never told."""

    name: str
    blocked: bool


class DirectorySnapshot(WireEvent, frozen=True, kw_only=True, tag="directory.snapshot"):
    """The live streams, newest first; with `next_cursor` set the API has more.

    It replaces all that is known of streams with no higher `version`: pages, snapshots and deltas count alike.
    """

    streams: tuple[Card, ...]
    next_cursor: str | None
    version: int


class DirectoryDelta(_OfStream, frozen=True, kw_only=True, tag="directory.delta"):
    """A stream as the directory lists it now; None: no longer. Of what is known of it, the highest `version` counts."""

    card: Card | None
    version: int


class ChatMessage(_OfStream, frozen=True, kw_only=True, rename={"sender": "from"}, tag="chat.message"):
    """Someone said something. `seq` rises by one within a stream's `circle`; the two of a one-to-one have their own."""

    seq: int
    circle: Circle
    sender: Person
    text: str
    at: int


class StreamState(_OfStream, frozen=True, kw_only=True, tag="stream.state"):
    """Everything about a stream that its page shows: sent on joining, on resuming and when the right changes."""

    card: Card
    you: You
    chat: tuple[ChatMessage, ...]


class RoomPresence(_OfStream, frozen=True, kw_only=True, omit_defaults=True, tag="room.presence"):
    """How many accounts watch; the streamer also sees who (the first MAX_NAMES)."""

    viewers: int
    names: tuple[str, ...] | None = None


class StreamStarted(_OfStream, frozen=True, kw_only=True, tag="stream.started"):
    """The first picture is there."""


class BestPictureTold(_OfStream, frozen=True, kw_only=True, tag="stream.best_picture"):
    """For whom the best layer of simulcast is while the stream is public, and whether it is `yours`.

    Said when the streamer changes it, and when you got it or lost it by something else, such as following.
    """

    best_picture: BestPicture
    yours: bool
    epoch: int


class ModePrepared(_OfStream, frozen=True, kw_only=True, tag="stream.mode_prepared"):
    """To the streamer alone: a switch waits for confirmation."""

    mode: Mode
    expires_at: int


class ModePending(_OfStream, frozen=True, kw_only=True, tag="stream.mode_pending"):
    """To all: at `at` the stream will be for other people, by itself."""

    mode: Mode
    at: int


class ModeCalledOffTold(_OfStream, frozen=True, kw_only=True, tag="stream.mode_called_off"):
    """To all: the switch that was announced will not come."""

    mode: Mode


class ModeSwitchedTold(_OfStream, frozen=True, kw_only=True, tag="stream.mode_changed"):
    """The stream is for other people now."""

    mode: Mode
    epoch: int


class TimeLimitTold(_OfStream, frozen=True, kw_only=True, tag="stream.time_limit"):
    """When the stream ends; None: when its streamer wants."""

    ends_at: int | None


class StreamWarning(_OfStream, frozen=True, kw_only=True, tag="stream.warning"):
    """The stream ends soon."""

    ends_at: int
    remaining_s: int


class StreamInterrupted(_OfStream, frozen=True, kw_only=True, tag="stream.interrupted"):
    """The streamer's connection is lost; without it the stream ends at `ends_at`."""

    ends_at: int


class StreamResumed(_OfStream, frozen=True, kw_only=True, tag="stream.resumed"):
    """The streamer is back."""


class StreamEndedTold(_OfStream, frozen=True, kw_only=True, tag="stream.ended"):
    """The stream is over."""

    reason: str


class AccessGrantedTold(_OfStream, frozen=True, kw_only=True, tag="access.granted"):
    """You may watch now; `via` says what lets you, such as follows, sub_tier, invite, ticket or streamer."""

    epoch: int
    via: str


class AccessRevokedTold(_OfStream, frozen=True, kw_only=True, tag="access.revoked"):
    """You may no longer watch; `readmit` lists what would let you back in, `offer` where a ticket would.

    The reason payment_pending is the lobby: keep the connection, media comes back on it once the ticket is paid for.
    """

    reason: str
    epoch: int
    readmit: tuple[str, ...]
    offer: TicketOffer | None = None


class AccessRulesChanged(_OfStream, frozen=True, kw_only=True, tag="access.rules_changed"):
    """Who may watch is decided by other rules now; whoever does not meet them was told before."""

    version: int


class InviteRequested(_OfStream, frozen=True, kw_only=True, tag="invite.requested"):
    """To the streamer: someone used an invitation that needs your approval."""

    invite: str
    account: AccountId
    name: str


class OneToOneRequestedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.requested"):
    """To the streamer: a viewer asks."""

    account: AccountId
    name: str
    seconds: int | None


class OneToOneQueued(_OfStream, frozen=True, kw_only=True, tag="one_to_one.queued"):
    """To who asked: the request waits, as number `position` (from 1) of `waiting`.

    `estimated_start` is when it would begin if everybody before took the whole time; it moves when something changes.
    """

    position: int
    waiting: int
    estimated_start: int


class OneToOneOfferedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.offered"):
    """To both: the streamer takes this viewer, who must confirm before `confirm_by`; until then the stream goes on."""

    account: AccountId
    name: str
    seconds: int
    confirm_by: int


class OneToOneDeclined(_OfStream, frozen=True, kw_only=True, tag="one_to_one.declined"):
    """To both: the streamer turned the request down."""

    account: AccountId


class OneToOneCancelled(_OfStream, frozen=True, kw_only=True, tag="one_to_one.cancelled"):
    """To both: the request is gone; `reason` is cancelled, missed, left, access_revoked, mode_changed, expired, ..."""

    account: AccountId
    reason: str


class OneToOneAcceptedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.accepted"):
    """To the two: both must send media before `setup_ends_at`; then the clock starts."""

    publish: bool
    setup_ends_at: int


class OneToOneStartedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.started"):
    """To the two: the clock runs, or runs on."""

    ends_at: int


class OneToOnePausedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.paused"):
    """To the two: a connection is lost and the clock stands; the one-to-one ends unless it is back by `resume_by`."""

    resume_by: int


class ExtensionAskedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.extension_asked"):
    """To the two: the guest asks for so many seconds more."""

    account: AccountId
    seconds: int


class ExtensionEndedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.extension_ended"):
    """To the two: nothing comes of it; `reason` is cancelled or declined. What was held for it goes back."""

    account: AccountId
    seconds: int
    reason: str


class OneToOneExtendedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.extended"):
    """To the two: it lasts so many seconds longer, until `ends_at`; null while the clock stands."""

    seconds: int
    ends_at: int | None


class OneToOneWarning(_OfStream, frozen=True, kw_only=True, tag="one_to_one.warning"):
    """To the two: it ends soon."""

    ends_at: int
    remaining_s: int


class OneToOneEndedTold(_OfStream, frozen=True, kw_only=True, tag="one_to_one.ended"):
    """To the two: it is over."""

    reason: str
    delivered_s: int


class OneToOneNotice(_OfStream, frozen=True, kw_only=True, tag="one_to_one.notice"):
    """To the others: the streamer is in a one-to-one, until `ends_at` once its clock runs. Never with whom."""

    ends_at: int | None


class MediaTakenOver(_OfStream, frozen=True, kw_only=True, tag="media.taken_over"):
    """To all your devices: the media session `session` ended, since newer ones of yours took its place.

    One over MoQ has no id here and goes on without the stream: then `session` is null.
    """

    session: str | None
    reason: str


class TypingShown(WireEvent, frozen=True, kw_only=True, tag="conversation.typing"):
    """All who are writing in a conversation now, for some seconds; it replaces what was said before."""

    conversation: ConversationId
    accounts: tuple[Person, ...]


class OneToOneOffered(_OfStream, frozen=True, kw_only=True, tag="one_to_one.offer"):
    """The streamer asks for something else in return for a one-to-one now; this is its version."""

    version: int


class OneToOneSettled(_OfStream, frozen=True, kw_only=True, tag="one_to_one.settled"):
    """To both: what became of a request's money, in minor units as text; null where nothing was held."""

    request: str
    reason: str
    delivered_s: int
    asset: str | None
    captured: str | None
    refunded: str | None


class MediaGrant(_OfStream, frozen=True, kw_only=True, tag="media.grant"):
    """You may publish until then."""

    until: int


class MediaRevoked(_OfStream, frozen=True, kw_only=True, tag="media.revoked"):
    """You may no longer publish."""

    reason: str


def every_event_type() -> list[type[WireEvent]]:
    """Return all event types, for documentation and tests."""
    found: list[type[WireEvent]] = []
    left = [WireEvent]
    while left:
        kinds = left.pop().__subclasses__()
        left += kinds
        found += [kind for kind in kinds if not kind.__name__.startswith("_")]
    return found

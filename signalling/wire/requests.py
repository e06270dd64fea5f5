"""What clients ask over the signalling socket; every field is checked and bounded while it is decoded."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from media.door import Quality
from signalling.identifiers import AccountId, Mode, StreamId
from signalling.messenger.model import ConversationId
from signalling.wire.views import BestPicture

# Generous for identifiers and tokens of ours; what is longer is none of them.
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Stream = Annotated[StreamId, Meta(min_length=1, max_length=128)]
Conversation = Annotated[ConversationId, Meta(min_length=1, max_length=128)]
Account = Annotated[AccountId, Meta(min_length=1, max_length=128)]
Id = Annotated[int, Meta(ge=0, le=2**53 - 1)]  # what every client can count to, JavaScript too
Seconds = Annotated[int, Meta(ge=-(2**53), le=2**53)]  # which of these make sense is the policy's to say
MAX_TEXT = 4_000  # characters on the wire; how long a chat message may be is chat's to say


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a lost connection was: its session, and the last `event` number that arrived."""

    session: Name
    after: Id


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello", forbid_unknown_fields=True):
    """The first message of a connection. Over WebTransport the token may be in the URL instead."""

    token: Annotated[str, Meta(max_length=4_096)] | None = None
    resume: Resume | None = None


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    id: Id


class _OfStream(_Request, frozen=True, kw_only=True):
    stream: Stream


class WatchDirectory(_Request, frozen=True, tag="watch_directory"):
    """Tell me which streams are live, and every change."""


class UnwatchDirectory(_Request, frozen=True, tag="unwatch_directory"):
    """No more of that."""


class FollowEvents(_Request, frozen=True, tag="events.follow"):
    """Send the log's events that I may see, from the one after `after` on, or from now on (null).

    It ends with the connection: after another, ask again, with the last id that arrived.
    """

    after: Id | None = None


class UnfollowEvents(_Request, frozen=True, tag="events.unfollow"):
    """No more of that."""


class ShowPage(_Request, frozen=True, kw_only=True, tag="page.in_sight"):
    """Somebody looks at this page, or no longer: while they do, nothing is pushed to their devices.

    It ends with the connection: after another, say so again.
    """

    in_sight: bool


class JoinStream(_OfStream, frozen=True, tag="join"):
    """I am present in this stream."""


class LeaveStream(_OfStream, frozen=True, tag="leave"):
    """I am no longer."""


class SendChat(_OfStream, frozen=True, kw_only=True, tag="chat"):
    """Say something; the same `client_txn` twice is said once."""

    text: Annotated[str, Meta(max_length=MAX_TEXT)]
    client_txn: Name


class PrepareModeSwitch(_OfStream, frozen=True, kw_only=True, tag="prepare_mode"):
    """Say what a switch to this mode would do."""

    mode: Mode


class ConfirmModeSwitch(_OfStream, frozen=True, kw_only=True, tag="confirm_mode"):
    """Do what was prepared."""

    confirm_token: Name
    allow_empty: bool = False


class LimitTime(_OfStream, frozen=True, kw_only=True, tag="set_time_limit"):
    """End the stream in so many seconds, or never (null)."""

    seconds: Seconds | None


class ReserveBestPicture(_OfStream, frozen=True, kw_only=True, tag="set_best_picture"):
    """While the stream is public, let everyone have the best layer of simulcast, or only who might watch in private."""

    best_picture: BestPicture


class AskOneToOne(_OfStream, frozen=True, kw_only=True, tag="request_one_to_one"):
    """I would like a one-to-one."""

    seconds: Seconds | None = None


class WithdrawOneToOne(_OfStream, frozen=True, tag="cancel_one_to_one"):
    """I would not, after all."""


class ComeToOneToOne(_OfStream, frozen=True, tag="confirm_one_to_one"):
    """I come to the one-to-one that I am offered."""


class TakeOneToOne(_OfStream, frozen=True, kw_only=True, tag="accept_one_to_one"):
    """The streamer takes this viewer."""

    account: Account
    seconds: Seconds


class TurnDownOneToOne(_OfStream, frozen=True, kw_only=True, tag="decline_one_to_one"):
    """The streamer does not."""

    account: Account


class AskMoreTime(_OfStream, frozen=True, kw_only=True, tag="request_extension"):
    """I would like so many seconds more, where nothing is paid."""

    seconds: Seconds


class WithdrawMoreTime(_OfStream, frozen=True, tag="cancel_extension"):
    """I would not, after all."""


class GiveMoreTime(_OfStream, frozen=True, kw_only=True, tag="accept_extension"):
    """The streamer agrees to the seconds that are asked for."""

    seconds: Seconds


class RefuseMoreTime(_OfStream, frozen=True, tag="decline_extension"):
    """The streamer does not."""


class HangUp(_OfStream, frozen=True, tag="end_one_to_one"):
    """End the running one-to-one."""


class PutOut(_OfStream, frozen=True, kw_only=True, tag="eject"):
    """Put an account out."""

    account: Account


class LetBackIn(_OfStream, frozen=True, kw_only=True, tag="readmit"):
    """Let an ejected account back in."""

    account: Account


class StopStream(_OfStream, frozen=True, tag="end_stream"):
    """End the stream."""


Attachments = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=32)]


class _OfConversation(_Request, frozen=True, kw_only=True):
    conversation: Conversation


class SendMessage(_OfConversation, frozen=True, kw_only=True, tag="message.send"):
    """Write a message; the same `client_txn` twice is written once. `attachments` are files that are ready, by id."""

    text: Annotated[str, Meta(max_length=MAX_TEXT)]
    client_txn: Annotated[str, Meta(min_length=1, max_length=64)]
    reply_to: Id | None = None
    attachments: Attachments = ()


class MarkConversation(_OfConversation, frozen=True, kw_only=True, tag="conversation.mark"):
    """I have got, and read, everything up to these messages; unless `private`, others are told."""

    delivered: Id = 0
    read: Id = 0
    private: bool = False


class TypeMessage(_OfConversation, frozen=True, tag="conversation.type"):
    """I am writing; say so again every few seconds."""


class WatchPeople(_Request, frozen=True, kw_only=True, tag="presence.watch"):
    """Tell me how these people are, and when that changes; in place of those whom I named before.

    It ends with the connection: after another, ask again.
    """

    accounts: Annotated[tuple[Account, ...], Meta(max_length=200)]


class PreferPicture(_Request, frozen=True, kw_only=True, tag="media.prefer"):
    """I wish for a better or a lesser picture in a WHEP session, by default the one that this data channel is in.

    `quality` null is what fits best, and `max_height` how many pixels high it is shown.
    """

    session: Name | None = None
    quality: Quality | None = None
    max_height: Annotated[int, Meta(ge=1, le=16_384)] | None = None


class Ping(_Request, frozen=True, tag="ping"):
    """Ask for a sign of life; the answer carries the server's clock."""


Request = (
    WatchDirectory
    | UnwatchDirectory
    | FollowEvents
    | UnfollowEvents
    | ShowPage
    | JoinStream
    | LeaveStream
    | SendChat
    | PrepareModeSwitch
    | ConfirmModeSwitch
    | LimitTime
    | ReserveBestPicture
    | AskOneToOne
    | WithdrawOneToOne
    | ComeToOneToOne
    | TakeOneToOne
    | TurnDownOneToOne
    | AskMoreTime
    | WithdrawMoreTime
    | GiveMoreTime
    | RefuseMoreTime
    | HangUp
    | PutOut
    | LetBackIn
    | StopStream
    | SendMessage
    | MarkConversation
    | TypeMessage
    | WatchPeople
    | PreferPicture
    | Ping
)

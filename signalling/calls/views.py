"""Calls as clients see them, and what is kept of them in a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from signalling.calls.state import Call, CallId
from signalling.identifiers import AccountId, StreamId
from signalling.messenger.model import ConversationId, Kind
from signalling.wire.events import WireEvent
from signalling.wire.views import Person


class CallParty(msgspec.Struct, frozen=True):
    """Somebody's part in a call: rung, joining, in, lost (it may come back), or out, and then why.

    `device` is the one on which it was answered; on others there is nothing to do.
    """

    account: Person
    stage: Literal["rung", "joining", "in", "lost", "out"]
    device: str
    why: str


class CallView(msgspec.Struct, frozen=True):
    """A call. `asked` asks the others for pictures; `stream` is what its `starter` has made it, while that is live.

    Those `named` are asked to be live there, too. `reason` is null until it has ended: then ended, connection_lost,
    cancelled, declined, missed, busy, interrupted (by a restart of the server) or internal_error. `seconds` is how long
    two or more were in it, once it has ended. `version` rises with each change: of what is known of a call the highest
    counts, as an answer may arrive after the event that followed it.
    """

    id: CallId
    conversation: ConversationId
    kind: Kind
    caller: Person
    video: bool
    state: Literal["ringing", "running", "live", "ended"]
    parties: tuple[CallParty, ...]
    asked: AccountId | None
    began_at: int
    met_at: int | None
    stream: StreamId | None
    starter: AccountId | None
    named: tuple[AccountId, ...]
    reason: str | None
    seconds: int
    version: int


class CallList(msgspec.Struct, frozen=True):
    """Calls that ring me, or that I am in."""

    calls: tuple[CallView, ...]


class CallCard(msgspec.Struct, frozen=True):
    """What the message of a call shows; it is brought up to date in place."""

    call: CallId
    video: bool
    state: Literal["ringing", "running", "live", "ended"]
    reason: str | None = None
    seconds: int = 0
    stream: StreamId | None = None


class CallTold(WireEvent, frozen=True, kw_only=True, tag="call"):
    """To all devices of all whom a call rings or who are in it: this is how it is now."""

    call: CallView


def show(call: Call, names: Mapping[AccountId, str], *, began_at: int, met_at: int | None, version: int) -> CallView:
    """Return a call as all see it who know of it; times are epoch ms."""

    def person(account: AccountId) -> Person:
        return Person(account, names.get(account, account))

    parties = tuple(
        CallParty(person(account), party.stage, party.device, party.why) for account, party in call.parties.items()
    )
    return CallView(
        id=call.id,
        conversation=call.conversation,
        kind=call.kind,
        caller=person(call.caller),
        video=call.video,
        state=call.state,
        parties=parties,
        asked=call.asked,
        began_at=began_at,
        met_at=met_at,
        stream=call.stream,
        starter=call.starter,
        named=tuple(sorted(call.named)),
        reason=call.ended,
        seconds=call.seconds,
        version=version,
    )


def card(call: Call) -> CallCard:
    """Return what the conversation keeps of a call as it is now."""
    return CallCard(call.id, call.video, call.state, call.ended, call.seconds, call.stream)

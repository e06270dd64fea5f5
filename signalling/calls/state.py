"""A call as a value: whom it rings, who is in it, who may send to whom, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType

from media.forwarding.admission import FOREVER
from signalling.identifiers import AccountId, StreamId
from signalling.messenger.model import ConversationId, Kind

CallId = NewType("CallId", str)
SECOND_NS = 1_000_000_000
MAX_IN_CALL = 8  # each is sent what all others send: seven pictures are what a telephone decodes, and can show
RUNG_UP_TO = 32  # members of a conversation; a larger group is shown that there is a call, and nobody is rung

Stage = Literal["rung", "joining", "in", "lost", "out"]
ACTIVE = ("joining", "in", "lost")


@dataclass(frozen=True, slots=True)
class Party:
    """One account's part in a call, by itself over at `until_ns`; `device` is where it answered.

    `why` says of one who is out how that came: declined, missed, busy, left, lost, removed. `came` says that it was in.
    """

    stage: Stage
    until_ns: int = FOREVER
    device: str = ""
    why: str = ""
    came: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it has answered and not gone."""
        return self.stage in ACTIVE


@dataclass(frozen=True, slots=True)
class Call:
    """One call in a conversation; times are monotonic ns.

    The accounts in `unaware` ring for the caller alone: they hear of nothing. Those in `quiet` have muted the
    conversation: they hear of the call once they have come into it, which they may. Two who are `apart` (one blocked
    the other) neither see nor hear each other. `video` says that pictures are agreed on, `asked` who asks for them. It
    counts from `met_ns`, when two were in it at once. `stream` is what its `starter` has made it for as long as that is
    live; those `named` may be live there, too.
    """

    id: CallId
    conversation: ConversationId
    kind: Kind
    caller: AccountId
    video: bool
    parties: Mapping[AccountId, Party]
    unaware: frozenset[AccountId] = frozenset()
    quiet: frozenset[AccountId] = frozenset()
    apart: frozenset[frozenset[AccountId]] = field(default_factory=frozenset)
    asked: AccountId | None = None
    answered: bool = False
    met_ns: int | None = None
    alone_until_ns: int = FOREVER
    stream: StreamId | None = None
    starter: AccountId | None = None
    named: frozenset[AccountId] = frozenset()
    ended: str | None = None
    seconds: int = 0

    @property
    def active(self) -> frozenset[AccountId]:
        """Who has answered and not gone."""
        if self.ended is not None:
            return frozenset()
        return frozenset(account for account, party in self.parties.items() if party.is_active)

    @property
    def rung(self) -> frozenset[AccountId]:
        """Whom it still rings."""
        return frozenset(account for account, party in self.parties.items() if party.stage == "rung")

    @property
    def state(self) -> Literal["ringing", "running", "live", "ended"]:
        """Name what it is now."""
        if self.ended is not None:
            return "ended"
        if self.stream is not None:
            return "live"
        return "running" if self.answered else "ringing"

    def sends(self, account: AccountId) -> bool:
        """Whether what an account publishes is taken."""
        return self.stream is None and account in self.active

    def hears(self, viewer: AccountId, source: AccountId) -> bool:
        """Whether an account is sent what another publishes."""
        both = frozenset((viewer, source))
        return viewer != source and self.sends(viewer) and self.sends(source) and both not in self.apart

    def concerns(self, account: AccountId) -> bool:
        """Whether an account is told of the call: it has, or had, a part in it, and was not put out."""
        party = self.parties.get(account)
        if party is None or party.why == "removed" or account in self.unaware:
            return False
        return account not in self.quiet or party.is_active or party.came

    @property
    def audience(self) -> frozenset[AccountId]:
        """Who is told of the call."""
        return frozenset(account for account in self.parties if self.concerns(account))

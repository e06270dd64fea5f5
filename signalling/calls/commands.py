"""What can be asked of a call, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass

from signalling.identifiers import AccountId, StreamId


@dataclass(frozen=True, slots=True)
class Answer:
    """Come in with a device: by answering, or later. `apart` are those with whom a block stands between."""

    device: str
    apart: frozenset[AccountId] = frozenset()


@dataclass(frozen=True, slots=True)
class Decline:
    """Do not want to be rung any more."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Go; before anybody has answered, the caller takes the call back."""


@dataclass(frozen=True, slots=True)
class AskVideo:
    """Ask for pictures; in a group everybody decides for himself."""


@dataclass(frozen=True, slots=True)
class AnswerVideo:
    """Agree to pictures that the other asked for, or not; who asked takes it back by not agreeing."""

    agreed: bool


@dataclass(frozen=True, slots=True)
class Come:
    """Fact: an account's first connection stands."""


@dataclass(frozen=True, slots=True)
class Lose:
    """Fact: an account's last connection is lost."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Fact: an account may not be in it any more."""


@dataclass(frozen=True, slots=True)
class Part:
    """Fact: the account and another blocked each other."""

    other: AccountId


@dataclass(frozen=True, slots=True)
class Busy:
    """Fact: whom it rings is in another call, or on air."""


@dataclass(frozen=True, slots=True)
class BecomeLive:
    """It becomes a stream: nobody sends here while that is live. The `named` may be live, too."""

    stream: StreamId
    named: frozenset[AccountId] = frozenset()


@dataclass(frozen=True, slots=True)
class Resume:
    """Fact: the stream that it became has ended."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Fact: time has passed."""


@dataclass(frozen=True, slots=True)
class Break:
    """Fact: it can't go on, by a fault of ours."""


Command = Answer | Decline | HangUp | AskVideo | AnswerVideo | BecomeLive
Fact = Come | Lose | Remove | Part | Busy | Resume | Tick | Break

"""What happened in a room: outputs of the policy, in the order in which they happened."""

from __future__ import annotations

from dataclasses import dataclass

from signalling.identifiers import AccountId, Mode
from signalling.wire.views import BestPicture


@dataclass(frozen=True, slots=True)
class ModePrepared:
    """What a switch would do, as of now."""

    mode: Mode
    token: str
    would_remove: tuple[AccountId, ...]
    stay: tuple[AccountId, ...]
    expires_ns: int
    paying: tuple[AccountId, ...] = ()


@dataclass(frozen=True, slots=True)
class ModeSwitched:
    """The room's mode, and who had to leave for it."""

    mode: Mode
    epoch: int
    removed: tuple[AccountId, ...]


@dataclass(frozen=True, slots=True)
class ModeAnnounced:
    """At `at_ns` the room's mode will be this."""

    mode: Mode
    at_ns: int


@dataclass(frozen=True, slots=True)
class AlreadyAnnounced:
    """The answer to a confirmation of this switch that is repeated before it comes."""

    mode: Mode
    at_ns: int


@dataclass(frozen=True, slots=True)
class ModeCalledOff:
    """A switch that was announced will not come."""

    mode: Mode


@dataclass(frozen=True, slots=True)
class AlreadySwitched:
    """The answer to a confirmation that is repeated, or asks for the mode that is: nothing happened now."""

    mode: Mode
    epoch: int
    removed: tuple[AccountId, ...]


@dataclass(frozen=True, slots=True)
class AccessGranted:
    """An account that is present may watch from now on; `via` is what lets it."""

    account: AccountId
    epoch: int
    via: str


@dataclass(frozen=True, slots=True)
class AccessRevoked:
    """An account may not watch any more, or waits already and now for another reason.

    `readmit` lists the grants that would let it back.
    """

    account: AccountId
    epoch: int
    reason: str
    readmit: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RulesChanged:
    """The stream's rules are of this version now, and whoever does not meet them is out."""

    version: int


@dataclass(frozen=True, slots=True)
class HostsChanged:
    """Others publish beside the streamer than before."""

    hosts: tuple[AccountId, ...]


@dataclass(frozen=True, slots=True)
class BestPictureSet:
    """For whom the best layer of the picture is from now on while the stream is public."""

    best_picture: BestPicture
    epoch: int


@dataclass(frozen=True, slots=True)
class BestPictureJudged:
    """An account that watches on has the best layer from now on, or no longer."""

    account: AccountId
    has: bool
    epoch: int


@dataclass(frozen=True, slots=True)
class Described:
    """The stream is called, or described as, something else from now on."""

    title: str
    description: str


@dataclass(frozen=True, slots=True)
class TimeLimitSet:
    """When the stream will end (monotonic ns), or None for no limit."""

    until_ns: int | None


@dataclass(frozen=True, slots=True)
class TimeWarning:
    """The stream, or the one-to-one, ends in `remaining_s` seconds."""

    remaining_s: int
    until_ns: int
    of_one_to_one: bool


@dataclass(frozen=True, slots=True)
class OneToOneRequested:
    """A viewer asked, for so many seconds or for any length; the request is number `position` in line (from 1).

    In this and in what follows, `request` is the request's id, "" for one that nobody outside the room knows.
    """

    account: AccountId
    seconds: int | None
    position: int
    request: str = ""


@dataclass(frozen=True, slots=True)
class OneToOneOffered:
    """A one-to-one of `seconds` is offered to one who waited, who has until `until_ns` to confirm."""

    account: AccountId
    seconds: int
    until_ns: int
    request: str = ""


@dataclass(frozen=True, slots=True)
class OneToOneWithdrawn:
    """A request is gone.

    `reason` is cancelled, declined, expired, missed (it was offered, and nobody came), left, access_revoked,
    mode_changed or stream_ended, or why what was agreed on no longer holds.
    """

    account: AccountId
    reason: str
    request: str = ""


@dataclass(frozen=True, slots=True)
class OneToOneAccepted:
    """The guest may publish until `setup_until_ns`; the clock starts when both sides' media flows."""

    account: AccountId
    setup_until_ns: int
    request: str = ""


@dataclass(frozen=True, slots=True)
class OneToOneStarted:
    """The clock runs, or runs on after a pause, until `until_ns`."""

    account: AccountId
    until_ns: int
    request: str = ""


@dataclass(frozen=True, slots=True)
class OneToOnePaused:
    """A connection is lost and the clock stands; without it the one-to-one ends at `resume_by_ns`."""

    account: AccountId
    resume_by_ns: int


@dataclass(frozen=True, slots=True)
class ExtensionAsked:
    """The guest asks for so many seconds more; `number` is what those outside the room know it by."""

    account: AccountId
    seconds: int
    request: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class ExtensionEnded:
    """Nothing comes of that; `reason` is cancelled or declined."""

    account: AccountId
    seconds: int
    reason: str
    request: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class OneToOneExtended:
    """It lasts so many seconds longer: until `until_ns`, None while the clock stands."""

    account: AccountId
    seconds: int
    until_ns: int | None
    request: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class OneToOneEnded:
    """It is over; `delivered_ns` of it were delivered."""

    account: AccountId
    reason: str
    delivered_ns: int
    request: str = ""


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """The streamer's media arrives for the first time."""


@dataclass(frozen=True, slots=True)
class StreamInterrupted:
    """The streamer's media stopped; the stream ends at `until_ns` unless it comes back."""

    until_ns: int


@dataclass(frozen=True, slots=True)
class StreamResumed:
    """The streamer's media is back."""


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream is over for everybody."""

    reason: str


Event = (
    ModePrepared
    | ModeAnnounced
    | AlreadyAnnounced
    | ModeCalledOff
    | ModeSwitched
    | AlreadySwitched
    | AccessGranted
    | AccessRevoked
    | RulesChanged
    | HostsChanged
    | BestPictureSet
    | BestPictureJudged
    | Described
    | TimeLimitSet
    | TimeWarning
    | OneToOneRequested
    | OneToOneOffered
    | OneToOneWithdrawn
    | OneToOneAccepted
    | OneToOneStarted
    | OneToOnePaused
    | ExtensionAsked
    | ExtensionEnded
    | OneToOneExtended
    | OneToOneEnded
    | StreamStarted
    | StreamInterrupted
    | StreamResumed
    | StreamEnded
)

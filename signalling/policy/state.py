"""The state of one room as a value, and who may watch in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from media.forwarding.admission import FOREVER, NOTHING, Grant, Holding
from signalling.identifiers import AccountId, Mode
from signalling.policy.verdicts import NO_DEMANDS, UNKNOWN, Demands, Verdict
from signalling.wire.views import BestPicture, TicketOffer

REQUIRES = {
    Mode.PUBLIC: Grant.WELCOME,
    Mode.PRIVATE: Grant.WELCOME | Grant.ENTITLED,
    Mode.PAID: Grant.WELCOME | Grant.TICKET,
    Mode.ONE_TO_ONE: Grant.WELCOME | Grant.CHOSEN,
}
EVERYTHING = Grant.WELCOME | Grant.TICKET | Grant.CHOSEN | Grant.ENTITLED
# What a missing grant is called when it is the reason, strongest first.
REASONS = {
    Grant.WELCOME: "ejected",
    Grant.CHOSEN: "one_to_one_running",
    Grant.TICKET: "ticket_required",
    Grant.ENTITLED: "not_entitled",
}
READMITS = {Grant.TICKET: "ticket", Grant.ENTITLED: "entitlement"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A mode switch that waits for its confirmation, until somebody would go who was said to stay."""

    mode: Mode
    token: str
    expires_ns: int


@dataclass(frozen=True, slots=True)
class Announced:
    """A mode switch that was confirmed, and that viewers were warned of: it comes at `at_ns` by itself."""

    mode: Mode
    token: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Offered:
    """A one-to-one of `seconds` is offered to someone who waited, who has `confirm_s`, up to `until_ns`, to confirm."""

    seconds: int
    until_ns: int
    confirm_s: int
    calls_next: bool


@dataclass(frozen=True, slots=True)
class Request:
    """Someone waits for a one-to-one; `seconds` is the wish, None for any length.

    `id` is what the world outside the room knows it by, "" when it does not; one with an id has its length agreed. It
    waits until `until_ns` at most. One whom the streamer accepted is `offered` it, and is the first in line.
    """

    account: AccountId
    seconds: int | None = None
    id: str = ""
    until_ns: int = FOREVER
    offered: Offered | None = None

    @property
    def lapses_ns(self) -> int:
        """When it lapses by itself."""
        return self.until_ns if self.offered is None else self.offered.until_ns


@dataclass(frozen=True, slots=True)
class Extension:
    """So many seconds more that a guest asks for; `number` is what those outside know it by, 0 when they do not."""

    seconds: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class OneToOne:
    """A one-to-one of `seconds`: set up until `until_ns` while nothing is delivered, then running until it, or paused.

    `left_ns` is what remains of the agreed time while the clock stands, `pause_left_ns` of the allowed pause. `request`
    is the id of what it came from. While the clock ran, nothing passed for `missed_ns`. `extension` is what its guest
    asks for.
    """

    guest: AccountId
    former: Mode
    seconds: int
    left_ns: int
    pause_left_ns: int
    until_ns: int
    running_since_ns: int | None = None
    delivered_ns: int = 0
    warnings_s: tuple[int, ...] = ()
    request: str = ""
    missed_ns: int = 0
    extension: Extension | None = None

    @property
    def is_timed(self) -> bool:
        """Whether its clock has ever run: it runs, or is paused."""
        return self.running_since_ns is not None or self.delivered_ns > 0


@dataclass(frozen=True, slots=True)
class RoomState:
    """Everything the policy knows. `present` are the accounts in the room, admitted or waiting, without the owner.

    `tickets` are those who were given one, `bought` those who paid for one, and `paying` those with a seat reserved:
    they wait in the lobby. The last two, and the tickets on sale (`offer`), are the box office's to know, and never
    part of the record.
    `entitled` are those whom the streamer chose by name; `verdicts` what the rules say of those present, and never part
    of the record: a restart judges anew. For those in `hidden` the stream does not exist, and those who are known not
    to meet its `demands` do not find it.
    `shown_ns` is how long the stream was on for ticket holders alone, up to `showing_since_ns` if it is just now.
    `hosts` publish beside the streamer, by name, and are never part of the record: a restart knows of none.
    `takeovers` counts devices that had to go for newer ones of their accounts.
    `best_picture` is for whom the best layer of the picture is while the stream is public; who paid for a ticket or a
    one-to-one, and whom a private stream lets in, has it always.
    `title` and `description` are what the streamer says of it, and `described_ns` when that last changed.
    `picture` says whether the streamer's media arrives; while it does not, the stream ends at `picture_until_ns`.
    """

    owner: AccountId
    mode: Mode = Mode.PUBLIC
    epoch: int = 1
    present: frozenset[AccountId] = frozenset()
    tickets: frozenset[AccountId] = frozenset()
    bought: frozenset[AccountId] = frozenset()
    paying: frozenset[AccountId] = frozenset()
    entitled: frozenset[AccountId] = frozenset()
    ejected: frozenset[AccountId] = frozenset()
    hidden: frozenset[AccountId] = frozenset()
    hosts: Mapping[AccountId, str] = field(default_factory=dict)
    demands: Demands = NO_DEMANDS
    verdicts: Mapping[AccountId, Verdict] = field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    one_to_one: OneToOne | None = None
    offer: TicketOffer | None = None
    prepared: Prepared | None = None
    announced: Announced | None = None
    confirmed: tuple[tuple[str, Mode, int, tuple[AccountId, ...]], ...] = field(default=())
    switched_ns: tuple[int, ...] = ()
    until_ns: int | None = None
    warnings_s: tuple[int, ...] = ()
    best_picture: BestPicture = "everyone"
    title: str = ""
    description: str = ""
    described_ns: tuple[int, ...] = ()
    picture: Literal["waiting", "live", "interrupted"] = "waiting"
    picture_until_ns: int = FOREVER
    takeovers: int = 0
    shown_ns: int = 0
    showing_since_ns: int | None = None
    ended: str | None = None
    _holdings: dict[AccountId, Holding] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def requires(self) -> Grant:
        """What a viewer must hold."""
        return REQUIRES[self.mode]

    @property
    def best_requires(self) -> Grant:
        """What a viewer must hold besides to have the best layer of the picture."""
        reserved = self.best_picture == "entitled" and self.mode is Mode.PUBLIC
        return Grant.ENTITLED if reserved else NOTHING

    @property
    def holders(self) -> frozenset[AccountId]:
        """Who has a ticket, given or bought."""
        return self.tickets | self.bought

    def holding(self, account: AccountId) -> Holding:
        """Return what an account holds; deny beats allow, and what is granted for a time lapses by itself."""
        held = self._holdings.get(account)
        if held is None:
            # A state never changes, and is asked for each object to each viewer.
            held = self._holdings[account] = self._holding(account)
        return held

    def _holding(self, account: AccountId) -> Holding:
        if account == self.owner:
            return Holding(EVERYTHING)
        verdict = self.verdict(account)
        if account in self.ejected or account in self.hidden or self.ended is not None or verdict.denied is not None:
            return Holding(NOTHING)
        lasting = Grant.WELCOME
        if account in self.tickets or account in self.bought:
            lasting |= Grant.TICKET
        if account in self.entitled:
            lasting |= Grant.ENTITLED
        holding = Holding(lasting, FOREVER, NOTHING)
        if self.one_to_one is not None and self.one_to_one.guest == account:
            holding = Holding(lasting | Grant.CHOSEN, self.one_to_one.until_ns, lasting)
        elif verdict.via is not None and Grant.ENTITLED not in lasting:
            holding = Holding(lasting | Grant.ENTITLED, verdict.via_until_ns, lasting)
        return self._while_welcome(holding, verdict.welcome_until_ns)

    def _while_welcome(self, holding: Holding, until_ns: int) -> Holding:
        """Return a holding that leaves nothing from `until_ns` on; its one end is the one that cuts in this mode."""
        if until_ns >= FOREVER:
            return holding
        if until_ns < holding.until_ns:
            return Holding(holding.holds, until_ns, NOTHING)
        if self.requires & ~holding.keeps:
            return Holding(holding.holds, holding.until_ns, NOTHING)
        if self.mode is Mode.PUBLIC:
            # What entitles decides of the best picture alone: whoever judges anew when it lapses takes that back.
            return Holding(holding.holds, until_ns, NOTHING)
        return Holding(holding.keeps, until_ns, NOTHING)

    def supposing(self, account: AccountId, verdict: Verdict) -> RoomState:
        """Return the state as it would be if this were the verdict on an account; nobody is let in by it."""
        return replace(self, verdicts={**self.verdicts, account: verdict})

    def verdict(self, account: AccountId) -> Verdict:
        """Return what the rules say of an account; of one that is not present, nothing is known."""
        return self.verdicts.get(account, UNKNOWN)

    def via(self, account: AccountId) -> str:
        """Name what lets an account in that may watch."""
        match self.mode:
            case Mode.PRIVATE:
                return "streamer" if account in self.entitled else self.verdict(account).via or ""
            case Mode.PAID:
                return "ticket"
            case Mode.ONE_TO_ONE:
                return "chosen"
            case Mode.PUBLIC:
                return "public"

    def shown_by_ns(self, now_ns: int) -> int:
        """Return how long the stream was on for ticket holders alone, by now."""
        return self.shown_ns + (0 if self.showing_since_ns is None else now_ns - self.showing_since_ns)

    @property
    def usual_mode(self) -> Mode:
        """The mode, or the one to which a running one-to-one returns."""
        return self.mode if self.one_to_one is None else self.one_to_one.former

    def asks(self, account: AccountId) -> bool:
        """Whether an account waits for a one-to-one."""
        return any(request.account == account for request in self.requests)

    @property
    def called(self) -> Request | None:
        """Who is offered a one-to-one now, and has not confirmed yet."""
        return next((request for request in self.requests if request.offered is not None), None)

    def in_one_to_one(self, account: AccountId) -> bool:
        """Whether an account is one of the two."""
        return self.one_to_one is not None and account in (self.owner, self.one_to_one.guest)

    def hears(self, account: AccountId) -> bool:
        """Whether an account may read and write the stream's chat: during a one-to-one, whoever could watch without."""
        required = REQUIRES[self.usual_mode]
        return self.ended is None and self.holding(account).holds & required == required

    def admits(self, account: AccountId, now_ns: int) -> bool:
        """Whether a packet to this account would pass, by the forwarding kernel's own rule."""
        return self._admits(account, self.requires, now_ns)

    def gives_best(self, account: AccountId, now_ns: int) -> bool:
        """Whether a packet of the best layer would pass to this account, by the same rule."""
        return self._admits(account, self.requires | self.best_requires, now_ns)

    def _admits(self, account: AccountId, requires: Grant, now_ns: int) -> bool:
        if self.ended is not None or (self.until_ns is not None and now_ns >= self.until_ns):
            return False
        holding = self.holding(account)
        held = holding.holds if now_ns < holding.until_ns else holding.keeps
        return requires in held

    def refusal(self, account: AccountId, now_ns: int) -> tuple[str, tuple[str, ...]]:
        """Why an account may not watch, and which grants would let it."""
        if self.ended is not None or (self.until_ns is not None and now_ns >= self.until_ns):
            return "stream_ended", ()
        if account in self.hidden:
            return "stream_unknown", ()
        denied = self.verdict(account).denied
        if denied is not None and account not in self.ejected:
            return denied, ()
        holding = self.holding(account)
        held = holding.holds if now_ns < holding.until_ns else holding.keeps
        missing = self.requires & ~held
        reason = next(word for grant, word in REASONS.items() if grant in missing)
        if reason == "ticket_required" and account in self.paying:
            reason = "payment_pending"
        return reason, tuple(word for grant, word in READMITS.items() if grant in missing and reason != "ejected")

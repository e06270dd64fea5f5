"""Keeps what rooms know of their people true: judges who comes in, and anew whoever a change concerns.

A change is first written, then every room that it concerns cuts, then it is answered. What comes together is judged
together: one look into the database and one fence for all of a room's people that wait for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
import trio

from server.access import relations
from server.access.elsewhere import Elsewhere
from server.access.judging import Judgement, excludes
from server.access.rules import NEVER, Finding, KyfClause, Rule
from server.access.standing import (
    Bench,
    NoTips,
    Place,
    Tips,
    facts_about,
    judge_all,
    judge_by,
    judge_each,
    judge_streamer,
    rules_of,
)
from server.access.verdicts import verdict_of
from server.database.gathered import Gathered
from server.database.store import Database
from signalling.identifiers import AccountId, StreamId
from signalling.policy import commands as c
from signalling.policy.showing import Now
from signalling.policy.verdicts import Demands, Sight, Verdict
from signalling.ports import ArchiveFailed, Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.wire.proofs import KyfExpired, KyfRequired

LONGEST_NAP_S = 60.0  # the wall clock may be set meanwhile; a lapse is told at most so late, and cut in time anyway
RETRY_MS = 1000  # after the database failed: who could not be judged is out until it answers
KEPT_DUE = 1024  # entries of the timetable below which it is not worth tidying

T = TypeVar("T")
Arrival = tuple[StreamId, AccountId, AccountId]  # a stream, its owner, and who wants to come in

log = structlog.get_logger("access")


@dataclass(eq=False, slots=True)
class _Coming:
    """Someone on the way in, judged on a snapshot that may have become old."""

    owner: AccountId
    account: AccountId | None  # None: the streamer's own list is being read
    stale: bool = False


@dataclass(slots=True)
class _Waiting:
    """Who is to be judged anew in one room, and what is set when it is done."""

    accounts: set[AccountId] = field(default_factory=set)
    done: trio.Event = field(default_factory=trio.Event)


class Access:
    """The gate of a node's rooms; `run` it after the rooms, in the same nursery or an outer one.

    `everywhere` is what the node demands of everybody who streams or watches.
    """

    def __init__(
        self, store: Database, clock: Clock, *, everywhere: tuple[KyfClause, ...] = (), tips: Tips | None = None
    ):
        self._store, self._clock = store, clock
        self._bench = Bench(everywhere, NoTips() if tips is None else tips)
        self._rooms: Rooms | None = None
        self.elsewhere: Elsewhere | None = None
        self._nursery: trio.Nursery | None = None
        self._arrivals = Gathered(self._judge_each)
        self._coming: set[_Coming] = set()
        self._waiting: dict[StreamId, _Waiting] = {}
        self._due: list[tuple[int, StreamId, AccountId]] = []
        self._reviews: dict[tuple[StreamId, AccountId], int] = {}
        self._tidy_at = KEPT_DUE
        self._sooner = trio.Event()
        self.suspended: set[AccountId] = set()
        self.judged = self.failures = 0

    async def load(self) -> None:
        """Read who is suspended. Raises StoreFailed."""
        self.suspended |= await self._store.read(relations.suspended_accounts)

    async def run(self, rooms: Rooms, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Judge anew whoever a change or the time concerns, until cancelled."""
        self._rooms = rooms
        async with trio.open_nursery() as self._nursery:
            for stream, owner in rooms.owners().items():
                self._wake(stream, [owner])
            self._nursery.start_soon(self._keep_time)
            task_status.started()

    def counters(self) -> dict[str, int]:
        """How much was judged, by name."""
        return {
            "access_judged": self.judged,
            "access_looks": self._arrivals.looks,
            "access_failures": self.failures,
            "access_coming": len(self._coming),
            "access_timetable": len(self._due),
            "accounts_suspended": len(self.suspended),
        }

    # -- the gate ------------------------------------------------------------------------------------------------------

    async def hidden_from(self, owner: AccountId) -> frozenset[AccountId]:
        """Return for whom a streamer's streams do not exist. Raises StoreFailed."""
        coming = _Coming(owner, None)
        return await self._fresh(coming, lambda: self._store.read(relations.apart_from, owner))

    async def demands_of(self, stream: StreamId) -> Demands:
        """Return what everybody must have proven in a stream. Raises StoreFailed."""
        version, rules = await self._store.read(rules_of, stream)
        return Demands(version, (*self._bench.everywhere, *rules.kyf))

    async def sight_of(self, account: AccountId) -> Sight:
        """Return which streams an account may find: not those known to keep it out. Raises StoreFailed."""
        coming, now = _Coming(AccountId(""), account), self._clock.wall_ms()
        facts = await self._fresh(coming, lambda: self._store.read(facts_about, account, now))
        return lambda demands: not excludes(demands.clauses, facts, self._clock.wall_ms())

    async def weigh(self, stream: StreamId, owner: AccountId, account: AccountId) -> Verdict:
        """Judge an account that wants to come in. Raises StoreFailed."""
        coming = _Coming(owner, account)
        judgement = await self._fresh(coming, lambda: self.judgement(stream, owner, account))
        if judgement.denied == "kyf_required":
            now = self._clock.wall_ms()
            self._running.tell(account, KyfRequired(server_now=now, stream=stream, missing=judgement.unproven))
        return self._note(stream, account, judgement)

    async def appraise(self, stream: StreamId, owner: AccountId, account: AccountId) -> Verdict:
        """Judge an account that only asks whether it could come in. Raises StoreFailed."""
        judgement = await self._fresh(_Coming(owner, account), lambda: self.judgement(stream, owner, account))
        return verdict_of(judgement, Now.read(self._clock))

    async def require_proven(self, stream: StreamId, account: AccountId) -> None:
        """Let only those go on, to a payment say, whom nothing denies in this stream.

        Raises Refused (kyf_required, suspended, stream_unknown, stream_ended) and StoreFailed.
        """
        state = self._running.state(stream)
        if state is None:
            raise Refused("stream_ended")
        judgement = await self.judgement(stream, state.owner, account)
        if judgement.denied is not None:
            raise Refused(judgement.denied, "", **verdict_of(judgement, Now.read(self._clock)).help)

    async def finding(self, stream: StreamId, account: AccountId, rule: Rule) -> Finding:
        """Return what a rule says of an account in a stream, whoever may watch it. Raises Refused and StoreFailed."""
        state = self._running.state(stream)
        if state is None:
            raise Refused("stream_ended")
        place = self._place(stream, state.owner)
        return await self._store.read(judge_by, self._bench, place, rule, account, self._clock.wall_ms())

    async def weigh_streamer(self, owner: AccountId) -> Verdict:
        """Judge an account that wants to stream. Raises StoreFailed."""
        coming = _Coming(owner, owner)
        now = self._clock.wall_ms()
        judgement = await self._fresh(coming, lambda: self._store.read(judge_streamer, self._bench, owner, now))
        return verdict_of(judgement, Now.read(self._clock))

    async def judgement(self, stream: StreamId, owner: AccountId, account: AccountId) -> Judgement:
        """Return all that can be said of an account and a stream, as of now. Raises StoreFailed."""
        return await self._arrivals.ask((stream, owner, account))

    async def _judge_each(self, arriving: Sequence[Arrival]) -> Mapping[Arrival, Judgement | Exception]:
        asked = [(self._place(stream, owner), account) for stream, owner, account in arriving]
        judged = await self._store.read(judge_each, self._bench, asked, self._clock.wall_ms())
        self.judged += len(asked)
        return dict(zip(arriving, judged, strict=True))

    async def _fresh(self, coming: _Coming, look: Callable[[], Awaitable[T]]) -> T:
        """Look until nothing changed meanwhile: a change judges only whom it finds in the room already."""
        self._coming.add(coming)
        try:
            while True:
                coming.stale = False
                seen = await look()
                if not coming.stale:
                    return seen
        finally:
            self._coming.discard(coming)

    # -- changes -------------------------------------------------------------------------------------------------------

    async def reconsider(self, stream: StreamId, account: AccountId) -> None:
        """Judge an account in one room anew; returns when the room knows, with the last packet of before out."""
        await self._settle(stream, [account])

    async def changed_between(self, account: AccountId, streamer: AccountId) -> None:
        """Take up that something changed between a viewer and a streamer: a follow, a subscription, tips."""
        await self.changed_for_many([account], streamer)

    async def changed_for_many(self, accounts: Iterable[AccountId], streamer: AccountId) -> None:
        """Take up that something changed between a streamer and each of these viewers."""
        concerned = frozenset(accounts)
        self._mark_stale(lambda coming: coming.account in concerned and coming.owner == streamer)
        self._running.sessions.stir(streamer, *concerned)
        stream = self._running.stream_of(streamer)
        if stream is not None and concerned:
            await self._settle(stream, concerned)

    async def changed_about(self, account: AccountId) -> None:
        """Take up that something changed about an account itself, wherever it is: proofs, tier, suspension."""
        self._mark_stale(lambda coming: coming.account == account)
        async with trio.open_nursery() as nursery:
            for stream in self._running.streams_with(account):
                nursery.start_soon(self._settle, stream, [account])
        try:
            await self._running.see_anew(account)
        except ArchiveFailed:
            self.failures += 1
            log.exception("directory_not_shown_anew", account=account)

    async def changed_rules(self, stream: StreamId, owner: AccountId, version: int, kyf: tuple[KyfClause, ...]) -> None:
        """Take up that a stream has other rules: everyone is judged anew and cut, then they are told."""
        self._mark_stale(lambda coming: coming.owner == owner)
        state = self._running.state(stream)
        if state is not None:
            await self._settle(stream, state.present)
            await self._running.take(stream, c.RulesChanged(Demands(version, (*self._bench.everywhere, *kyf))))

    async def set_apart(self, one: AccountId, other: AccountId) -> None:
        """Take up that one blocked the other: neither's stream exists for the other any more."""
        if self.elsewhere is not None:
            await self.elsewhere.set_apart(one, other)
        await self._take_between(one, other, c.Hidden)

    async def reunite(self, one: AccountId, other: AccountId) -> None:
        """Take up that neither blocks the other any more."""
        await self._take_between(one, other, c.Unhidden)

    async def _take_between(self, one: AccountId, other: AccountId, fact: type[c.Hidden] | type[c.Unhidden]) -> None:
        self._mark_stale(lambda coming: coming.owner in (one, other))
        self._running.sessions.stir(one, other)
        for owner, viewer in ((one, other), (other, one)):
            stream = self._running.stream_of(owner)
            if stream is not None:
                await self._running.take(stream, fact(viewer))

    async def suspend(self, account: AccountId, suspended: bool) -> None:
        """Take up that an account is suspended, or no longer."""
        if suspended:
            self.suspended.add(account)
        else:
            self.suspended.discard(account)
        if suspended and self.elsewhere is not None:
            await self.elsewhere.shut_out(account)
        await self.changed_about(account)
        if suspended:
            self._running.close_sessions_of(account, "suspended")

    def _mark_stale(self, concerned: Callable[[_Coming], bool]) -> None:
        for coming in self._coming:
            coming.stale = coming.stale or concerned(coming)

    # -- judging those inside ------------------------------------------------------------------------------------------

    async def _settle(self, stream: StreamId, accounts: Iterable[AccountId]) -> None:
        await self._wake(stream, accounts).wait()

    def _wake(self, stream: StreamId, accounts: Iterable[AccountId]) -> trio.Event:
        """Have accounts judged that are in a room; the event is set when the room knows."""
        assert self._nursery is not None, "the service is not running"
        waiting = self._waiting.get(stream)
        if waiting is None:
            waiting = self._waiting[stream] = _Waiting()
            self._nursery.start_soon(self._work, stream)
        waiting.accounts.update(accounts)
        return waiting.done

    async def _work(self, stream: StreamId) -> None:
        """Judge who waits in one room, one batch after the other, so that no older verdict replaces a newer one."""
        while self._waiting[stream].accounts:
            batch = self._waiting[stream]
            self._waiting[stream] = _Waiting()
            try:
                await self._judge(stream, batch.accounts)
            except Exception:
                self.failures += 1
                log.exception("not_judged", stream=stream, accounts=len(batch.accounts))
                await self._shut_out(stream, batch.accounts)
            finally:
                batch.done.set()
        self._waiting.pop(stream).done.set()

    async def _judge(self, stream: StreamId, accounts: set[AccountId]) -> None:
        state = self._running.state(stream)
        if state is None:
            return
        now, verdicts = self._clock.wall_ms(), []
        expired: list[tuple[AccountId, KyfExpired]] = []
        here = sorted(accounts & state.present)
        if here:
            place = self._place(stream, state.owner)
            judged = await self._store.read(judge_all, self._bench, place, here, now)
            self.judged += len(here)
            verdicts = [(account, self._note(stream, account, judged[account])) for account in here]
            expired = [
                (account, KyfExpired(server_now=now, stream=stream, missing=judged[account].unproven))
                for account in here
                if judged[account].denied == "kyf_required" and state.verdict(account).denied is None
            ]
        if state.owner in accounts:
            owners = await self._store.read(judge_streamer, self._bench, state.owner, now)
            verdicts.append((state.owner, self._note(stream, state.owner, owners)))
        if verdicts:
            await self._running.take(stream, c.Judged(tuple(verdicts)))
        for account, told in expired:
            self._running.tell(account, told)

    async def _shut_out(self, stream: StreamId, accounts: set[AccountId]) -> None:
        """Let nobody in of whom it is not known; and look again soon."""
        state = self._running.state(stream)
        if state is None:
            return
        unknown = Verdict(denied="access_unavailable")
        here = sorted(accounts & state.present)
        await self._running.take(stream, c.Judged(tuple((account, unknown) for account in here)))
        for account in accounts:
            self._look_again(stream, account, self._clock.wall_ms() + RETRY_MS)

    def _note(self, stream: StreamId, account: AccountId, judgement: Judgement) -> Verdict:
        if judgement.review < NEVER:
            self._look_again(stream, account, judgement.review)
        else:
            self._reviews.pop((stream, account), None)
        return verdict_of(judgement, Now.read(self._clock))

    def _place(self, stream: StreamId, owner: AccountId) -> Place:
        state = self._running.state(stream)
        return Place(stream, owner, frozenset() if state is None else state.holders)

    @property
    def _running(self) -> Rooms:
        assert self._rooms is not None, "the service is not running"
        return self._rooms

    # -- time ----------------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            self._sooner = trio.Event()
            left_s = LONGEST_NAP_S
            if self._due:
                left_s = min(left_s, max(0.0, (self._due[0][0] - self._clock.wall_ms()) / 1000))
            with trio.move_on_after(left_s):
                await self._sooner.wait()
            self._wake_due(self._clock.wall_ms())

    def _wake_due(self, now: int) -> None:
        while self._due and self._due[0][0] <= now:
            at, stream, account = heapq.heappop(self._due)
            if self._reviews.get((stream, account)) == at:
                del self._reviews[stream, account]
                self._wake(stream, [account])

    def _look_again(self, stream: StreamId, account: AccountId, at: int) -> None:
        if len(self._due) >= self._tidy_at:
            self._tidy()
        self._reviews[stream, account] = at
        heapq.heappush(self._due, (at, stream, account))
        if self._due[0][0] == at:
            self._sooner.set()

    def _tidy(self) -> None:
        """Forget the entries of people who left and those that were replaced."""
        for key in [key for key in self._reviews if not self._is_inside(*key)]:
            del self._reviews[key]
        self._due = [(at, *key) for key, at in self._reviews.items()]
        heapq.heapify(self._due)
        self._tidy_at = max(KEPT_DUE, 2 * len(self._due))

    def _is_inside(self, stream: StreamId, account: AccountId) -> bool:
        state = self._running.state(stream)
        return state is not None and (account in state.present or account == state.owner)

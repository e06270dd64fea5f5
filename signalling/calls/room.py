"""Carries out what is decided for one call: first cut, then told, then written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from media.door import Connected, Disconnected, Media, MediaEvent, Negotiated, TransportId
from media.forwarding.admission import FOREVER, NOTHING, Grant, Holding
from signalling.calls import commands as c
from signalling.calls.policy import deadline_ns, step
from signalling.calls.state import Call
from signalling.calls.views import CallView, show
from signalling.identifiers import AccountId, Actor
from signalling.ports import Clock
from signalling.refusals import Refused

REQUIRES = Grant.WELCOME | Grant.CHOSEN
MAX_UNANSWERED = 32  # media sessions of one account in one call that never connected; each is forgotten after 30 s
FACTS_BUFFERED = 4_096  # two facts for each of the most sessions that there can be


@dataclass(slots=True)
class _Member:
    """One account's media session: it publishes, or watches what `source` publishes."""

    transport: TransportId
    account: AccountId
    source: AccountId
    publishes: bool
    connected: bool = False


class CallRoom:
    """One call's room in media; `run` it in a nursery of its own. Raises Refused from what is not granted.

    `changed` is called with the call before and after each change, once nothing is sent any more that may not be.
    """

    def __init__(
        self,
        call: Call,
        names: dict[AccountId, str],
        media: Media,
        clock: Clock,
        changed: Callable[[CallRoom, Call, Call], None],
    ) -> None:
        self.call, self.names, self.began_at = call, names, clock.wall_ms()
        self._version = 0
        self._media, self._clock, self._tell_changed = media, clock, changed
        self._members: dict[TransportId, _Member] = {}
        self._turn = trio.Lock()
        self._moved = trio.Event()
        self._pass_on, self._facts = trio.open_memory_channel[Connected | Disconnected](FACTS_BUFFERED)
        self._row = media.open_room(REQUIRES)
        self._is_shut = False

    @property
    def view(self) -> CallView:
        """The call as those see it who know of it."""
        met_ns = self.call.met_ns
        met_at = None if met_ns is None else self._clock.wall_ms() - (self._clock.now_ns() - met_ns) // 1_000_000
        return show(self.call, self.names, began_at=self.began_at, met_at=met_at, version=self._version)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let time pass for the call until it ends; whatever happens, nothing is sent in it afterwards."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._take_facts)
                task_status.started()
                while self.call.ended is None:
                    self._moved = trio.Event()
                    left_ns = deadline_ns(self.call) - self._clock.now_ns()
                    with trio.move_on_after(max(0.0, left_ns / 1e9)):
                        await self._moved.wait()
                    if deadline_ns(self.call) <= self._clock.now_ns():
                        await self.change(None, c.Tick())
                nursery.cancel_scope.cancel()
        finally:
            self.shut()

    def break_down(self) -> None:
        """End the call by a fault of ours."""
        self.shut()
        before, self.call = self.call, step(self.call, None, c.Break(), self._clock.now_ns())
        if before.ended is None:
            self._version += 1
            self._tell_changed(self, before, self.call)

    def shut(self) -> None:
        """End all transports. Twice is no error."""
        if not self._is_shut:
            self._is_shut = True
            self._members.clear()
            self._media.close_room(self._row)
            self._moved.set()

    # -- changes -------------------------------------------------------------------------------------------------------

    async def change(self, actor: AccountId | None, given: c.Command | c.Fact) -> Call:
        """Apply a command or a fact in its turn; returns when nothing is sent any more that may not be."""
        async with self._turn:
            before = self.call
            self.call = step(before, actor, given, self._clock.now_ns())
            if self.call == before:
                return self.call
            self._version += 1
            if stopped := self._cut():
                with trio.CancelScope(shield=True):  # what was cut is also told
                    await self._media.fence()
                self._lose_each(stopped)
            self._moved.set()
            self._tell_changed(self, before, self.call)
            return self.call

    def _cut(self) -> frozenset[AccountId]:
        """Stop all that may no longer be sent; returns whose sessions that were."""
        if self.call.ended is not None:
            self.shut()
            return frozenset(self.call.parties)
        stopped = [member for member in self._members.values() if not self._may(member)]
        for member in stopped:
            if member.publishes:
                self._media.publish_until(member.transport, 0)
            else:
                self._media.hold(member.transport, Holding(NOTHING))
        for member in stopped:
            self._close(member, "access_revoked")
        return frozenset(member.account for member in stopped)

    def _lose_each(self, accounts: Iterable[AccountId]) -> None:
        for account in accounts:
            if not any(member.connected for member in self._of(account)):
                self.call = step(self.call, account, c.Lose(), self._clock.now_ns())

    def _may(self, member: _Member) -> bool:
        if member.publishes:
            return self.call.sends(member.account)
        return self.call.hears(member.account, member.source)

    def _close(self, member: _Member, reason: str) -> None:
        self._members.pop(member.transport, None)
        self._media.close(member.transport, reason)

    # -- media ---------------------------------------------------------------------------------------------------------

    def publish(self, actor: Actor, offer_sdp: str) -> Negotiated:
        """Answer a WHIP offer of somebody who is in the call; a former one is replaced. Raises Refused."""
        self._require_open()
        if not self.call.sends(actor.account):
            raise Refused("not_in_call")
        self._require_few_unanswered(actor.account)
        kinds = ("audio", "video") if self.call.video else ("audio",)
        negotiated = self._media.publish(self._row, actor.account, offer_sdp, until_ns=FOREVER, kinds=kinds)
        former = [member for member in self._of(actor.account) if member.publishes]
        self._members[negotiated.transport] = _Member(negotiated.transport, actor.account, actor.account, True)
        for member in former:
            self._close(member, "taken_over")
        return negotiated

    def watch(self, actor: Actor, source: AccountId, offer_sdp: str) -> Negotiated:
        """Answer a WHEP offer of one for what another sends. Raises Refused, and NoSource where nothing is to come."""
        self._require_open()
        if not self.call.sends(actor.account):
            raise Refused("not_in_call")
        if not self.call.hears(actor.account, source):
            raise Refused("no_publisher")
        self._require_few_unanswered(actor.account)
        negotiated = self._media.watch(self._row, source, offer_sdp, Holding(REQUIRES))
        former = [member for member in self._of(actor.account) if not member.publishes and member.source == source]
        self._members[negotiated.transport] = _Member(negotiated.transport, actor.account, source, False)
        for member in former:
            self._close(member, "taken_over")
        return negotiated

    def restart_ice(self, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        """Answer an ICE restart, for whoever may go on. Raises Refused."""
        member = self._members.get(transport)
        if member is None or not self._may(member):
            raise Refused("session_unknown")
        return self._media.restart_ice(transport, sdpfrag)

    def notice(self, fact: MediaEvent) -> None:
        """Take a fact about one of the call's transports."""
        if isinstance(fact, Connected | Disconnected) and not self._is_shut:
            self._pass_on.send_nowait(fact)

    async def _take_facts(self) -> None:
        async for fact in self._facts:
            if isinstance(fact, Connected):
                member = self._members.get(fact.transport)
                if member is not None:
                    member.connected = True
                    await self.change(member.account, c.Come())
            else:
                gone = self._members.pop(fact.transport, None)
                if gone is not None:
                    await self._lose(gone.account)

    async def _lose(self, account: AccountId) -> None:
        if not any(member.connected for member in self._of(account)):
            await self.change(account, c.Lose())

    def _of(self, account: AccountId) -> Iterable[_Member]:
        return [member for member in self._members.values() if member.account == account]

    def _require_few_unanswered(self, account: AccountId) -> None:
        if sum(not member.connected for member in self._of(account)) >= MAX_UNANSWERED:
            raise Refused("too_many_sessions")

    def _require_open(self) -> None:
        if self._is_shut:
            raise Refused("call_ended")

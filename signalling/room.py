"""Carries out what the policy decides for one room: first cut, then told, then archived.

One writer: every change of a room happens here, between two checkpoints of the Trio thread, so there is no lock.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from media.door import Connected, Disconnected, Flowing, Media, MediaEvent, Negotiated, TransportId
from media.forwarding.admission import FOREVER
from signalling import commands as c
from signalling import events as e
from signalling.identifiers import AccountId, Mode
from signalling.policy import deadline_ns, step
from signalling.ports import Archive, Audience, Clock
from signalling.refusals import Refused
from signalling.state import RoomState

STREAMER, GUEST = "streamer", "guest"


@dataclass(slots=True)
class _Member:
    """One account's media transport in the room."""

    account: AccountId
    publishes: bool
    flows: bool = False


class Room:
    """One room; `run` it in a nursery of its own. Raises Refused from every request that is not granted."""

    def __init__(self, state: RoomState, *, media: Media, archive: Archive, audience: Audience, clock: Clock) -> None:
        self.state = state
        self._media, self._archive, self._audience, self._clock = media, archive, audience, clock
        self._members: dict[TransportId, _Member] = {}
        self._row = media.open_room(state.requires)
        self._media.open_until(self._row, FOREVER if state.until_ns is None else state.until_ns)
        self._changed = trio.Event()
        self.ended = trio.Event()

    @property
    def watching(self) -> frozenset[AccountId]:
        """The accounts with a viewer's transport, admitted or not, without the owner."""
        viewers = {member.account for member in self._members.values() if not member.publishes}
        return frozenset(viewers - {self.state.owner})

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let time pass for the room until it ends; whatever happens, nothing leaves it afterwards."""
        try:
            task_status.started()
            while self.state.ended is None:
                await self._wait_for_deadline()
                if deadline_ns(self.state) <= self._clock.now_ns():
                    await self._do(None, c.Tick())
        finally:
            self._media.close_room(self._row)
            self.ended.set()

    async def command(self, actor: AccountId, command: c.Command) -> list[e.Event]:
        """Do what an account asks; returns what happened, after the last packet of the former state is out."""
        if not self._narrows(command):
            return await self._do(actor, command)
        # A restart between here and the switch finds the narrower mode written down, never the wider.
        intended, _ = step(self.state, actor, command, self._clock.now_ns())
        await self._archive.intend(intended)
        try:
            return await self._do(actor, command)
        except Refused as caught:
            refusal = caught
        await self._archive.keep(self.state, [])  # the room changed meanwhile: what was intended is off
        raise refusal

    def publish(self, actor: AccountId, offer_sdp: str) -> Negotiated:
        """Answer a WHIP offer of the streamer, or of the guest of a one-to-one; a former publisher is replaced."""
        self._require_running()
        source, until_ns = self._publishing_right(actor)
        replaced = [
            transport for transport, member in self._members.items() if member == _Member(actor, True, member.flows)
        ]
        negotiated = self._media.publish(self._row, source, offer_sdp, until_ns=until_ns)
        self._members[negotiated.transport] = _Member(actor, publishes=True)
        for transport in replaced:
            self._media.close(transport, "taken_over")
        return negotiated

    def watch(self, actor: AccountId, offer_sdp: str) -> Negotiated:
        """Answer a WHEP offer: the streamer's tracks for everyone who may watch, the guest's for the streamer."""
        self._require_running()
        now_ns = self._clock.now_ns()
        if not self.state.admits(actor, now_ns):
            reason, readmit = self.state.refusal(actor, now_ns)
            raise Refused(reason, readmit=readmit)
        source = GUEST if actor == self.state.owner else STREAMER
        negotiated = self._media.watch(self._row, source, offer_sdp, self.state.holding(actor))
        self._members[negotiated.transport] = _Member(actor, publishes=False)
        self.state, _ = step(self.state, actor, c.Join(), now_ns)
        return negotiated

    def restart_ice(self, actor: AccountId, transport: TransportId, sdpfrag: str) -> tuple[str, str]:
        """Answer an ICE restart, judging the right anew: an old session is no way back in."""
        member = self._members[transport]
        if not member.publishes and not self.state.admits(actor, self._clock.now_ns()):
            self._media.close(transport, "access_revoked")
            reason, readmit = self.state.refusal(actor, self._clock.now_ns())
            raise Refused(reason, readmit=readmit)
        return self._media.restart_ice(transport, sdpfrag)

    async def notice(self, fact: MediaEvent) -> None:
        """Take a fact about one of the room's transports."""
        member = self._members.get(fact.transport)
        if self.state.ended is not None:
            return
        match fact:
            case Flowing() if member is not None:
                member.flows = True
                if self._both_sides_flow():
                    await self._do(None, c.MediaFlows())
            case Disconnected():
                self._members.pop(fact.transport, None)
                if member is not None and member.publishes and not self._both_sides_flow():
                    await self._do(None, c.MediaStops())
            case Connected() | Flowing():
                pass

    def _require_running(self) -> None:
        if self.state.ended is not None:
            raise Refused("stream_ended")

    def _publishing_right(self, actor: AccountId) -> tuple[str, int]:
        if actor == self.state.owner:
            return STREAMER, FOREVER
        session = self.state.one_to_one
        if session is None or session.guest != actor:
            raise Refused("not_the_owner", "only the streamer, and the guest of a one-to-one, may publish")
        return GUEST, session.until_ns

    def _narrows(self, command: c.Command) -> bool:
        prepared = self.state.prepared
        if isinstance(command, c.ConfirmMode):
            return prepared is not None and prepared.token == command.token and prepared.mode is not Mode.PUBLIC
        return isinstance(command, c.AcceptOneToOne | c.Eject | c.RevokeTicket | c.Disentitle)

    async def _do(self, actor: AccountId | None, given: c.Command | c.Fact) -> list[e.Event]:
        before = self.state
        self.state, events = step(before, actor, given, self._clock.now_ns())
        self._apply(before)
        self._changed.set()
        if self.state.epoch != before.epoch:
            await self._media.fence()
            self._close_revoked(events)
        for event in events:
            self._audience.tell(event)
        if self.state != before:
            await self._archive.keep(self.state, events)
        return events

    def _apply(self, before: RoomState) -> None:
        # No checkpoint in here. Both states' demands come first, so that no order of stores admits more than they do.
        self._media.require(self._row, before.requires | self.state.requires)
        for transport, member in self._members.items():
            if not member.publishes:
                self._media.hold(transport, self.state.holding(member.account))
            elif member.account != self.state.owner:
                self._media.publish_until(transport, self._guest_until_ns(member.account))
        closes_ns = FOREVER if self.state.until_ns is None else self.state.until_ns
        self._media.open_until(self._row, 0 if self.state.ended is not None else closes_ns)
        self._media.require(self._row, self.state.requires)

    def _guest_until_ns(self, account: AccountId) -> int:
        session = self.state.one_to_one
        return session.until_ns if session is not None and session.guest == account else 0

    def _close_revoked(self, events: list[e.Event]) -> None:
        # Those whom a one-to-one shuts out wait with their transports open, and come back without joining again.
        gone = {event.account for event in events if isinstance(event, e.AccessRevoked)}
        over = {event.account for event in events if isinstance(event, e.OneToOneEnded)}
        for transport, member in tuple(self._members.items()):
            revoked = not member.publishes and member.account in gone and self.state.mode is not Mode.ONE_TO_ONE
            if revoked or (member.publishes and member.account in over):
                self._media.close(transport, "access_revoked")

    def _both_sides_flow(self) -> bool:
        session = self.state.one_to_one
        if session is None:
            return False
        flowing = {member.account for member in self._members.values() if member.publishes and member.flows}
        return {self.state.owner, session.guest} <= flowing

    async def _wait_for_deadline(self) -> None:
        self._changed = trio.Event()
        left_ns = deadline_ns(self.state) - self._clock.now_ns()
        with trio.move_on_after(max(0.0, left_ns / 1e9)):
            await self._changed.wait()

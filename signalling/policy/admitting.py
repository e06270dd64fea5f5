"""Changes who may watch a room, and tells everyone present what it changed for him. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from signalling.identifiers import AccountId, Mode
from signalling.policy import best_picture, one_to_one, preparing
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import Result
from signalling.policy.state import RoomState
from signalling.refusals import Refused


def access(
    state: RoomState, change: Callable[[RoomState], RoomState], now_ns: int, reason: str | None = None
) -> Result:
    """Apply a change of who may watch: the epoch rises by one, and everyone present is told what it changed for him.

    That includes who waits already, and now for something else. `reason` is told instead of the missing grant's.
    """
    after = change(state)
    if after == state:
        return state, []
    after = replace(after, epoch=state.epoch + 1, prepared=preparing.still_prepared(state, after, now_ns))
    events: list[e.Event] = []
    for account in sorted(state.present):
        was, may = state.admits(account, now_ns), after.admits(account, now_ns)
        if may:
            events += _told_who_may(state, after, account, now_ns)
            continue
        why, readmit = after.refusal(account, now_ns)
        if was or why != state.refusal(account, now_ns)[0]:
            events.append(e.AccessRevoked(account, after.epoch, (reason if was else None) or why, readmit))
    return withdraw_hopeless(after, events)


def _told_who_may(state: RoomState, after: RoomState, account: AccountId, now_ns: int) -> list[e.Event]:
    """Say what a change is to somebody who may watch after it: the way in, or the best picture that came or went."""
    if not state.admits(account, now_ns):
        return [e.AccessGranted(account, after.epoch, after.via(account))]
    has_best = best_picture.change(state, after, account, now_ns)
    return [] if has_best is None else [e.BestPictureJudged(account, has_best, after.epoch)]


def revoke_ticket(state: RoomState, account: AccountId, now_ns: int) -> Result:
    """Take a ticket back that was given; raises Refused for one that was paid for."""
    if account in state.bought and account not in state.tickets:
        raise Refused("ticket_bought")
    return access(state, lambda s: replace(s, tickets=s.tickets - {account}), now_ns, "ticket_revoked")


def seat(state: RoomState, seats: dict[AccountId, c.Seat], now_ns: int) -> Result:
    """Take up who bought a ticket, who is about to, and who has none any more."""

    def now(former: frozenset[AccountId], seat: c.Seat) -> frozenset[AccountId]:
        return (former - seats.keys()) | {account for account, said in seats.items() if said == seat}

    def change(state: RoomState) -> RoomState:
        return replace(state, bought=now(state.bought, "bought"), paying=now(state.paying, "paying"))

    return access(state, change, now_ns, "ticket_revoked")


def withdraw_hopeless(state: RoomState, events: list[e.Event]) -> Result:
    """Take back the requests for a one-to-one that can no longer be granted."""
    paid = state.usual_mode is Mode.PAID
    gone = [request.account for request in state.requests if paid or not state.hears(request.account)]
    for account in gone:
        state, withdrawn = one_to_one.withdraw(state, account, "mode_changed" if paid else "access_revoked")
        events = [*events, *withdrawn]
    return state, events

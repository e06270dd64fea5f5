"""Prepares a switch of a room's mode: who would have to go. Pure, like all that the policy is made of."""

from __future__ import annotations

from dataclasses import replace

from signalling.identifiers import AccountId, Mode
from signalling.policy import commands as c
from signalling.policy import events as e
from signalling.policy.one_to_one import SECOND_NS, Result
from signalling.policy.state import Prepared, RoomState
from signalling.refusals import Refused

PREPARED_FOR_NS = 60 * SECOND_NS  # long enough to read a list of names
Accounts = tuple[AccountId, ...]


def prepare(state: RoomState, given: c.PrepareMode, now_ns: int) -> Result:
    """Say what a switch would do, and let it be confirmed; raises Refused."""
    if given.mode is Mode.ONE_TO_ONE:
        raise Refused("invalid_mode", "a one-to-one begins by accepting a viewer")
    if state.one_to_one is not None:
        raise Refused("mode_conflict", "end the one-to-one first")
    prepared = Prepared(given.mode, given.token, now_ns + PREPARED_FOR_NS)
    removed, stay, paying = audience(state, given.mode, now_ns)
    event = e.ModePrepared(given.mode, given.token, removed, stay, prepared.expires_ns, paying)
    return replace(state, prepared=prepared), [event]


def still_prepared(before: RoomState, after: RoomState, now_ns: int) -> Prepared | None:
    """Return what is prepared, unless somebody would go now who was said to stay: a ticket sold voids nothing."""
    prepared = before.prepared
    if prepared is None or before.mode is not after.mode:
        return None
    said_to_stay = audience(before, prepared.mode, now_ns)[1]
    stay = audience(after, prepared.mode, now_ns)[1]
    return prepared if set(said_to_stay) <= set(stay) else None


def audience(state: RoomState, mode: Mode, now_ns: int) -> tuple[Accounts, Accounts, Accounts]:
    """Return who would have to go in a mode, who would stay, and who would wait in the lobby."""
    after = replace(state, mode=mode)
    watching = [account for account in sorted(state.present) if state.admits(account, now_ns)]
    stay = {account for account in watching if after.admits(account, now_ns)}
    others = [account for account in watching if account not in stay]
    paying = {account for account in others if after.refusal(account, now_ns)[0] == "payment_pending"}
    return tuple(account for account in others if account not in paying), tuple(sorted(stay)), tuple(sorted(paying))

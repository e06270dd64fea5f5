"""Decides who has the best layer of a stream's picture, and says whom a change gives it or takes it from. Pure."""

from __future__ import annotations

from dataclasses import replace

from signalling.identifiers import AccountId
from signalling.policy import events as e
from signalling.policy.one_to_one import Result
from signalling.policy.state import RoomState
from signalling.wire.views import BestPicture


def reserve(state: RoomState, best_picture: BestPicture) -> Result:
    """Let everyone who watches have it, or while the stream is public only those who might watch it if it were private.

    Those are whoever meets the stream's rules, and whom the streamer chose by name.
    """
    if state.best_picture == best_picture:
        return state, []
    after = replace(state, best_picture=best_picture, epoch=state.epoch + 1)
    return after, [e.BestPictureSet(best_picture, after.epoch)]


def change(before: RoomState, after: RoomState, account: AccountId, now_ns: int) -> bool | None:
    """Return whether an account that watches on has it from now on or no longer, None where that stays as it is.

    One whose verdict lapsed has lost it by then, and nobody has said so yet.
    """
    lapsed_ns = before.verdict(account).until_ns
    seen_ns = lapsed_ns - 1 if lapsed_ns <= now_ns else now_ns
    if not before.admits(account, seen_ns) or not after.admits(account, now_ns):
        return None
    has = after.gives_best(account, now_ns)
    return None if has == before.gives_best(account, seen_ns) else has

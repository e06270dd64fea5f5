"""Says whether an account may watch a stream as it is now: by rules, ticket or the streamer's choice. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from server.access.judging import Judgement
from server.access.rules import NEVER, Lacking, Missing, Ticket
from signalling.identifiers import AccountId, Mode
from signalling.policy.state import RoomState


@dataclass(frozen=True, slots=True)
class Entitlement:
    """Whether an account may watch in `mode`, the stream's, or the one to which its one-to-one returns.

    If so, `via` says by what, and `until` (epoch ms) how long at most, None for no end. If not, `ways` says what would
    help, None for nothing; to one who may watch without having the `best_picture`, what would help to that. `denied` is
    the code of what keeps the account out of every mode, and `missing` what it would have to prove.
    """

    mode: Mode
    entitled: bool
    via: str | None = None
    until: int | None = None
    ways: Missing | None = None
    denied: str | None = None
    missing: tuple[Missing, ...] = ()
    best_picture: bool = False


def entitlement(state: RoomState, account: AccountId, judgement: Judgement, now: int) -> Entitlement:
    """Weigh what a room knows of an account and what the rules say of it, at `now` (epoch ms)."""
    mode = state.usual_mode
    if account == state.owner:
        return Entitlement(mode, True, "owner", best_picture=True)
    denied = "ejected" if account in state.ejected else judgement.denied
    via, until, ways = _right(state, account, judgement)
    until = min(until, judgement.welcome_until)
    if denied is None and via is not None and now < until:
        best_picture = ways is None
        return Entitlement(mode, True, via, None if until >= NEVER else until, ways, best_picture=best_picture)
    return Entitlement(mode, False, ways=ways, denied=denied, missing=judgement.unproven)


def _right(state: RoomState, account: AccountId, judgement: Judgement) -> tuple[str | None, int, Missing | None]:
    """Return by what an account could watch, until when, and what would help if nothing lets it."""
    match state.usual_mode:
        case Mode.PAID:
            return ("ticket", NEVER, None) if account in state.holders else (None, NEVER, Lacking(Ticket()))
        case Mode.PRIVATE if account in state.entitled:
            return "streamer", NEVER, None
        case Mode.PRIVATE:
            rule = judgement.rule
            return (rule.via, rule.until, None) if rule.met else (None, NEVER, rule.missing)
        case Mode.PUBLIC if state.best_picture == "entitled" and account not in state.entitled:
            return "public", NEVER, judgement.rule.missing
        case _:
            return "public", NEVER, None

"""Decides what one account may do with a room's media in a given state of it. Pure."""

from __future__ import annotations

from media.forwarding.admission import FOREVER
from signalling.identifiers import AccountId
from signalling.policy import hosting
from signalling.policy.state import RoomState
from signalling.refusals import Refused

STREAMER, GUEST = "streamer", "guest"  # the sources of what is published in a room


def require_admitted(state: RoomState, account: AccountId, now_ns: int) -> None:
    """Raise Refused, with what would help, for an account that may not watch."""
    if state.admits(account, now_ns):
        return
    reason, readmit = state.refusal(account, now_ns)
    verdict = state.verdict(account)
    help = verdict.help if reason in ("not_entitled", verdict.denied) else {}
    if "ticket" in readmit and state.offer is not None:
        help = {**help, "offer": state.offer}
    raise Refused(reason, "", readmit=readmit, **help)


def may_wait(state: RoomState, account: AccountId, now_ns: int) -> bool:
    """Whether only a one-to-one or an unfinished payment shuts out an account that is not admitted: it comes back."""
    if state.one_to_one is not None:
        return state.hears(account)
    return state.refusal(account, now_ns)[0] == "payment_pending"


def publishing(state: RoomState, account: AccountId, now_ns: int) -> tuple[str, int]:
    """Return as which source an account publishes, and until when (monotonic ns). Raises Refused("not_the_owner")."""
    if account == state.owner:
        return STREAMER, FOREVER
    session = state.one_to_one
    if session is not None and session.guest == account:
        return GUEST, session.until_ns
    if hosting.until_ns(state, account, now_ns):
        return hosting.source_of(account), FOREVER
    raise Refused("not_the_owner", "only the streamer, who was let beside, and the guest of a one-to-one, may publish")


def publishes_until_ns(state: RoomState, account: AccountId, source: str, now_ns: int) -> int:
    """Return until when somebody else than the streamer publishes as a source (monotonic ns), 0 for never."""
    if source == GUEST:
        return guest_until_ns(state, account)
    return hosting.until_ns(state, account, now_ns)


def guest_until_ns(state: RoomState, account: AccountId) -> int:
    """Return until when an account publishes as the guest of a one-to-one (monotonic ns), 0 for never."""
    session = state.one_to_one
    return session.until_ns if session is not None and session.guest == account else 0


def watched_source(state: RoomState, account: AccountId, host: AccountId | None = None) -> str:
    """Return what an account watches: the streamer in a one-to-one sees its guest. Raises Refused("no_publisher")."""
    if host is not None:
        return hosting.watched(state, host)
    return GUEST if account == state.owner and state.one_to_one else STREAMER


def receives(state: RoomState, account: AccountId, source: str, now_ns: int) -> bool:
    """Whether what a source publishes may be sent to an account this moment; `source` "" is the streamer."""
    if not state.admits(account, now_ns):
        return False
    if hosting.is_host(source):
        return hosting.receives(state, account, source)
    return source == "" or (source == GUEST and state.one_to_one is not None and account == state.owner)


def may_publish(state: RoomState, account: AccountId, source: str, now_ns: int) -> bool:
    """Whether an account may publish as a source this moment; `source` "" is the streamer."""
    if state.ended is not None:
        return False
    if account == state.owner:
        return source == ""
    is_own = source in (GUEST, hosting.source_of(account))
    return is_own and now_ns < publishes_until_ns(state, account, source, now_ns)

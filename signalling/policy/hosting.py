"""Decides who publishes beside the streamer: those whom the streamer lets, for as long as they may watch. Pure."""

from __future__ import annotations

from media.forwarding.admission import FOREVER
from signalling.identifiers import AccountId
from signalling.policy.state import RoomState
from signalling.refusals import Refused

HOST = "host:"  # begins the sources of those who publish beside the streamer
MAX_HOSTS = 3  # as many pictures as fit beside the streamer's on a telephone


def source_of(account: AccountId) -> str:
    """Return as which source an account publishes beside the streamer."""
    return f"{HOST}{account}"


def is_host(source: str) -> bool:
    """Whether a source is somebody beside the streamer."""
    return source.startswith(HOST)


def receives(state: RoomState, account: AccountId, source: str) -> bool:
    """Whether one who may watch is sent what somebody publishes beside the streamer: not in a one-to-one."""
    host = AccountId(source.removeprefix(HOST))
    return host in state.hosts and state.one_to_one is None and host != account


def require_few(state: RoomState, account: AccountId) -> None:
    """Raise Refused("too_many_hosts") where one more would be too many."""
    if len({*state.hosts, account}) > MAX_HOSTS:
        raise Refused("too_many_hosts", f"at most {MAX_HOSTS}")


def until_ns(state: RoomState, account: AccountId, now_ns: int) -> int:
    """Return until when an account publishes beside the streamer (monotonic ns): in a one-to-one 0."""
    is_one = account in state.hosts and state.one_to_one is None and state.admits(account, now_ns)
    return FOREVER if is_one else 0


def watched(state: RoomState, host: AccountId) -> str:
    """Return the source of somebody who publishes beside the streamer. Raises Refused("no_publisher")."""
    if host not in state.hosts or state.one_to_one is not None:
        raise Refused("no_publisher")
    return source_of(host)

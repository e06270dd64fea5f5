"""Knows one room's media transports and MoQ sessions: whose they are, and in which order they came."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from media.door import TransportId
from signalling.identifiers import AccountId
from signalling.policy.hosting import HOST
from signalling.refusals import Refused
from signalling.rooms.broadcasts import SessionRights

MAX_UNANSWERED = 256  # media sessions of one account that never connected; each is forgotten after 30 s
MAX_DEVICES = 2  # of one account that watch one stream: a telephone and a television; a shared account is more


@dataclass(slots=True)
class Member:
    """One account's media transport; `number` orders those that are connected."""

    transport: TransportId
    account: AccountId
    source: str
    publishes: bool
    connected: bool = False
    number: int = 0
    flows: bool = False
    is_closed: bool = False


class Members:
    """The transports of one room, and the MoQ sessions that receive its broadcasts."""

    def __init__(self) -> None:
        self._by_transport: dict[TransportId, Member] = {}
        self._by_account: dict[AccountId, list[Member]] = {}
        self._unanswered: Counter[AccountId] = Counter()
        self._receiving: dict[SessionRights, int] = {}  # numbered with the connected transports
        self._numbers = itertools.count(1)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._by_transport.values()))

    def find(self, transport: TransportId) -> Member | None:
        """Return the member of a transport, while there is one."""
        return self._by_transport.get(transport)

    def of(self, *accounts: AccountId) -> list[Member]:
        """Return the members of some accounts."""
        return [member for account in accounts for member in self._by_account.get(account, ())]

    def publishing(self, account: AccountId) -> list[Member]:
        """Return the members as which an account publishes."""
        return [member for member in self.of(account) if member.publishes]

    def watching(self) -> frozenset[AccountId]:
        """Return the accounts that have a viewer's transport, or receive broadcasts."""
        viewers = {member.account for member in self._by_transport.values() if not member.publishes}
        return frozenset(viewers | {rights.actor.account for rights in self._receiving})

    def add(self, member: Member) -> None:
        """Take in a transport that has been answered."""
        self._by_transport[member.transport] = member
        self._by_account.setdefault(member.account, []).append(member)
        self._unanswered[member.account] += 1

    def connect(self, transport: TransportId) -> Member | None:
        """Note that a transport has connected, as the newest."""
        member = self._by_transport.get(transport)
        if member is not None:
            member.connected, member.number = True, next(self._numbers)
            self._answered(member.account)
        return member

    def remove(self, transport: TransportId) -> Member | None:
        """Forget a transport that is gone."""
        member = self._by_transport.pop(transport, None)
        if member is not None:
            member.flows = False
            self._by_account[member.account].remove(member)
            if not self._by_account[member.account]:
                del self._by_account[member.account]
            if not member.connected:
                self._answered(member.account)
        return member

    def _answered(self, account: AccountId) -> None:
        self._unanswered[account] -= 1
        if not self._unanswered[account]:
            del self._unanswered[account]

    def require_few_unanswered(self, account: AccountId) -> None:
        """Raise Refused("too_many_sessions") when too many of an account's transports have not connected."""
        if self._unanswered[account] >= MAX_UNANSWERED:
            raise Refused("too_many_sessions")

    def receive(self, sessions: Iterable[SessionRights]) -> set[AccountId]:
        """Note which MoQ sessions receive now; returns the accounts of those that did not before."""
        before = self._receiving
        self._receiving = {rights: before.get(rights) or next(self._numbers) for rights in sessions}
        return {rights.actor.account for rights in self._receiving if rights not in before}

    def forget_session(self, rights: SessionRights) -> None:
        """Note that a MoQ session receives no more."""
        self._receiving.pop(rights, None)

    def surplus(self, account: AccountId) -> list[Member | SessionRights]:
        """Return the oldest of an account's connected viewers, those beyond what one person has in devices."""
        watching: dict[str, list[tuple[int, Member | SessionRights]]] = {}
        for member in self.of(account):
            if member.connected and not member.publishes and not member.is_closed:
                beside = member.source if member.source.startswith(HOST) else ""
                watching.setdefault(beside, []).append((member.number, member))
        received = [(number, one) for one, number in self._receiving.items() if one.actor.account == account]
        watching.setdefault("", []).extend(received)
        return [one for each in watching.values() for _, one in sorted(each, key=lambda it: it[0])[:-MAX_DEVICES]]

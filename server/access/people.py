"""What people do to their relations: each change is written, then every room that it concerns cuts, then it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from server.access import relations
from server.access.entitlement import Entitlement, entitlement
from server.access.judging import StreamRules
from server.access.relations import Related, Subscribed
from server.access.service import Access
from server.access.standing import rules_of
from server.access.tables import stream_rules
from server.database.store import Database
from server.database.upsert import insert_into
from signalling.identifiers import AccountId, Actor, StreamId
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.wire.events import BlockChanged
from signalling.wire.views import Card

T = TypeVar("T")
Listing = Callable[[sa.Connection, AccountId, str, int], list[T]]


@dataclass(frozen=True, slots=True)
class Versioned:
    """A stream's rules, and the version by which a change of them is asked for."""

    version: int
    rules: StreamRules


@dataclass(frozen=True, slots=True)
class Seen:
    """An account as another sees it: since when that one follows it, and the stream it has on, if that is listed."""

    id: AccountId
    name: str
    follows_since: int | None
    stream: Card | None


class Owed(Protocol):
    """What two people owe each other and what becomes of it when one blocks the other; and decisions about accounts."""

    def underway(self, one: AccountId, other: AccountId) -> Any:
        """Return what rooms know of two people and the database not yet."""

    def settle(self, connection: sa.Connection, blocker: AccountId, blocked: AccountId, underway: Any) -> Any:
        """Settle what is open between two, in the transaction of a block."""

    async def carry(self, settled: Any) -> None:
        """Do and tell what follows from what was settled."""

    def outlast(self, connection: sa.Connection, account: AccountId) -> None:
        """Let no decision end the suspension of an account by itself: an operator has suspended it."""


class People:
    """Follows, subscriptions, blocks, facts about accounts, and rules; raises Refused and StoreFailed."""

    def __init__(self, store: Database, clock: Clock, access: Access, rooms: Rooms, owed: Owed) -> None:
        self._store, self._clock, self._access, self._rooms, self._owed = store, clock, access, rooms, owed

    async def profile(self, actor: Actor, name: str) -> Seen:
        """Return somebody as the actor sees them. Raises Refused("account_unknown")."""
        found = await self._store.read(relations.profile, actor.account, name)
        return Seen(*found, await self._rooms.listed_of(found.id, actor))

    # -- follows and subscriptions -------------------------------------------------------------------------------------

    async def follow(self, actor: Actor, name: str) -> None:
        """Follow somebody. Raises Refused (account_unknown, self_follow, too_many_follows)."""
        streamer = await self._store.write(relations.follow, actor.account, name, self._clock.wall_ms())
        await self._access.changed_between(actor.account, streamer)

    async def unfollow(self, actor: Actor, name: str) -> None:
        """No longer follow somebody. Raises Refused("account_unknown")."""
        streamer = await self._store.write(relations.unfollow, actor.account, name)
        await self._access.changed_between(actor.account, streamer)

    async def follows(self, actor: Actor, after: str, limit: int) -> list[Related]:
        """Return whom somebody follows."""
        return await self._store.read(relations.list_follows, actor.account, after, limit)

    async def subscribe(self, streamer: AccountId, subscriber: AccountId, tier: int, expires_s: int | None) -> None:
        """Let somebody be subscribed to a streamer. Raises Refused("self_follow")."""
        now = self._clock.wall_ms()
        expires_at = None if expires_s is None else now + expires_s * 1000

        def work(connection: sa.Connection) -> None:
            relations.subscribe(connection, subscriber, streamer, tier=tier, now=now, expires_at=expires_at)

        await self._store.write(work)
        await self._access.changed_between(subscriber, streamer)

    async def unsubscribe(self, streamer: AccountId, subscriber: AccountId) -> None:
        """End a subscription at once."""
        await self._store.write(relations.unsubscribe, subscriber, streamer)
        await self._access.changed_between(subscriber, streamer)

    async def subscriptions(self, actor: Actor, after: str, limit: int) -> list[Subscribed]:
        """Return to whom somebody is subscribed."""
        return await self._store.read(relations.list_subscriptions, actor.account, after, limit)

    async def subscribers(self, actor: Actor, after: str, limit: int) -> list[Subscribed]:
        """Return who is subscribed to somebody."""
        return await self._store.read(relations.list_subscribers, actor.account, after, limit)

    # -- blocks and facts ----------------------------------------------------------------------------------------------

    async def block(self, actor: Actor, name: str) -> None:
        """Keep somebody away, in both directions. Raises Refused (account_unknown, self_block, too_many_blocks)."""
        other = await self._store.read(relations.find, name)
        underway = self._owed.underway(actor.account, other)
        blocked, settled = await self._store.write(self._block, actor.account, name, underway)
        await self._access.set_apart(actor.account, blocked)
        self._tell_block(actor.account, name, True)
        await self._owed.carry(settled)

    def _block(self, connection: sa.Connection, blocker: AccountId, name: str, underway: Any) -> tuple[AccountId, Any]:
        blocked = relations.block(connection, blocker, name, self._clock.wall_ms())
        return blocked, self._owed.settle(connection, blocker, blocked, underway)

    async def unblock(self, actor: Actor, name: str) -> None:
        """Take a block back; who blocked as well stays away. Raises Refused("account_unknown")."""
        unblocked, still_apart = await self._store.write(relations.unblock, actor.account, name)
        if not still_apart:
            await self._access.reunite(actor.account, unblocked)
        self._tell_block(actor.account, name, False)

    async def blocks(self, actor: Actor, after: str, limit: int) -> list[Related]:
        """Return whom somebody blocked."""
        return await self._store.read(relations.list_blocks, actor.account, after, limit)

    async def set_facts(self, account: AccountId, *, suspended: bool | None, tier: int | None) -> None:
        """Suspend an account or not, and say its tier; None leaves it as it is."""

        def work(connection: sa.Connection) -> None:
            relations.set_account_facts(connection, account, suspended=suspended, tier=tier)
            if suspended:
                self._owed.outlast(connection, account)

        await self._store.write(work)
        if suspended is not None:
            await self._access.suspend(account, suspended)
        else:
            await self._access.changed_about(account)

    def _tell_block(self, blocker: AccountId, name: str, blocked: bool) -> None:
        self._rooms.tell(blocker, BlockChanged(server_now=self._clock.wall_ms(), name=name, blocked=blocked))

    # -- rules ---------------------------------------------------------------------------------------------------------

    async def rules(self, actor: Actor, stream: StreamId) -> Versioned:
        """Return a stream's rules. Raises Refused."""
        self._rooms.stream(stream, actor)
        return Versioned(*await self._store.read(rules_of, stream))

    async def set_rules(self, actor: Actor, stream: StreamId, rules: StreamRules, versions: tuple[int, ...]) -> int:
        """Replace a stream's rules, if they still are of one of these versions; returns the new version.

        Raises Refused (not_the_owner, invalid_rules, precondition_failed).
        """
        owner = self._rooms.stream(stream, actor).card.streamer.id
        if actor.account != owner and not actor.admin:
            raise Refused("not_the_owner")
        fault = rules.fault()
        if fault is not None:
            raise Refused("invalid_rules", fault)
        version = await self._store.write(_write_rules, stream, rules, versions)
        await self._access.changed_rules(stream, owner, version, rules.kyf)
        return version

    async def entitlement(self, actor: Actor, stream: StreamId) -> Entitlement:
        """Return whether who asks may watch, by what, and what would help. Raises Refused."""
        owner = self._rooms.stream(stream, actor).card.streamer.id
        judgement = await self._access.judgement(stream, owner, actor.account)
        self._rooms.stream(stream, actor)  # it may have ended meanwhile, or be hidden
        state = self._rooms.state(stream)
        assert state is not None, "a stream that can be shown runs"
        return entitlement(state, actor.account, judgement, self._clock.wall_ms())


def _write_rules(connection: sa.Connection, stream: StreamId, rules: StreamRules, versions: tuple[int, ...]) -> int:
    version, _ = rules_of(connection, stream)
    if version not in versions:
        raise Refused("precondition_failed", f"the rules are of version {version} by now", version=version)
    values = {"version": version + 1, "rules": msgspec.json.encode(rules).decode()}
    statement = insert_into(connection, stream_rules).values({"stream": stream, **values})
    connection.execute(statement.on_conflict_do_update(index_elements=["stream"], set_=values))
    return version + 1

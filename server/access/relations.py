"""What people are to each other: follows, subscriptions and blocks; and what is known of an account as such.

Functions of an open connection, so that they fit into any transaction; `now` is epoch ms.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from server.access.tables import account_facts, blocks, follows, subscriptions
from server.database.tables import accounts
from server.database.upsert import insert_into
from server.names import fold
from signalling.identifiers import AccountId
from signalling.refusals import Refused

MAX_FOLLOWED = 10_000  # by one account; nobody watches more, and it bounds what a follow bot writes
MAX_BLOCKED = 10_000  # by one account; a room keeps its streamer's list in memory


class Related(NamedTuple):
    """Another account, and since when (epoch ms)."""

    id: AccountId
    name: str
    since: int


class Profile(NamedTuple):
    """An account as another sees it; `follows_since` (epoch ms) is None where the other does not follow it."""

    id: AccountId
    name: str
    follows_since: int | None


class Subscribed(NamedTuple):
    """Another account and a subscription; `expires_at` is None for one that does not lapse (epoch ms)."""

    id: AccountId
    name: str
    tier: int
    since: int
    expires_at: int | None


def find_visible(connection: sa.Connection, asker: AccountId, name: str) -> AccountId:
    """Return whose name this is; raises Refused("account_unknown"), also when one of the two blocked the other.

    One statement, so that neither its words nor its time tell which it was.
    """
    between = sa.exists().where(
        sa.or_(
            sa.and_(blocks.c.blocker == accounts.c.id, blocks.c.blocked == asker),
            sa.and_(blocks.c.blocker == asker, blocks.c.blocked == accounts.c.id),
        )
    )
    statement = sa.select(accounts.c.id).where(accounts.c.folded == fold(name), ~between)
    found = connection.execute(statement).scalar_one_or_none()
    if found is None:
        raise Refused("account_unknown", f"nobody is called {name!r} here")
    return AccountId(found)


def profile(connection: sa.Connection, asker: AccountId, name: str) -> Profile:
    """Return somebody as the asker sees them; raises Refused("account_unknown")."""
    id = find_visible(connection, asker, name)
    mine = sa.and_(follows.c.streamer == accounts.c.id, follows.c.follower == asker)
    seen = sa.select(accounts.c.name, follows.c.since).join_from(accounts, follows, mine, isouter=True)
    row = connection.execute(seen.where(accounts.c.id == id)).one()
    return Profile(id, row.name, row.since)


def follow(connection: sa.Connection, follower: AccountId, name: str, now: int) -> AccountId:
    """Follow somebody, once; following on does not begin anew. Raises Refused."""
    streamer = find_visible(connection, follower, name)
    if streamer == follower:
        raise Refused("self_follow")
    count = sa.select(sa.func.count()).select_from(follows).where(follows.c.follower == follower)
    if connection.execute(count).scalar_one() >= MAX_FOLLOWED:
        raise Refused("too_many_follows")
    values = {"follower": follower, "streamer": streamer, "since": now}
    connection.execute(insert_into(connection, follows).values(values).on_conflict_do_nothing())
    return streamer


def unfollow(connection: sa.Connection, follower: AccountId, name: str) -> AccountId:
    """No longer follow somebody, or still not; raises Refused("account_unknown")."""
    streamer = find_visible(connection, follower, name)
    mine = sa.and_(follows.c.follower == follower, follows.c.streamer == streamer)
    connection.execute(sa.delete(follows).where(mine))
    return streamer


def list_follows(connection: sa.Connection, follower: AccountId, after: str, limit: int) -> list[Related]:
    """Return whom somebody follows, by id, from after that one on."""
    joined = sa.select(accounts.c.id, accounts.c.name, follows.c.since).join(
        accounts, accounts.c.id == follows.c.streamer
    )
    mine = joined.where(follows.c.follower == follower, follows.c.streamer > after)
    rows = connection.execute(mine.order_by(follows.c.streamer).limit(limit))
    return [Related(AccountId(row.id), row.name, row.since) for row in rows]


def list_subscriptions(connection: sa.Connection, subscriber: AccountId, after: str, limit: int) -> list[Subscribed]:
    """Return to whom somebody is subscribed, by id, lapsed ones too."""
    return _subscribed(connection, subscriptions.c.streamer, subscriptions.c.subscriber == subscriber, after, limit)


def list_subscribers(connection: sa.Connection, streamer: AccountId, after: str, limit: int) -> list[Subscribed]:
    """Return who is subscribed to a streamer, by id, lapsed ones too."""
    return _subscribed(connection, subscriptions.c.subscriber, subscriptions.c.streamer == streamer, after, limit)


def _subscribed(
    connection: sa.Connection, other: sa.Column[str], mine: sa.ColumnElement[bool], after: str, limit: int
) -> list[Subscribed]:
    of = subscriptions.c
    joined = sa.select(accounts.c.id, accounts.c.name, of.tier, of.since, of.expires_at)
    joined = joined.join(accounts, accounts.c.id == other).where(mine, other > after)
    rows = connection.execute(joined.order_by(other).limit(limit))
    return [Subscribed(AccountId(row.id), row.name, row.tier, row.since, row.expires_at) for row in rows]


def subscribe(
    connection: sa.Connection,
    subscriber: AccountId,
    streamer: AccountId,
    *,
    tier: int,
    now: int,
    expires_at: int | None,
) -> None:
    """Let somebody be subscribed to a streamer in this tier from now on; a running subscription is replaced.

    Raises Refused("self_follow").
    """
    if subscriber == streamer:
        raise Refused("self_follow")
    values = {"tier": tier, "since": now, "expires_at": expires_at}
    keys = {"subscriber": subscriber, "streamer": streamer}
    # Who goes on subscribed keeps the day of the beginning.
    runs_on = sa.or_(subscriptions.c.expires_at.is_(None), subscriptions.c.expires_at > now)
    since = sa.case((runs_on, subscriptions.c.since), else_=now)
    statement = insert_into(connection, subscriptions).values({**keys, **values})
    changed = {**values, "since": since}
    connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changed))


def unsubscribe(connection: sa.Connection, subscriber: AccountId, streamer: AccountId) -> None:
    """End a subscription at once."""
    this = sa.and_(subscriptions.c.subscriber == subscriber, subscriptions.c.streamer == streamer)
    connection.execute(sa.delete(subscriptions).where(this))


def block(connection: sa.Connection, blocker: AccountId, name: str, now: int) -> AccountId:
    """Keep two people apart; neither follows the other any more. Raises Refused.

    Whom one was blocked by can be blocked, too: that way nobody learns of it.
    """
    blocked = find(connection, name)
    if blocked == blocker:
        raise Refused("self_block")
    count = sa.select(sa.func.count()).select_from(blocks).where(blocks.c.blocker == blocker)
    if connection.execute(count).scalar_one() >= MAX_BLOCKED:
        raise Refused("too_many_blocks")
    values = {"blocker": blocker, "blocked": blocked, "since": now}
    connection.execute(insert_into(connection, blocks).values(values).on_conflict_do_nothing())
    for follower, streamer in ((blocker, blocked), (blocked, blocker)):
        both = sa.and_(follows.c.follower == follower, follows.c.streamer == streamer)
        connection.execute(sa.delete(follows).where(both))
    return blocked


def unblock(connection: sa.Connection, blocker: AccountId, name: str) -> tuple[AccountId, bool]:
    """Take a block back; returns whom, and whether the two are still apart since the other blocked as well."""
    blocked = find(connection, name)
    mine = sa.and_(blocks.c.blocker == blocker, blocks.c.blocked == blocked)
    connection.execute(sa.delete(blocks).where(mine))
    return blocked, blocker in apart_from(connection, blocked)


def list_blocks(connection: sa.Connection, blocker: AccountId, after: str, limit: int) -> list[Related]:
    """Return whom somebody blocked, by id. Nobody learns by whom he was."""
    joined = sa.select(accounts.c.id, accounts.c.name, blocks.c.since).join(accounts, accounts.c.id == blocks.c.blocked)
    mine = joined.where(blocks.c.blocker == blocker, blocks.c.blocked > after)
    rows = connection.execute(mine.order_by(blocks.c.blocked).limit(limit))
    return [Related(AccountId(row.id), row.name, row.since) for row in rows]


def apart_from(connection: sa.Connection, account: AccountId) -> frozenset[AccountId]:
    """Return whom an account blocked, and by whom it was blocked."""
    mine = sa.select(blocks.c.blocked).where(blocks.c.blocker == account)
    theirs = sa.select(blocks.c.blocker).where(blocks.c.blocked == account)
    return frozenset(AccountId(other) for other in connection.execute(mine.union(theirs)).scalars())


def set_account_facts(
    connection: sa.Connection, account: AccountId, *, suspended: bool | None, tier: int | None
) -> None:
    """Write down what is known of an account; None leaves it as it is."""
    values = {"account": account, "suspended": bool(suspended), "tier": tier or 0}
    changed = {name: value for name, value in (("suspended", suspended), ("tier", tier)) if value is not None}
    statement = insert_into(connection, account_facts).values(values)
    if changed:
        statement = statement.on_conflict_do_update(index_elements=["account"], set_=changed)
    else:
        statement = statement.on_conflict_do_nothing()
    connection.execute(statement)


def suspended_accounts(connection: sa.Connection) -> set[AccountId]:
    """Return all accounts that are suspended."""
    rows = connection.execute(sa.select(account_facts.c.account).where(account_facts.c.suspended))
    return {AccountId(account) for account in rows.scalars()}


def find(connection: sa.Connection, name: str) -> AccountId:
    """Return whose name this is, blocked or not; raises Refused("account_unknown")."""
    found = connection.execute(sa.select(accounts.c.id).where(accounts.c.folded == fold(name))).scalar_one_or_none()
    if found is None:
        raise Refused("account_unknown", f"nobody is called {name!r} here")
    return AccountId(found)

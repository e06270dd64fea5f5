"""Reads what is known of accounts towards a stream, and judges them on one snapshot of the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa

from server.access.judging import Denials, Judgement, StreamRules, judge
from server.access.rules import (
    NEVER,
    Facts,
    Finding,
    KyfClause,
    Proof,
    Rule,
    SingleTip,
    TipClause,
    TipsTotal,
    clauses,
    evaluate,
)
from server.access.tables import (
    account_facts,
    blocks,
    follows,
    invite_uses,
    invites,
    kyf_proofs,
    stream_rules,
    subscriptions,
)
from server.database.store import FAILURES
from server.database.tables import accounts
from signalling.identifiers import AccountId, StreamId

AT_ONCE = 500  # SQLite allows some thousand parameters in a statement


class Tips(Protocol):
    """What was tipped, net of what went back; called in a reader's thread, on the snapshot of the rest.

    `since` is epoch ms, None for ever. Units are the asset's smallest.
    """

    def total(
        self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
    ) -> int:
        """Return the sum of all tips."""

    def largest(
        self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
    ) -> int:
        """Return the largest single tip, 0 for none."""


class NoTips:
    """Nobody has tipped: what a node without money says."""

    def total(
        self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
    ) -> int:
        """Return 0."""
        return 0

    def largest(
        self, connection: sa.Connection, sender: AccountId, recipient: AccountId, asset: str, since: int | None
    ) -> int:
        """Return 0."""
        return 0


@dataclass(frozen=True, slots=True)
class Place:
    """A stream, whose it is, and who holds a ticket there."""

    stream: StreamId
    owner: AccountId
    tickets: frozenset[AccountId]


@dataclass(frozen=True, slots=True)
class Bench:
    """What judging needs besides the database: what the node demands of everybody, and who knows of tips."""

    everywhere: tuple[KyfClause, ...]
    tips: Tips


def rules_of(connection: sa.Connection, stream: StreamId) -> tuple[int, StreamRules]:
    """Return the version of a stream's rules, and the rules."""
    row = connection.execute(_RULES, {"of": stream}).one_or_none()
    if row is None:
        return 0, StreamRules()
    return row.version, msgspec.json.decode(row.rules, type=StreamRules)


def judge_all(
    connection: sa.Connection, bench: Bench, place: Place, asked: Sequence[AccountId], now: int
) -> dict[AccountId, Judgement]:
    """Judge some accounts for one stream, at `now` (epoch ms)."""
    _, rules = rules_of(connection, place.stream)
    about_tips = [clause for clause in clauses(rules.watch) if isinstance(clause, TipsTotal | SingleTip)]
    judged: dict[AccountId, Judgement] = {}
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        rows, proofs = _rows(connection, place, some), _proofs(connection, some, now)
        for account in some:
            facts, denials = _facts(rows.get(account), account in place.tickets, proofs.get(account, ()))
            if about_tips:
                tips = {clause: _tipped(connection, bench, place.owner, account, clause, now) for clause in about_tips}
                facts = replace(facts, tips=tips)
            judged[account] = judge(facts, denials, rules, bench.everywhere, now)
    return judged


def judge_each(
    connection: sa.Connection, bench: Bench, asked: Sequence[tuple[Place, AccountId]], now: int
) -> list[Judgement | Exception]:
    """Judge each account for its stream, at `now` (epoch ms); what breaks over one stream is no matter of the others.

    Raises what the database raises.
    """
    together: dict[StreamId, tuple[Place, list[AccountId]]] = {}
    for place, account in asked:
        together.setdefault(place.stream, (place, []))[1].append(account)
    judged: dict[StreamId, dict[AccountId, Judgement] | Exception] = {}
    for stream, (place, some) in together.items():
        try:
            judged[stream] = judge_all(connection, bench, place, some, now)
        except FAILURES:
            raise
        except Exception as error:
            judged[stream] = error
    found = [(judged[place.stream], account) for place, account in asked]
    return [outcome if isinstance(outcome, Exception) else outcome[account] for outcome, account in found]


def judge_by(
    connection: sa.Connection, bench: Bench, place: Place, rule: Rule, account: AccountId, now: int
) -> Finding:
    """Return what a rule says of an account in a stream, at `now` (epoch ms)."""
    row, proofs = _rows(connection, place, [account]).get(account), _proofs(connection, [account], now)
    facts, _ = _facts(row, account in place.tickets, proofs.get(account, ()))
    about_tips = [clause for clause in clauses(rule) if isinstance(clause, TipsTotal | SingleTip)]
    tips = {clause: _tipped(connection, bench, place.owner, account, clause, now) for clause in about_tips}
    return evaluate(rule, replace(facts, tips=tips), now)


def judge_streamer(connection: sa.Connection, bench: Bench, owner: AccountId, now: int) -> Judgement:
    """Judge whether an account may stream: not suspended, and all proven that the node demands."""
    row = _rows(connection, Place(StreamId(""), owner, frozenset()), [owner]).get(owner)
    facts, denials = _facts(row, ticket=False, proofs=_proofs(connection, [owner], now).get(owner, ()))
    return judge(facts, denials, StreamRules(), bench.everywhere, now)


def facts_about(connection: sa.Connection, account: AccountId, now: int) -> Facts:
    """Return what is known of an account itself, at `now` (epoch ms)."""
    row = _rows(connection, Place(StreamId(""), account, frozenset()), [account]).get(account)
    return _facts(row, ticket=False, proofs=_proofs(connection, [account], now).get(account, ()))[0]


def _about_accounts() -> sa.Select[Any]:
    me = accounts.c.id
    owner: sa.BindParameter[str] = sa.bindparam("owner")
    blocked = sa.or_(
        sa.and_(blocks.c.blocker == owner, blocks.c.blocked == me),
        sa.and_(blocks.c.blocker == me, blocks.c.blocked == owner),
    )
    following = sa.and_(follows.c.follower == me, follows.c.streamer == owner)
    subscribed = sa.and_(subscriptions.c.subscriber == me, subscriptions.c.streamer == owner)
    invited = sa.and_(
        invite_uses.c.account == me,
        invite_uses.c.state == "granted",
        invites.c.id == invite_uses.c.invite,
        invites.c.stream == sa.bindparam("stream"),
    )
    joined = accounts.outerjoin(follows, following).outerjoin(subscriptions, subscribed)
    joined = joined.outerjoin(account_facts, account_facts.c.account == me)
    statement = sa.select(
        me,
        accounts.c.created_at,
        follows.c.since.label("follows_since"),
        subscriptions.c.tier.label("sub_tier"),
        subscriptions.c.expires_at.label("sub_until"),
        account_facts.c.suspended,
        account_facts.c.tier.label("account_tier"),
        sa.exists().where(blocked).label("blocked"),
        sa.exists().where(invited).label("invited"),
    ).select_from(joined)
    return statement.where(me.in_(sa.bindparam("some", expanding=True)))


# Made once: to make and look up such a statement anew costs ten times what the database needs to answer it.
_RULES = sa.select(stream_rules).where(stream_rules.c.stream == sa.bindparam("of"))
_ABOUT = _about_accounts()
_PROOFS = sa.select(kyf_proofs).where(
    kyf_proofs.c.account.in_(sa.bindparam("some", expanding=True)), kyf_proofs.c.expires_at > sa.bindparam("now")
)


def _rows(connection: sa.Connection, place: Place, some: Sequence[AccountId]) -> dict[AccountId, sa.Row[Any]]:
    asked = {"owner": place.owner, "stream": place.stream, "some": list(some)}
    return {AccountId(row.id): row for row in connection.execute(_ABOUT, asked)}


def _proofs(connection: sa.Connection, some: Sequence[AccountId], now: int) -> dict[AccountId, tuple[Proof, ...]]:
    found: dict[AccountId, tuple[Proof, ...]] = {}
    for row in connection.execute(_PROOFS, {"some": list(some), "now": now}):
        account = AccountId(row.account)
        proof = Proof(row.expires_at, row.age_over, bool(row.verified), row.region)
        found[account] = (*found.get(account, ()), proof)
    return found


def _facts(row: sa.Row[Any] | None, ticket: bool, proofs: tuple[Proof, ...]) -> tuple[Facts, Denials]:
    if row is None:  # an administrator, or an account that is gone
        return Facts(ticket=ticket), Denials()
    facts = Facts(
        sub_tier=row.sub_tier or 0,
        sub_until=NEVER if row.sub_until is None else row.sub_until,
        follows_since=row.follows_since,
        invited=bool(row.invited),
        ticket=ticket,
        proofs=proofs,
        account_tier=row.account_tier or 0,
        account_since=row.created_at,
    )
    return facts, Denials(blocked=bool(row.blocked), suspended=bool(row.suspended))


def _tipped(
    connection: sa.Connection, bench: Bench, owner: AccountId, account: AccountId, clause: TipClause, now: int
) -> int:
    ask = bench.tips.total if isinstance(clause, TipsTotal) else bench.tips.largest
    since = None if clause.within_s is None else now - clause.within_s * 1000
    return ask(connection, account, owner, clause.at_least.asset, since)

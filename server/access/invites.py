"""Invitations to a private stream: made, used, approved and taken back.

Functions of an open connection; `now` is epoch ms. What an invitation says is known only to who made it and to whom he
gave it: the database holds a hash. It needs no salt and no slow hash, for nobody guesses 192 random bits.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

import sqlalchemy as sa

from server.access.tables import blocks, invite_uses, invites
from server.database.tables import accounts, streams
from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused

CODE_BYTES = 24
MAX_USES = 99_999
MAX_INVITES = 200  # of one stream; a streamer keeps no longer list apart


class Invitation(NamedTuple):
    """An invitation without what it says; times are epoch ms."""

    id: str
    created_at: int
    expires_at: int
    max_uses: int
    uses: int
    needs_approval: bool
    revoked_at: int | None


class Use(NamedTuple):
    """Who used an invitation; `state` is granted, pending, denied or revoked."""

    id: AccountId
    name: str
    state: str
    at: int


class Redeemed(NamedTuple):
    """What an invitation led to: granted, or pending until the streamer approves."""

    stream: StreamId
    owner: AccountId
    state: str
    invite: str


def create(
    connection: sa.Connection, stream: StreamId, *, max_uses: int, needs_approval: bool, now: int, expires_at: int
) -> tuple[Invitation, str]:
    """Make an invitation; returns it and what it says, which can't be read back. Raises Refused("too_many_invites")."""
    count = sa.select(sa.func.count()).select_from(invites).where(invites.c.stream == stream)
    if connection.execute(count).scalar_one() >= MAX_INVITES:
        raise Refused("too_many_invites")
    code = secrets.token_urlsafe(CODE_BYTES)
    made = Invitation(f"i_{secrets.token_hex(8)}", now, expires_at, max_uses, 0, needs_approval, None)
    connection.execute(sa.insert(invites).values(**made._asdict(), stream=stream, code=_hash(code)))
    return made, code


def list_of(connection: sa.Connection, stream: StreamId) -> list[Invitation]:
    """Return all invitations to a stream, oldest first."""
    of = invites.c
    columns = (of.id, of.created_at, of.expires_at, of.max_uses, of.uses, of.needs_approval, of.revoked_at)
    rows = connection.execute(sa.select(*columns).where(of.stream == stream).order_by(of.created_at, of.id))
    return [Invitation(*row) for row in rows]


def redeem(connection: sa.Connection, account: AccountId, code: str, now: int) -> Redeemed:
    """Use an invitation. Who used it before, perhaps on another device, takes no second use.

    Raises Refused("invite_unknown") for all that is none, expired, used up or revoked, and when one of the two blocked
    the other: nobody learns which.
    """
    owner = streams.c.owner
    apart = sa.exists().where(
        sa.or_(
            sa.and_(blocks.c.blocker == owner, blocks.c.blocked == account),
            sa.and_(blocks.c.blocker == account, blocks.c.blocked == owner),
        )
    )
    used = sa.and_(invite_uses.c.invite == invites.c.id, invite_uses.c.account == account)
    joined = invites.join(streams, streams.c.id == invites.c.stream).outerjoin(invite_uses, used)
    columns = (invites.c.id, invites.c.stream, owner, invites.c.needs_approval, invite_uses.c.state)
    statement = sa.select(*columns).select_from(joined)
    found = connection.execute(
        statement.where(invites.c.code == _hash(code), streams.c.ended.is_(None), ~apart)
    ).one_or_none()
    if found is None or found.state in ("denied", "revoked"):
        raise Refused("invite_unknown")
    if found.state is None:
        _take_use(connection, found.id, now)
        state = "pending" if found.needs_approval else "granted"
        connection.execute(sa.insert(invite_uses).values(invite=found.id, account=account, state=state, at=now))
    else:
        state = found.state
    return Redeemed(StreamId(found.stream), AccountId(found.owner), state, found.id)


def _take_use(connection: sa.Connection, invite: str, now: int) -> None:
    of = invites.c
    usable = sa.and_(of.id == invite, of.uses < of.max_uses, of.expires_at > now, of.revoked_at.is_(None))
    if connection.execute(sa.update(invites).where(usable).values(uses=of.uses + 1)).rowcount != 1:
        raise Refused("invite_unknown")


def decide(connection: sa.Connection, invite: str, account: AccountId, approved: bool, now: int) -> None:
    """Let someone in who waits for approval, or not, and then the use comes back. Raises Refused("request_unknown")."""
    waits = sa.and_(invite_uses.c.invite == invite, invite_uses.c.account == account, invite_uses.c.state == "pending")
    state = "granted" if approved else "denied"
    if connection.execute(sa.update(invite_uses).where(waits).values(state=state, at=now)).rowcount != 1:
        raise Refused("request_unknown")
    if not approved:
        connection.execute(sa.update(invites).where(invites.c.id == invite).values(uses=invites.c.uses - 1))


def revoke(connection: sa.Connection, invite: str, eject: bool, now: int) -> list[AccountId]:
    """Let nobody new in; with `eject`, those whom it let in neither. Returns whom that concerns.

    Who waits for approval waits for nothing any more.
    """
    unrevoked = sa.and_(invites.c.id == invite, invites.c.revoked_at.is_(None))
    connection.execute(sa.update(invites).where(unrevoked).values(revoked_at=now))
    states = ("pending", "granted") if eject else ("pending",)
    concerned = sa.and_(invite_uses.c.invite == invite, invite_uses.c.state.in_(states))
    gone = connection.execute(sa.select(invite_uses.c.account).where(concerned)).scalars()
    found = [AccountId(account) for account in gone]
    connection.execute(sa.update(invite_uses).where(concerned).values(state="revoked", at=now))
    return found


def uses(connection: sa.Connection, invite: str, after: str, limit: int) -> list[Use]:
    """Return who used an invitation, by id."""
    of = invite_uses.c
    joined = sa.select(accounts.c.id, accounts.c.name, of.state, of.at).join(accounts, accounts.c.id == of.account)
    rows = connection.execute(joined.where(of.invite == invite, of.account > after).order_by(of.account).limit(limit))
    return [Use(AccountId(row.id), row.name, row.state, row.at) for row in rows]


def stream_of(connection: sa.Connection, invite: str) -> StreamId:
    """Return where an invitation leads; raises Refused("invite_unknown")."""
    stream = connection.execute(sa.select(invites.c.stream).where(invites.c.id == invite)).scalar_one_or_none()
    if stream is None:
        raise Refused("invite_unknown")
    return StreamId(stream)


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode(errors="surrogatepass")).hexdigest()

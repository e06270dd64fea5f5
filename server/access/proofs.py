"""Keeps what people have proven: a nonce asks for a signed claim, which is taken once, and only its facts stay."""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

import sqlalchemy as sa

from server.access.claims import Claim, Issuers
from server.access.service import Access
from server.access.tables import kyf_nonces, kyf_proofs, kyf_seen
from server.database.store import Database
from server.database.upsert import insert_into
from signalling.identifiers import AccountId, Actor
from signalling.ports import Clock
from signalling.refusals import Refused
from signalling.rooms.rooms import Rooms
from signalling.wire.proofs import KyfDenied, KyfGranted

NONCE_BYTES = 24
NONCE_MS = 3600 * 1000  # to show a card to a camera, or to wait for a person who looks at it
MAX_NONCES = 16  # open ones of an account; the oldest goes first


class Proven(NamedTuple):
    """What an issuer vouches for, for one account; times are epoch ms."""

    issuer: str
    age_over: int
    verified: bool
    region: str | None
    verified_at: int
    expires_at: int


class Proofs:
    """The proofs of a node's accounts; raises Refused and StoreFailed."""

    def __init__(self, store: Database, clock: Clock, access: Access, rooms: Rooms, issuers: Issuers) -> None:
        self._store, self._clock, self._access, self._rooms = store, clock, access, rooms
        self._issuers = issuers

    async def nonce(self, actor: Actor) -> tuple[str, int]:
        """Return what a claim for this account must hold, and until when (epoch ms)."""
        nonce, now = secrets.token_urlsafe(NONCE_BYTES), self._clock.wall_ms()
        await self._store.write(_add_nonce, actor.account, _hash(nonce), now)
        return nonce, now + NONCE_MS

    async def prove(self, actor: Actor, token: str) -> Proven:
        """Take a signed claim about an account's person, who passes at once wherever he waits.

        Raises Refused (claim_invalid, proof_replayed, subject_taken).
        """
        claim = self._issuers.read_untrusted(token)
        now = self._clock.wall_ms()
        proven = await self._store.write(_take, actor.account, claim, now)
        await self._access.changed_about(actor.account)
        if claim.age_over or claim.verified or claim.region is not None:
            told = KyfGranted(server_now=now, issuer=claim.issuer, expires_at=claim.expires_at)
            self._rooms.tell(actor.account, told)
        else:
            self._rooms.tell(actor.account, KyfDenied(server_now=now, issuer=claim.issuer))
        return proven

    async def of(self, actor: Actor) -> list[Proven]:
        """Return what is known of who asks."""
        return await self._store.read(_proven, actor.account)


def _add_nonce(connection: sa.Connection, account: AccountId, nonce: str, now: int) -> None:
    of = kyf_nonces.c
    mine = sa.select(of.nonce).where(of.account == account).order_by(of.expires_at.desc()).offset(MAX_NONCES - 1)
    old = sa.or_(of.expires_at <= now, of.nonce.in_(mine))
    connection.execute(sa.delete(kyf_nonces).where(of.account == account, old))
    connection.execute(sa.insert(kyf_nonces).values(nonce=nonce, account=account, expires_at=now + NONCE_MS))


def _take(connection: sa.Connection, account: AccountId, claim: Claim, now: int) -> Proven:
    connection.execute(sa.delete(kyf_seen).where(kyf_seen.c.expires_at <= now))
    seen = insert_into(connection, kyf_seen).values(issuer=claim.issuer, jti=claim.jti, expires_at=claim.expires_at)
    if connection.execute(seen.on_conflict_do_nothing()).rowcount != 1:
        raise Refused("proof_replayed")
    of = kyf_nonces.c
    asked = sa.and_(of.nonce == _hash(claim.nonce), of.account == account, of.expires_at > now)
    if connection.execute(sa.delete(kyf_nonces).where(asked)).rowcount != 1:
        raise Refused("claim_invalid", "the claim's nonce was not given to this account, or too long ago")
    same = sa.select(kyf_proofs.c.account).where(
        kyf_proofs.c.issuer == claim.issuer, kyf_proofs.c.subject == claim.subject, kyf_proofs.c.account != account
    )
    if connection.execute(same).first() is not None:
        raise Refused("subject_taken")
    proven = Proven(claim.issuer, claim.age_over, claim.verified, claim.region, claim.issued_at, claim.expires_at)
    values = {"account": account, "subject": claim.subject, **proven._asdict()}
    statement = insert_into(connection, kyf_proofs).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["account", "issuer"], set_=values))
    return proven


def _proven(connection: sa.Connection, account: AccountId) -> list[Proven]:
    of = kyf_proofs.c
    columns = (of.issuer, of.age_over, of.verified, of.region, of.verified_at, of.expires_at)
    return [Proven(*row) for row in connection.execute(sa.select(*columns).where(of.account == account))]


def _hash(nonce: str) -> str:
    return hashlib.sha256(nonce.encode(errors="surrogatepass")).hexdigest()

"""A streamer asks a viewer for named facts, for a purpose; the viewer consents, refuses or lets it lapse.

A grant is for one streamer and one purpose, ends by itself, can be taken back, and every look is logged.

Functions of an open connection; `now` is epoch ms.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal, NamedTuple

import msgspec
import sqlalchemy as sa

from server.access.relations import apart_from, find_visible
from server.access.tables import disclosure_log, disclosures, kyf_proofs
from server.database.tables import accounts
from signalling.identifiers import AccountId
from signalling.refusals import Refused

Field = Literal["age_over", "verified", "region", "account_since"]
MAX_PENDING = 20  # of one streamer; who asks more people at a time does not mean any of them


class Disclosure(NamedTuple):
    """A request and what became of it; times are epoch ms."""

    id: str
    streamer: AccountId
    streamer_name: str
    viewer: AccountId
    viewer_name: str
    fields: tuple[Field, ...]
    purpose: str
    hold: str | None
    state: str
    asked_at: int
    deadline: int
    keep_until: int | None


def ask(
    connection: sa.Connection,
    streamer: AccountId,
    name: str,
    *,
    fields: tuple[Field, ...],
    purpose: str,
    hold: str | None,
    now: int,
    deadline: int,
    keep_s: int,
) -> Disclosure:
    """Ask somebody. Raises Refused (account_unknown, request_exists, too_many_requests)."""
    viewer = find_visible(connection, streamer, name)
    if viewer == streamer:
        raise Refused("account_unknown", f"nobody is called {name!r} here")
    of = disclosures.c
    pending = sa.select(of.viewer).where(of.streamer == streamer, of.state == "pending", of.deadline > now)
    asked = connection.execute(pending).scalars().all()
    if viewer in asked:
        raise Refused("request_exists")
    if len(asked) >= MAX_PENDING:
        raise Refused("too_many_requests")
    id = f"d_{secrets.token_hex(8)}"
    values = {
        "id": id,
        "streamer": streamer,
        "viewer": viewer,
        "fields": msgspec.json.encode(fields).decode(),
        "purpose": purpose,
        "hold": hold,
        "state": "pending",
        "asked_at": now,
        "deadline": deadline,
        "keep_s": keep_s,
    }
    connection.execute(sa.insert(disclosures).values(values))
    _log(connection, id, streamer, "asked", now)
    return find(connection, id, streamer)


def answer(connection: sa.Connection, id: str, viewer: AccountId, consents: bool, now: int) -> Disclosure:
    """Consent or refuse. Raises Refused (disclosure_unknown, request_expired)."""
    found = find(connection, id, viewer)
    if found.viewer != viewer:
        raise Refused("disclosure_unknown")
    of = disclosures.c
    open_one = sa.and_(of.id == id, of.state == "pending", of.deadline > now)
    state = "granted" if consents else "refused"
    until = now + of.keep_s * 1000 if consents else None
    if connection.execute(sa.update(disclosures).where(open_one).values(state=state, keep_until=until)).rowcount != 1:
        raise Refused("request_expired")
    _log(connection, id, viewer, state, now)
    return find(connection, id, viewer)


def revoke(connection: sa.Connection, id: str, viewer: AccountId, now: int) -> Disclosure:
    """Take a consent back: nobody looks any more. Raises Refused("disclosure_unknown")."""
    of = disclosures.c
    granted = sa.and_(of.id == id, of.viewer == viewer, of.state == "granted")
    if connection.execute(sa.update(disclosures).where(granted).values(state="revoked")).rowcount != 1:
        raise Refused("disclosure_unknown")
    _log(connection, id, viewer, "revoked", now)
    return find(connection, id, viewer)


def look(connection: sa.Connection, id: str, streamer: AccountId, now: int) -> dict[str, object]:
    """Return the facts that were granted, as they are now, and log it. Raises Refused("disclosure_unknown")."""
    found = find(connection, id, streamer)
    ended = found.keep_until is None or now >= found.keep_until
    apart = streamer in apart_from(connection, found.viewer)
    if found.streamer != streamer or found.state != "granted" or ended or apart:
        raise Refused("disclosure_unknown", "nothing was disclosed, or no longer is")
    _log(connection, id, streamer, "looked", now)
    facts = _facts(connection, found.viewer, now)
    return {field: facts[field] for field in found.fields}


def lapse(connection: sa.Connection, now: int) -> list[Disclosure]:
    """Let all lapse that were not answered in time, and return them."""
    of = disclosures.c
    late = sa.and_(of.state == "pending", of.deadline <= now)
    found = [_shown(row) for row in connection.execute(_select().where(late))]
    for one in found:
        connection.execute(sa.update(disclosures).where(of.id == one.id).values(state="lapsed"))
        _log(connection, one.id, None, "lapsed", now)
    return found


def unsettled(connection: sa.Connection) -> list[tuple[str, str]]:
    """Return the disclosures that came to nothing while money still waits for them: (id, hold)."""
    of = disclosures.c
    over = sa.select(of.id, of.hold).where(of.state.in_(("refused", "lapsed")), of.hold.is_not(None))
    return [(row.id, row.hold) for row in connection.execute(over)]


def note_settled(connection: sa.Connection, id: str) -> None:
    """Write down that no money waits for a disclosure any more."""
    connection.execute(sa.update(disclosures).where(disclosures.c.id == id).values(hold=None))


def next_deadline(connection: sa.Connection) -> int | None:
    """Return when the next request lapses."""
    pending = sa.select(sa.func.min(disclosures.c.deadline)).where(disclosures.c.state == "pending")
    found: int | None = connection.execute(pending).scalar_one()
    return found


def find(connection: sa.Connection, id: str, account: AccountId) -> Disclosure:
    """Return a request that one of its two asks for; raises Refused("disclosure_unknown")."""
    mine = sa.or_(disclosures.c.streamer == account, disclosures.c.viewer == account)
    row = connection.execute(_select().where(disclosures.c.id == id, mine)).one_or_none()
    if row is None:
        raise Refused("disclosure_unknown")
    return _shown(row)


def list_of(connection: sa.Connection, account: AccountId, after: str, limit: int) -> list[Disclosure]:
    """Return what somebody asked and was asked for, by id."""
    mine = sa.or_(disclosures.c.streamer == account, disclosures.c.viewer == account)
    some = _select().where(mine, disclosures.c.id > after).order_by(disclosures.c.id).limit(limit)
    return [_shown(row) for row in connection.execute(some)]


def _select() -> sa.Select[Any]:
    of, streamer, viewer = disclosures.c, accounts.alias(), accounts.alias()
    names = streamer.c.name.label("streamer_name"), viewer.c.name.label("viewer_name")
    who, what = (of.id, of.streamer, of.viewer), (of.fields, of.purpose, of.hold, of.state)
    when = (of.asked_at, of.deadline, of.keep_until)
    joined = disclosures.join(streamer, streamer.c.id == of.streamer).join(viewer, viewer.c.id == of.viewer)
    return sa.select(*names, *who, *what, *when).select_from(joined)


def _shown(row: sa.Row[Any]) -> Disclosure:
    values = dict(row._mapping)
    values["fields"] = msgspec.json.decode(values["fields"], type=tuple[Field, ...])
    return Disclosure(**values)


def _facts(connection: sa.Connection, viewer: AccountId, now: int) -> dict[str, object]:
    of = kyf_proofs.c
    valid = sa.select(kyf_proofs).where(of.account == viewer, of.expires_at > now).order_by(of.verified_at)
    proofs = connection.execute(valid).all()
    since = connection.execute(sa.select(accounts.c.created_at).where(accounts.c.id == viewer)).scalar_one_or_none()
    regions = {proof.region for proof in proofs if proof.region is not None}
    return {
        "age_over": max((proof.age_over for proof in proofs), default=0),
        "verified": any(proof.verified for proof in proofs),
        "region": regions.pop() if len(regions) == 1 else None,
        "account_since": since,
    }


def _log(connection: sa.Connection, id: str, account: AccountId | None, did: str, now: int) -> None:
    connection.execute(sa.insert(disclosure_log).values(disclosure=id, account=account, did=did, at=now))

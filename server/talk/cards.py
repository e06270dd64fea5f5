"""Cards: what a message shows of something else (a tip, a call, a stream), brought up to date in place."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.talk.showing import OWN

_SET = Prepared("UPDATE messages SET card = :card WHERE conversation = :conversation AND seq = :seq")


def bring_up_to_date(
    connection: sa.Connection, conversation: str, seq: int, card: object, now_ms: int, only: str | None = None
) -> None:
    """Show on a message what its card says now, and tell of it; `only` one account where it is withheld from others.

    A message that is kept no longer stays as it is.
    """
    if not _SET(connection, card=msgspec.json.encode(card).decode(), conversation=conversation, seq=seq).rowcount:
        return
    fields: dict[str, object] = {"seq": seq} if only is None else {"seq": seq, OWN: True}
    accounts, party = ((), conversation) if only is None else ((only,), "")
    eventlog.append(connection, Happened(conversation, "message.changed", now_ms, fields, accounts, party))

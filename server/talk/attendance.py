"""Who is here just now: told to those who watch, some changes at a time, and noted down as people come and go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog
import trio

from server.database.store import Database, StoreFailed
from server.talk import presence
from server.talk.presence import Pair
from signalling.identifiers import AccountId
from signalling.messenger.views import PresencePage, PresenceView
from signalling.ports import Clock
from signalling.rooms.rooms import Rooms
from signalling.sessions.session import Session
from signalling.wire.messages import Encoded
from signalling.wire.presence import PresenceShown

ROUND_S = 2.0  # how late a change is told, and how often at most
GRACE_NS = 10_000_000_000  # without a connection before somebody is away: a change of network takes less
NOTED_EVERY = 5  # rounds
PAIRS_AT_ONCE = 2_000  # looked up in one read: some ten milliseconds

log = structlog.get_logger("presence")


class Attendance:
    """Knows who watches whom; `run` it to have them told. Raises StoreFailed."""

    def __init__(self, store: Database, clock: Clock, rooms: Rooms) -> None:
        self._store, self._clock, self._rooms = store, clock, rooms
        self._known: dict[AccountId, bool] = {}
        self._noted: set[AccountId] = set()
        self.told = self.failures = 0

    def counters(self) -> dict[str, int]:
        """How many people are watched, and how often it was told how one is, by name."""
        return {"people_watched": len(self._known), "presence_told": self.told, "presence_failures": self.failures}

    async def run(self) -> None:
        """Tell of changes until cancelled."""
        rounds = 0
        while True:
            await trio.sleep(ROUND_S)
            rounds += 1
            try:
                await self._tell_changes()
                if rounds % NOTED_EVERY == 0:
                    await self._note()
            except StoreFailed as failure:
                self.failures += 1
                log.warning("presence_unread", reason=str(failure))

    async def watch(self, session: Session, accounts: Sequence[AccountId]) -> PresencePage:
        """Tell a session how people are now, and from now on when it changes."""
        session.watched = frozenset(accounts)
        views = await self._views((session.actor.account, account) for account in session.watched)
        for account in session.watched:
            self._known.setdefault(account, self._is_here(account))
        return PresencePage(tuple(views[session.actor.account, account] for account in dict.fromkeys(accounts)))

    async def here(self, viewer: AccountId, accounts: Sequence[AccountId]) -> set[AccountId]:
        """Return those of some accounts of whom an account sees that they are here."""
        views = await self._views((viewer, account) for account in accounts)
        return {account for (_, account), view in views.items() if view.online}

    async def _tell_changes(self) -> None:
        stirred, self._rooms.sessions.stirred = self._rooms.sessions.stirred, set()
        watching = [session for session in self._rooms.sessions.all() if session.watched]
        watched = {account for session in watching for account in session.watched}
        now = {account: self._is_here(account) for account in watched}
        changed = {account for account in watched if now[account] != self._known.get(account)} | stirred
        # Who watches may be who blocked, or was: then all that they see may be other than before.
        told = [
            (session, session.watched if session.actor.account in stirred else session.watched & changed)
            for session in watching
        ]
        try:
            views = await self._views(
                (session.actor.account, account) for session, people in told for account in people
            )
        except StoreFailed:
            self._rooms.sessions.stirred |= stirred  # else who has been blocked would go on being shown who is here
            raise
        self._known = now
        for session, people in told:
            shown = tuple(views[session.actor.account, account] for account in sorted(people & session.watched))
            if shown:
                self.told += len(shown)
                session.show(Encoded(PresenceShown(server_now=self._clock.wall_ms(), people=shown)))

    async def _views(self, pairs: Iterable[Pair]) -> dict[Pair, PresenceView]:
        asked = list(dict.fromkeys(pairs))
        allowed: dict[Pair, int | None] = {}
        for start in range(0, len(asked), PAIRS_AT_ONCE):
            allowed |= await self._store.read(presence.shown, asked[start : start + PAIRS_AT_ONCE])
        return {pair: self._view(pair, allowed) for pair in asked}

    def _view(self, pair: Pair, allowed: dict[Pair, int | None]) -> PresenceView:
        account = pair[1]
        if pair not in allowed:
            return PresenceView(account)
        return PresenceView(account, self._is_here(account), allowed[pair])

    async def _note(self) -> None:
        here = self._rooms.sessions.here(GRACE_NS)
        moved = here ^ self._noted
        if moved:
            await self._store.write(presence.note, moved, self._clock.wall_ms())
        self._noted = here

    def _is_here(self, account: AccountId) -> bool:
        return self._rooms.sessions.is_here(account, GRACE_NS)

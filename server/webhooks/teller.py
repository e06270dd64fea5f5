"""Tells endpoints what happened: a loop for each, so that a slow one delays no other.

The place of an endpoint in the log is its outbox. It moves on only after the endpoint took an event, so that a crash at
any point tells one event again rather than none. Receivers know a repeated one by its id (`webhook-id`).
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import msgspec
import sqlalchemy as sa
import structlog
import trio

from server.config import WebhookSettings
from server.database.store import Database, StoreFailed
from server.events import eventlog
from server.events.eventlog import LoggedEvent, Span
from server.money.webhooks import sign_with
from server.webhooks import places
from server.webhooks.post import Poster
from server.webhooks.schedule import Failed, Progress, after, wants
from signalling.refusals import Refused

LOOK_S = 1.0  # how late an endpoint is tried again, or after it was enabled
IDLE_S = 30.0  # the log wakes who waits for it
RETRY_S = 1.0  # a failing database is asked again so often
BATCH = 100  # events read at once
MAX_BODY = 20_000  # bytes; Standard Webhooks asks for less than 20 kB

log = structlog.get_logger("webhooks")


class WaitBeyond(Protocol):
    """Returns when the log may have grown beyond an id, for an account, or for all (None)."""

    async def __call__(self, position: int, account: str | None) -> None:
        """Wait."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is posted. `data` is left out where all would be too large: `truncated`, and the API has the event."""

    type: str
    timestamp: str
    id: int
    subject: str
    data: Mapping[str, object] | None = None
    truncated: bool = False


class WebhookState(msgspec.Struct, frozen=True):
    """How an endpoint stands: `state` is active, waiting (for its next try) or disabled; `lag` in events of the log."""

    name: str
    url: str
    events: tuple[str, ...]
    state: str
    position: int
    lag: int
    attempts: int
    next_at: int | None
    disabled: str | None
    failure: str | None
    failed_at: int | None
    delivered_at: int | None


class Teller:
    """All endpoints of a node, which is `holder` of those that it tells. Raises Refused and StoreFailed."""

    def __init__(
        self,
        store: Database,
        endpoints: Sequence[WebhookSettings],
        wait_beyond: WaitBeyond,
        wall_ms: Callable[[], int],
        holder: str,
    ) -> None:
        self._store, self._wall_ms, self._holder = store, wall_ms, holder
        self._wait_beyond = wait_beyond
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._jitter = random.Random()
        self.delivered = self.failed = self.disabled = self.gaps = self.faults = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell until cancelled; a new endpoint hears of everything that happens once this has started."""
        now_ms = self._wall_ms()
        for name in self._endpoints:
            await self._store.write(places.claim, name, self._holder, now_ms)
        async with trio.open_nursery() as nursery:
            for endpoint in self._endpoints.values():
                nursery.start_soon(self._look_after, endpoint)
            task_status.started()

    def counters(self) -> dict[str, int]:
        """How endpoints took what they were told, by name."""
        return {
            "webhooks_delivered": self.delivered,
            "webhooks_failed": self.failed,
            "webhooks_disabled": self.disabled,
            "webhook_gaps": self.gaps,
            "webhook_faults": self.faults,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The endpoints of the configuration."""
        return tuple(self._endpoints)

    async def states(self) -> list[WebhookState]:
        """Return how all endpoints stand."""
        return [await self._state(endpoint) for endpoint in self._endpoints.values()]

    async def enable(self, name: str) -> WebhookState:
        """Have an endpoint tried soon, from where it stopped; raises Refused("webhook_unknown")."""
        if name not in self._endpoints:
            raise Refused("webhook_unknown")
        await self._store.write(places.enable, name)
        return await self._state(self._endpoints[name])

    # -- one endpoint --------------------------------------------------------------------------------------------------

    async def _look_after(self, endpoint: WebhookSettings) -> None:
        poster = Poster(endpoint.url, private=endpoint.private)
        try:
            while True:
                try:
                    wait_s = await self._tell_some(endpoint, poster)
                except Exception as fault:
                    # Nothing is lost: its place is kept, and whatever broke here must not end the node.
                    self.faults += 1
                    wait_s = RETRY_S
                    if isinstance(fault, StoreFailed):
                        log.warning("webhook_waits", webhook=endpoint.name, reason=str(fault))
                    else:
                        log.exception("webhook_fault", webhook=endpoint.name)
                await trio.sleep(wait_s)
        finally:
            with trio.move_on_after(1, shield=True):
                await poster.aclose()

    async def _tell_some(self, endpoint: WebhookSettings, poster: Poster) -> float:
        """Tell what is due of the next events; returns in how many seconds to look again."""
        now_ms = self._wall_ms()
        progress, span, events = await self._store.read(_read, endpoint.name)
        if progress.disabled is not None:
            return LOOK_S
        if progress.next_at > now_ms:
            return min(LOOK_S, (progress.next_at - now_ms) / 1000)
        if not events:
            with trio.move_on_after(IDLE_S):
                await self._wait_beyond(span.head, None)
            return 0
        if await self._store.write(places.claim, endpoint.name, self._holder, now_ms) != progress:
            return LOOK_S  # another node tells it
        unsaved = progress
        if progress.position < span.dropped_to:
            self.gaps += 1
            log.error("webhook_gap", webhook=endpoint.name, after=progress.position, dropped_to=span.dropped_to)
            unsaved = replace(progress, position=span.dropped_to)
        for logged in events:
            if not wants(endpoint.events, logged.event.type):
                unsaved = replace(unsaved, position=logged.id)
                continue
            unsaved = await self._attempt(endpoint, poster, unsaved, logged)
            if not await self._save(endpoint, unsaved) or unsaved.position != logged.id:
                return 0
        await self._save(endpoint, unsaved)
        return 0

    async def _attempt(
        self, endpoint: WebhookSettings, poster: Poster, progress: Progress, logged: LoggedEvent
    ) -> Progress:
        body, now_ms = encode(logged), self._wall_ms()
        headers = sign_with(endpoint.secrets, str(logged.id), body, dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC))
        outcome = await poster.post(body, headers, now_ms)
        told = after(progress, logged.id, outcome, self._wall_ms(), self._jitter.random())
        if isinstance(outcome, Failed):
            self.failed += 1
            log.warning("webhook_failed", webhook=endpoint.name, event_id=logged.id, reason=outcome.reason)
        else:
            self.delivered += 1
        if told.disabled is not None:
            self.disabled += 1
            log.error("webhook_disabled", webhook=endpoint.name, reason=told.disabled)
        return told

    async def _save(self, endpoint: WebhookSettings, progress: Progress) -> bool:
        return await self._store.write(places.save, endpoint.name, self._holder, progress, self._wall_ms())

    async def _state(self, endpoint: WebhookSettings) -> WebhookState:
        progress = await self._store.read(places.find, endpoint.name)
        span = await self._store.read(eventlog.span)
        progress = Progress(span.head) if progress is None else progress
        state = "active"
        if progress.disabled is not None:
            state = "disabled"
        elif progress.attempts:
            state = "waiting"
        return WebhookState(
            endpoint.name,
            endpoint.url.partition("?")[0],
            endpoint.events,
            state,
            progress.position,
            max(0, span.head - progress.position),
            progress.attempts,
            progress.next_at or None,
            progress.disabled,
            progress.failure,
            progress.failed_at,
            progress.delivered_at,
        )


def encode(logged: LoggedEvent) -> bytes:
    """Write an event as it is posted; always below MAX_BODY bytes."""
    event = logged.event
    timestamp = dt.datetime.fromtimestamp(event.at / 1000, dt.UTC).isoformat(timespec="milliseconds")
    message = Message(
        type=event.type, timestamp=timestamp, id=logged.id, subject=event.subject, data=dict(event.fields)
    )
    body = msgspec.json.encode(message)
    if len(body) >= MAX_BODY:
        return msgspec.json.encode(msgspec.structs.replace(message, data=None, truncated=True))
    return body


def _read(connection: sa.Connection, name: str) -> tuple[Progress, Span, list[LoggedEvent]]:
    span, progress = eventlog.span(connection), places.find(connection, name)
    assert progress is not None, "endpoints are claimed before they are told"
    return progress, span, eventlog.read_from(connection, progress.position, BATCH)

"""Gathers the messages that come within a few milliseconds, so that they are looked up and written in one go.

What is written together shares its statements, its pages and its flush to the disk. Nothing waits while few write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import structlog
import trio

from server.database.store import Database
from server.talk import posting
from server.talk.posting import Draft, Posted

GATHER_S = 0.012  # from one writing to the next; a tenth of what is promised to who hears them
FEW = 4  # messages that came together: gathering more would save less than it delays
MAX_TOGETHER = 256  # in one go: some 20 ms of the writer
MAX_WAITING = 10_000  # messages; a disk that is so far behind is broken

Done = Callable[[Posted | Exception], None]
log = structlog.get_logger("messenger")


class _Mail(NamedTuple):
    """A message that is to be written, and who is to be told."""

    draft: Draft
    done: Done


class Postbox:
    """Messages on their way to a store; `run` it to have them written."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._waiting: list[_Mail] = []
        self._came = trio.Event()
        self._open = False
        self.batches = self.gathered = 0

    @property
    def takes(self) -> bool:
        """Whether a message can be posted just now."""
        return self._open and len(self._waiting) < MAX_WAITING

    def post(self, draft: Draft, done: Done) -> None:
        """Have a message written, in the order of coming, and `done` called with what became of it."""
        assert self.takes, "who posts has asked"
        self._waiting.append(_Mail(draft, done))
        self._came.set()

    async def run(self) -> None:
        """Write what comes, until cancelled; where the database gathers nothing, nothing is taken."""
        self._open = self._store.gathers
        try:
            while True:
                await self._came.wait()
                began = trio.current_time()
                mails, self._waiting = self._waiting[:MAX_TOGETHER], self._waiting[MAX_TOGETHER:]
                if not self._waiting:
                    self._came = trio.Event()
                await self._write(mails)
                if len(mails) > FEW and not self._waiting:
                    await trio.sleep(max(0.0, began + GATHER_S - trio.current_time()))
        finally:
            self._open = False

    async def _write(self, mails: list[_Mail]) -> None:
        self.batches += 1
        self.gathered += len(mails)
        try:
            outcomes = await self._store.write_all(posting.post_each, [mail.draft for mail in mails])
        except Exception as failure:
            outcomes = [failure] * len(mails)
        for mail, outcome in zip(mails, outcomes, strict=True):
            try:
                mail.done(outcome)
            except Exception as fault:
                log.error("answer_fault", exc_info=fault)  # one's fault is not the others'

"""Has whole uploads made harmless, each by a process of its own, and keeps what it made."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import msgspec
import structlog
import trio

from server.database.store import Database
from server.files import rows
from server.files.arriving import Arriving
from server.files.rows import Facts, File, Kept
from server.files.settings import MIB, FileSettings
from server.files.storage import Storage
from signalling.ports import Clock
from signalling.refusals import TITLES

LOOK_S = 5.0  # for what a restart, or a fault of the database, left behind
PATIENCE_S = 300.0  # for one file: the largest is copied in a tenth of that
AT_ONCE = 32
GROWTH = 64 * MIB  # that a file may be larger when it is written anew
REPORT_BYTES = 65_536

log = structlog.get_logger("files")


class Report(msgspec.Struct, frozen=True):
    """What a worker says: a problem, or what the file is."""

    type: str = ""
    problem: str = ""
    width: int | None = None
    height: int | None = None
    duration_ms: int | None = None


class Processing:
    """Looks at uploads as they get whole; `run` it, and `wake` it when there is one."""

    def __init__(
        self, store: Database, clock: Clock, arriving: Arriving, storage: Storage, settings: FileSettings
    ) -> None:
        self._store, self._clock, self._arriving, self._storage = store, clock, arriving, storage
        self._largest = settings.largest + GROWTH
        self._workers = trio.CapacityLimiter(settings.workers)
        self._busy: set[str] = set()
        self._woken = trio.Event()
        self.taken = self.refused = self.killed = self.failures = 0

    def counters(self) -> dict[str, int]:
        """How many files became what, by name."""
        return {
            "files_taken": self.taken,
            "files_refused": self.refused,
            "file_workers_killed": self.killed,
            "file_failures": self.failures,
            "files_looked_at": len(self._busy),
        }

    def wake(self) -> None:
        """There is something to look at."""
        self._woken.set()

    async def run(self) -> None:
        """Look at every file until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._woken = trio.Event()
                for id in await self._find():
                    if id not in self._busy:
                        self._busy.add(id)
                        nursery.start_soon(self._look_at, id)
                with trio.move_on_after(LOOK_S):
                    await self._woken.wait()

    async def _find(self) -> list[str]:
        try:
            return await self._store.read(rows.received, AT_ONCE)
        except Exception:
            self._fail()
            return []

    async def _look_at(self, id: str) -> None:
        try:
            async with self._workers:
                file = await self._store.read(rows.find, id)
                if file is not None and file.state == "received":
                    await self._process(file)
        except Exception:
            self._fail()
        finally:
            self._busy.discard(id)

    def _fail(self) -> None:
        # It is there still, and looked at again.
        self.failures += 1
        log.exception("file_failed")

    async def _process(self, file: File) -> None:
        report = await self._judge(file)
        if report.problem == "storage_full":
            raise OSError(errno.ENOSPC, "no room for what is made of a file")
        if report.problem:
            self.refused += 1
            await self._store.write(rows.refuse, file.id, report.problem, self._clock.wall_ms())
        else:
            await self._keep(file.id, report)
        await self._arriving.remove(file.id)

    async def _keep(self, id: str, report: Report) -> None:
        content, preview = self._arriving.scratch(id, "content"), self._arriving.scratch(id, "preview")
        size, preview_size = await trio.to_thread.run_sync(_sizes, content, preview)
        await self._storage.keep(id, content)
        if preview_size:
            await self._storage.keep(preview_key(id), preview)
        facts = Facts(report.width, report.height, report.duration_ms, preview_size)
        if await self._store.write(rows.settle, id, Kept(report.type, size, facts), self._clock.wall_ms()):
            self.taken += 1
        else:  # it is wanted no more, and whoever dropped it may have been before what was kept just now
            await self._storage.remove(id)
            await self._storage.remove(preview_key(id))

    async def _judge(self, file: File) -> Report:
        """Have a file looked at; a worker that ends before its report has met more than it can take."""
        made = [self._arriving.scratch(file.id, what) for what in ("content", "preview", "report")]
        with ExitStack() as opened:
            try:
                *given, report = _open_each(opened, self._arriving.path(file.id), made)
            except FileNotFoundError:
                return Report(problem="file_broken")  # the disk has lost it
            code = await self._run([*map(str, given), str(self._largest), file.sha256], given, report)
        return await trio.to_thread.run_sync(_read_report_untrusted, made[-1], code)

    async def _run(self, arguments: list[str], given: list[int], report: int) -> int | None:
        """Run a worker to its end; returns its code, None where it had to be killed."""
        command = [sys.executable, "-I", "-m", "server.files.worker", *arguments]
        with trio.move_on_after(PATIENCE_S):
            done = await trio.run_process(
                command, stdout=report, stderr=subprocess.DEVNULL, pass_fds=given, check=False, env=_environment()
            )
            self.killed += done.returncode < 0
            return done.returncode
        self.killed += 1
        return None


def preview_key(id: str) -> str:
    """Return the key under which a file's small picture is kept."""
    return f"{id}.preview"


def _open_each(opened: ExitStack, source: Path, made: Sequence[Path]) -> list[int]:
    files: list[IO[bytes]] = [opened.enter_context(source.open("rb"))]
    files += [opened.enter_context(path.open("w+b")) for path in made]
    return [file.fileno() for file in files]


def _sizes(*paths: Path) -> list[int]:
    return [os.path.getsize(path) for path in paths]


def _environment() -> Mapping[str, str]:
    return {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def _read_report_untrusted(path: Path, code: int | None) -> Report:
    if code is None or code < 0:
        return Report(problem="file_too_demanding")
    with path.open("rb") as file:
        said: Any = file.read(REPORT_BYTES)
    try:
        report = msgspec.json.decode(said, type=Report)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Report(problem="file_broken")
    known = report.problem in TITLES if report.problem else bool(report.type)
    return report if known else Report(problem="file_broken")

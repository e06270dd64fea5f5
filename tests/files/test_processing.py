"""What becomes of uploads that are whole, also where a node ends, a worker dies, or the disk is full."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from server.files import processing, rows
from server.files.arriving import Arriving
from server.files.processing import Processing
from server.files.rows import Facts, File
from server.files.settings import FileSettings
from server.files.storage import Folder
from tests.files import samples
from tests.files.sending import begin, filing_site, go_on, settled, until
from tests.money.databases import AnyStore
from tests.talk.people import NOW, people

SETTINGS = FileSettings(keep_free_mib=0)


class StillClock:
    def now_ns(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return NOW


async def test_what_was_looked_at_when_a_node_ended_is_looked_at_again(tmp_path: Path) -> None:
    given = samples.picture("JPEG", (3000, 2000))
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        uploads = [await begin(ann, len(given)) for _ in range(6)]
        for upload in uploads:
            assert (await go_on(ann, upload, 0, given)).status_code == 204
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        for upload in uploads:
            assert (await settled(ann, upload))["state"] == "ready"
        assert list((tmp_path / "files" / "arriving").iterdir()) == []


class Bench:
    """A file that is whole, and what looks at it."""

    def __init__(self, store: AnyStore, folder: Path) -> None:
        self.store, self.arriving, self.kept = store, Arriving(folder / "arriving", 0), Folder(folder / "kept")
        self.processing = Processing(store, StillClock(), self.arriving, self.kept, SETTINGS)

    async def lay(self, content: bytes) -> None:
        (ann,) = await people(self.store, "ann")
        file = File("f_1", ann.id, "a", len(content), "", "uploading", None, None, Facts(), 0, NOW, NOW + 1)
        await self.store.write(rows.begin, file, SETTINGS)
        await self.arriving.write("f_1", 0, content)
        await self.store.write(rows.arrive, "f_1", NOW)

    async def look(self, counter: str, times: int = 1) -> None:
        """Look at it until something was counted."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.processing.run)
            await until(lambda: self.processing.counters()[counter] >= times)
            await until(lambda: not self.processing.counters()["files_looked_at"])
            nursery.cancel_scope.cancel()

    async def file(self) -> File:
        found = await self.store.read(rows.find, "f_1")
        assert found is not None
        return found


async def test_a_worker_that_dies_has_met_too_much(
    store: AnyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(store, tmp_path)
    await bench.lay(samples.picture())
    killer = tmp_path / "killer"
    killer.write_text("#!/bin/sh\nkill -9 $$\n")
    killer.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(killer))
    await bench.look("files_refused")
    assert (await bench.file()).problem == "file_too_demanding"
    assert bench.processing.counters()["file_workers_killed"] == 1
    assert list((tmp_path / "arriving").iterdir()) == []


async def test_a_worker_that_takes_too_long_is_ended(
    store: AnyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(store, tmp_path)
    await bench.lay(samples.picture())
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    monkeypatch.setattr(processing, "PATIENCE_S", 0.2)
    await bench.look("files_refused")
    assert (await bench.file()).problem == "file_too_demanding"


async def test_where_there_is_no_room_it_is_tried_again(
    store: AnyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(store, tmp_path)
    await bench.lay(samples.picture())
    full = tmp_path / "full"
    full.write_text('#!/bin/sh\necho \'{"problem": "storage_full"}\'\n')
    full.chmod(0o700)
    monkeypatch.setattr(processing, "LOOK_S", 0.05)
    with monkeypatch.context() as context:
        context.setattr(sys, "executable", str(full))
        await bench.look("file_failures", 2)
        assert (await bench.file()).state == "received"
    await bench.look("files_taken")
    file = await bench.file()
    assert (file.state, file.type, file.facts.preview_bytes > 0) == ("ready", "image/png", True)
    assert len(await bench.kept.read("f_1", 0, 10**6)) == file.size


async def test_a_file_dropped_while_it_is_looked_at_is_not_kept(store: AnyStore, tmp_path: Path) -> None:
    bench = Bench(store, tmp_path)
    await bench.lay(samples.picture())
    keep = bench.kept.keep

    async def keep_late(key: str, path: Path) -> None:
        await keep(key, path)
        await store.write(rows.drop, "f_1")

    bench.kept.keep = keep_late  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.processing.run)
        await until(lambda: (tmp_path / "kept" / "1" / "f_1").exists() or (tmp_path / "kept").exists())
        await until(lambda: not bench.processing.counters()["files_looked_at"])
        nursery.cancel_scope.cancel()
    assert (await bench.file()).state == "dropped"
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]

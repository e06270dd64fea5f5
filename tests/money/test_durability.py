"""A process killed at any moment: what was acknowledged is there, and nothing is there by half."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from server.money import audit, books
from server.money.payments import wallet
from tests.money.databases import running

WRITER = """
import sys, trio
from pathlib import Path
from tests.money.commands import deposit, do, give
from tests.money.databases import running
async def pay(store, number):
    for turn in range(100_000):
        name = f"{number}-{turn}"
        await store.write(do, give("ann", f"taker{number % 3}", 1, name))
        print(name, flush=True)
async def main(where):
    where = where if where.startswith("postgresql:") else Path(where)
    async with running(where) as store, trio.open_nursery() as nursery:
        await store.write(do, deposit("ann", 10**9))
        for number in range(8):
            nursery.start_soon(pay, store, number)
trio.run(main, sys.argv[1])
"""


def killed_writer(place: Path | str, until: int) -> list[str]:
    """Return what a writer acknowledged that was killed after so many."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    said = [writer.stdout.readline().strip() for _ in range(until)]
    os.kill(writer.pid, signal.SIGKILL)
    said += writer.stdout.read().split("\n")[:-1]  # what follows the last line's end may be cut off
    writer.stdout.close()
    writer.wait()
    return said


@pytest.mark.parametrize("until", [1, 150, 233])
async def test_a_killed_process_loses_no_acknowledged_transfer(place: Path | str, until: int) -> None:
    said = await trio.to_thread.run_sync(killed_writer, place, until)
    async with running(place) as store:
        missing = [name for name in said if await store.read(books.find_transfer, name) is None]
        assert missing == []
        assert len(said) >= until
        assert await store.read(audit.check, 0) == []
        assert await store.read(books.balance, wallet("ann", "USD")) <= 10**9 - len(said)

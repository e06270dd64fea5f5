"""A Mesi server of the tool's own, in a temporary directory on free ports, and what the tools ask of it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import trio

from bench.crowd import open_http

START_S = 300.0  # the first start compiles the forwarding kernel
TOKEN_S = 86_400
# A tool's crowd comes from one address, and its accounts ask more than people do.
CONFIG = """\
[limits]
connections_per_address = 20000
[rates]
account_per_s = 10000.0
account_burst = 100000
address_per_s = 100000.0
address_burst = 1000000
[messages]
per_s = 100000.0
burst = 1000000
[log]
level = "warning"
"""
OF_A_WORKER = "mesi_media_worker_transports{"
# Replaces itself by the server, so that the process id stays.
PINNED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"


class ServerFailed(Exception):
    """The server did not start, or refused what the tool asked of it; the message says which."""


@dataclass(frozen=True, slots=True)
class Person:
    """An account with its token."""

    id: str
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class Mesi:
    """A running server, asked over HTTP alone; `pid` is its process where this tool started it."""

    url: str
    admin_token: str
    http: httpx2.AsyncClient
    pid: int | None = None

    async def person(self, name: str) -> Person:
        """Make an account, or find it, with a fresh token."""
        account = await self._ask(self.admin_token, "POST", "/admin/accounts", {"name": name})
        wanted = {"name": name, "expires_s": TOKEN_S}
        token = await self._ask(self.admin_token, "POST", "/admin/tokens", wanted)
        return Person(account["id"], name, token["token"])

    async def people(self, names: list[str]) -> list[Person]:
        """Make many accounts, several at a time."""
        found: dict[str, Person] = {}
        names_left = iter(names)

        async def work() -> None:
            for name in names_left:
                found[name] = await self.person(name)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(work)
        return [found[name] for name in names]

    async def stream(self, owner: Person, mode: str = "public") -> str:
        """Open a stream; returns its id."""
        wanted = {"name": owner.name, "title": "Load", "mode": mode}
        view = await self._ask(self.admin_token, "POST", "/admin/streams", wanted)
        return str(view["card"]["id"])

    async def ask(self, person: Person, method: str, path: str, body: object = None) -> Any:
        """Ask the API as `person`; returns the answer's JSON. Raises ServerFailed."""
        return await self._ask(person.token, method, path, body)

    async def counters(self) -> dict[str, float]:
        """Return the server's own counters (only loopback may ask)."""
        text = (await self.http.get(f"{self.url}/metrics")).text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def spread(self) -> list[int]:
        """Return how many transports each of the server's forwarding threads carries."""
        found = [(name, count) for name, count in (await self.counters()).items() if name.startswith(OF_A_WORKER)]
        return [int(count) for _, count in sorted(found)]

    async def _ask(self, token: str, method: str, path: str, body: object) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self.http.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers)
        if not answer.is_success:
            raise ServerFailed(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None


@asynccontextmanager
async def open_mesi(core: int | None = None, workers: int = 1) -> AsyncIterator[Mesi]:
    """Start a server, on one processor core where given, and stop it afterwards. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="mesi-bench-") as folder:
        config = _write_config(Path(folder))
        serve = [sys.executable, "-c", "from server.cli import main; main()", "serve", "--config", str(config)]
        serve += ["--data", folder, "--listen", "127.0.0.1:0", "--media", "127.0.0.1:0"]
        serve += ["--workers", f"{workers}"]
        command = serve if core is None else [sys.executable, "-c", PINNED, str(core), *serve]
        process = await trio.lowlevel.open_process(command, cwd=_ROOT, stdout=-1)
        try:
            with trio.move_on_after(START_S):
                await _first_line(process)
            if process.poll() is not None:
                raise ServerFailed(f"the server ended with {process.returncode} instead of starting")
            url, token = _read(Path(folder))
            async with open_http() as http:
                yield Mesi(url, token, http, process.pid)
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()


def _read(folder: Path) -> tuple[str, str]:
    try:
        return (folder / "server.url").read_text().strip(), (folder / "admin.token").read_text().strip()
    except OSError as error:
        raise ServerFailed(f"the server did not start within {START_S:.0f} s") from error


def _write_config(folder: Path) -> Path:
    path = folder / "config.toml"
    path.write_text(CONFIG)
    return path


async def _first_line(process: trio.Process) -> bytes:
    assert process.stdout is not None
    line = b""
    async for chunk in process.stdout:
        line += chunk
        if b"\n" in line:
            break
    return line


_ROOT = Path(__file__).resolve().parent.parent

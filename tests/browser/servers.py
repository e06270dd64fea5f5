"""Runs `mesi` as its own process, as people do, and asks its API."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.server.nodes import Person

MESI = Path(sys.executable).with_name("mesi")
START_S = 120.0  # the first start compiles the forwarding kernel


class Server:
    """One data directory, and the server that runs on it."""

    def __init__(
        self, folder: Path, command: str = "serve", listen: str = "127.0.0.1:0", program: tuple[str, ...] = (str(MESI),)
    ) -> None:
        self.folder, self.command, self.listen, self.program = folder, command, listen, program
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; where it was started before, on the same address."""
        address = self.folder / "server.url"
        address.unlink(missing_ok=True)
        options = ["--data", str(self.folder), "--listen", self.listen, "--media", "127.0.0.1:0"]
        config = self.folder / "config.toml"
        options += ["--config", str(config)] if config.exists() else []
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, self.command, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while not (address.exists() and address.read_text()):  # it is written after it is made
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        self.url = address.read_text().strip()
        self.listen = self.url.removeprefix("http://")

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(20) == 0, self.log()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        return (self.folder / "server.log").read_text()[-4000:]

    async def person(self, http: httpx2.AsyncClient, name: str) -> Person:
        """Return an account of that name, which is made where there is none."""
        admin = Person("admin", "", (self.folder / "admin.token").read_text().strip(), http)
        account = await admin.ask("POST", "/admin/accounts", {"name": name})
        token = await admin.ask("POST", "/admin/tokens", {"name": name, "expires_s": 3600})
        return Person(name, str(account["id"]), str(token["token"]), http)

    async def fill_wallet(self, http: httpx2.AsyncClient, name: str, asset: str, amount: str) -> None:
        """Put money into somebody's wallet, whose account is made where there is none."""
        await self.person(http, name)
        headers = {"Authorization": f"Bearer {(self.folder / 'admin.token').read_text().strip()}"}
        body = {"name": name, "asset": asset, "amount": amount}
        answer = await http.post("/api/v1/admin/ledger/deposits", json=body, headers=headers)
        assert answer.is_success, answer.text


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Run a server for as long as the block does."""
    server.start()
    try:
        yield server
    finally:
        server.stop()

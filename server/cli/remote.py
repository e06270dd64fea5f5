"""Asks a running server over its API, as its administrator."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx2

TIMEOUT_S = 30.0  # a switch is confirmed after its last packet: milliseconds; the rest is for slow disks


@dataclass(frozen=True, slots=True)
class Remote:
    """A server, and the right to administer it. What goes wrong is a ClickException that says what to do."""

    url: str
    token: str
    trusted: Path | None = None

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer's JSON, None for an empty one."""
        verify: bool | ssl.SSLContext = True
        if self.trusted is not None and self.trusted.exists():
            verify = ssl.create_default_context(cafile=str(self.trusted))
        try:
            answer = httpx2.request(
                method,
                f"{self.url}/api/v1{path}",
                json=body,
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=TIMEOUT_S,
                verify=verify,
            )
        except httpx2.HTTPError as error:
            raise click.ClickException(
                f"can't reach the server at {self.url} ({error}). Is it running? `mesi serve` starts one; "
                "--data or --server says where it is."
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise click.ClickException(_explain(answer))


def connect(data: Path, server: str | None, token: str | None) -> Remote:
    """Return the server that the options or the data directory name."""
    url = server or _read(data / "server.url", "--server URL")
    return Remote(url.rstrip("/"), token or _read(data / "admin.token", "--admin-token TOKEN"), data / "tls.crt")


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise click.ClickException(
            f"can't read {path} ({error.strerror}). Start a server with `mesi serve --data {path.parent}`, "
            f"name another directory with --data, or give {option}."
        ) from error


def _explain(answer: httpx2.Response) -> str:
    try:
        problem = answer.json()
        title, detail = problem["title"], problem["detail"]
        return f"{title if detail == title else f'{title}: {detail}'} ({problem['code']})"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code} to {answer.request.method} {answer.request.url}"

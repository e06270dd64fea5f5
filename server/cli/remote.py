"""Asks a running server over its API, as its administrator."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx2

REMEDIES = {
    "no_session": "; the admin token is in admin.token of the server's data directory, new at each start",
    "admin_only": "; give the one in admin.token of the server's data directory",
    "account_unknown": "; `mesi account add NAME` makes one",
    "stream_unknown": "; `mesi stream list` shows them",
    "already_live": "; `mesi stream list` shows it, `mesi stream end` ends it",
}
EXAMPLE = "https://live.example.org:8080"
TIMEOUT_S = 30.0  # a switch is confirmed after its last packet: milliseconds; the rest is for slow disks


@dataclass(frozen=True, slots=True)
class Remote:
    """A server, and the right to administer it. What goes wrong is a ClickException that says what to do."""

    url: str
    token: str
    trusted: Path | None = None

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer's JSON, None for an empty one."""
        if not self.token.isascii():
            raise click.ClickException("the admin token is not one: it has only ASCII characters")
        try:
            answer = httpx2.request(
                method,
                f"{self.url}/api/v1{path}",
                json=body,
                headers={"Authorization": f"Bearer {self.token}"},
                timeout=TIMEOUT_S,
                verify=self._trust(),
            )
        except httpx2.InvalidURL as error:
            raise click.ClickException(f"{self.url} is no address ({error}); write it like {EXAMPLE}") from error
        except httpx2.HTTPError as error:
            raise click.ClickException(
                f"can't reach the server at {self.url} ({error}). Is it running? `mesi serve` starts one; "
                "--data or --server says where it is."
            ) from error
        if not answer.is_success:
            raise click.ClickException(_explain(answer))
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise click.ClickException(f"{self.url} does not answer as a Mesi server does; is it one?") from error

    def _trust(self) -> ssl.SSLContext:
        # Whom every program trusts, and the certificate that the server has made itself.
        trust = ssl.create_default_context()
        if self.trusted is not None and self.trusted.exists():
            try:
                trust.load_verify_locations(self.trusted)
            except OSError as error:
                raise click.ClickException(f"{self.trusted} is no certificate ({error})") from error
        return trust


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
    if answer.is_redirect:
        return f"the server is elsewhere: give --server {answer.headers.get('Location', '').split('/api/')[0]}"
    try:
        problem = answer.json()
        title, detail = problem["title"], problem["detail"]
        words = f"{title if detail == title else f'{title}: {detail}'} ({problem['code']})"
        return words + REMEDIES.get(problem["code"], "")
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code} to {answer.request.method} {answer.request.url}"

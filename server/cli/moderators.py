"""`mesi moderator`: who reviews what people report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import click

from server.cli.options import print_answer, remote_options
from server.cli.remote import connect


@click.group()
def moderator() -> None:
    """Moderators: who reviews reports and appeals."""


@moderator.command("add")
@click.argument("name")
@remote_options
def add(name: str, data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """Let the account NAME review; prints its name."""
    connect(data, server, admin_token).ask("PUT", f"/admin/moderators/{quote(name, safe='')}")
    print_answer({"name": name}, as_json, name)


@moderator.command("remove")
@click.argument("name")
@remote_options
def remove(name: str, data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """Let the account NAME review no more; what it had goes back into the queue."""
    connect(data, server, admin_token).ask("DELETE", f"/admin/moderators/{quote(name, safe='')}")
    print_answer({"name": name}, as_json, name)


@moderator.command("list")
@remote_options
def show(data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """List who reviews, and since when."""
    answer = connect(data, server, admin_token).ask("GET", "/admin/moderators")
    lines = [f"{each['name']}  since {_day(each['since'])}" for each in answer["moderators"]]
    if lines or as_json:
        print_answer(answer, as_json, "\n".join(lines))


def _day(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d")

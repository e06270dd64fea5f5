"""The commands of `mesi` and their options."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click

from server.addresses import MAX_WORKERS
from server.cli.ledger import ledger
from server.cli.moderators import moderator
from server.cli.options import print_answer, remote_options
from server.cli.remote import Remote, connect
from server.complaints import ConfigError
from server.config import Config, load, override

MODES = click.Choice(["public", "private", "paid"])
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mesi", message="%(prog)s %(version)s")
def main() -> None:
    """Mesi: live streams, and who may watch them."""


# -- starting a server -------------------------------------------------------------------------------------------------


def _node_options(command: F) -> F:
    options = [
        click.option("--config", "path", type=click.Path(path_type=Path), help="A file like config.toml."),
        click.option(
            "--data", envvar="MESI_DATA", show_envvar=True, help="The directory for all state [default: data]."
        ),
        click.option("--listen", metavar="HOST:PORT", help="Where the page, API and sockets are (TCP)."),
        click.option("--media", metavar="HOST:PORT", help="Where WebRTC media arrives (UDP)."),
        click.option(
            "--workers",
            metavar="N",
            type=click.IntRange(1, MAX_WORKERS),
            help="Forwarding threads, each with a UDP port of its own [default: 1].",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _configure(path: Path | None, **said: Any) -> Config:
    try:
        return override(load(path), **said)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@_node_options
def serve(path: Path | None, **said: Any) -> None:
    """Start a server; it runs until interrupted."""
    from server.cli.running import run

    run(_configure(path, **said), with_demo=False)


@main.command()
@_node_options
def demo(path: Path | None, **said: Any) -> None:
    """Start a server with a streamer that sends a moving test picture."""
    from server.cli.running import run

    run(_configure(path, **said), with_demo=True)


@main.command()
@_node_options
def check(path: Path | None, **said: Any) -> None:
    """Check the configuration, the ports and what the system offers."""
    from server.check import findings

    config = _configure(path, **said)
    failed = False
    for finding in findings(config):
        click.echo(f"{'ok  ' if finding.good else 'FAIL' if finding.fatal else 'note'}  {finding.words}")
        failed = failed or (finding.fatal and not finding.good)
    sys.exit(1 if failed else 0)


# -- asking a running one ----------------------------------------------------------------------------------------------


@main.group()
def account() -> None:
    """Accounts."""


@account.command("add")
@click.argument("name")
@remote_options
def add_account(name: str, data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """Make an account without a password, or find the one of that name; prints its id."""
    answer = connect(data, server, admin_token).ask("POST", "/admin/accounts", {"name": name})
    print_answer(answer, as_json, answer["id"])


@main.command()
@click.argument("name")
@click.option("--expires", default="12h", show_default=True, help="How long it holds: 90s, 30m, 12h, 7d.")
@remote_options
def token(name: str, expires: str, data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """Print a bearer token of an account: for WHIP, WHEP, the API and /ws."""
    body = {"name": name, "expires_s": _seconds(expires)}
    answer = connect(data, server, admin_token).ask("POST", "/admin/tokens", body)
    print_answer(answer, as_json, answer["token"])


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if match is None or int(match[1]) == 0:
        raise click.BadParameter("write a time like 90s, 30m, 12h or 7d", param_hint="--expires")
    return int(match[1]) * UNITS_S[match[2] or "s"]


@main.group()
def stream() -> None:
    """Streams."""


@stream.command("add")
@click.argument("name")
@click.option("--title", required=True)
@click.option("--mode", type=MODES, default="public", show_default=True)
@remote_options
def add_stream(
    name: str, title: str, mode: str, data: Path, server: str | None, admin_token: str | None, as_json: bool
) -> None:
    """Open a stream for the account NAME; prints its id."""
    body = {"name": name, "title": title, "mode": mode}
    answer = connect(data, server, admin_token).ask("POST", "/admin/streams", body)
    print_answer(answer, as_json, answer["card"]["id"])


@stream.command("edit")
@click.argument("stream")
@click.option("--title", help="What it is called from now on.")
@click.option("--description", help="How it is described from now on.")
@remote_options
def edit_stream(
    stream: str,
    title: str | None,
    description: str | None,
    data: Path,
    server: str | None,
    admin_token: str | None,
    as_json: bool,
) -> None:
    """Call a stream something else, or describe it anew, also while it is on; prints its id."""
    if title is None and description is None:
        raise click.UsageError("give --title, --description or both")
    body = {"title": title, "description": description}
    answer = connect(data, server, admin_token).ask("PATCH", f"/streams/{quote(stream, safe='')}", body)
    print_answer(answer, as_json, stream)


@stream.command("mode")
@click.argument("stream")
@click.argument("mode", type=MODES)
@click.option("--confirm", is_flag=True, help="Do it, even if nobody stays; without, say who would have to go.")
@remote_options
def switch_mode(
    stream: str,
    mode: str,
    confirm: bool,
    data: Path,
    server: str | None,
    admin_token: str | None,
    as_json: bool,
) -> None:
    """Switch a stream to another mode; with --confirm it is done when this returns, to the last packet."""
    remote = connect(data, server, admin_token)
    path = f"/streams/{quote(stream, safe='')}/mode"
    prepared = remote.ask("POST", f"{path}/prepare", {"mode": mode})
    if not confirm:
        names = ", ".join(prepared["would_remove"]) or "nobody"
        words = f"{prepared['would_remove_count']} would have to go: {names}. Add --confirm to switch."
        print_answer(prepared, as_json, words)
        return
    body = {"confirm_token": prepared["confirm_token"], "allow_empty": True}
    changed = remote.ask("POST", f"{path}/confirm", body)
    print_answer(changed, as_json, str(changed["epoch"]))


@stream.command("list")
@remote_options
def list_streams(data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """List the streams that have not ended, newest first."""
    remote = connect(data, server, admin_token)
    cards: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = remote.ask("GET", "/streams?limit=200" + (f"&cursor={cursor}" if cursor else ""))
        cards += page["streams"]
        cursor = page["cursor"]
        if cursor is None:
            break
    lines = [
        f"{card['id']}  {card['mode']:<10}  {card['state']:<11}  {card['viewers']:>5}  "
        f"{card['streamer']['name']}  {card['title']}"
        for card in cards
    ]
    if lines or as_json:
        print_answer(cards, as_json, "\n".join(lines))


@stream.command("end")
@click.argument("stream")
@remote_options
def end_stream(stream: str, data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """End a stream."""
    answer = connect(data, server, admin_token).ask("POST", f"/streams/{quote(stream, safe='')}/end")
    print_answer(answer, as_json, stream)


@main.group()
def ticket() -> None:
    """Tickets for paid streams."""


def _ticket(method: str, stream: str, name: str, remote: Remote, as_json: bool) -> None:
    path = f"/streams/{quote(stream, safe='')}/tickets/{quote(name, safe='')}"
    answer = remote.ask(method, path)
    print_answer(answer, as_json, str(answer["epoch"]))


@ticket.command("grant")
@click.argument("stream")
@click.argument("name")
@remote_options
def grant_ticket(
    stream: str, name: str, data: Path, server: str | None, admin_token: str | None, as_json: bool
) -> None:
    """Give the account NAME a ticket; prints the stream's epoch."""
    _ticket("PUT", stream, name, connect(data, server, admin_token), as_json)


@ticket.command("revoke")
@click.argument("stream")
@click.argument("name")
@remote_options
def revoke_ticket(
    stream: str, name: str, data: Path, server: str | None, admin_token: str | None, as_json: bool
) -> None:
    """Take the ticket of the account NAME; prints the stream's epoch."""
    _ticket("DELETE", stream, name, connect(data, server, admin_token), as_json)


@main.group()
def room() -> None:
    """Rooms: the running side of streams."""


@room.command("show")
@click.argument("stream")
@remote_options
def show_room(stream: str, data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """Show who is in a stream's room, and who holds what."""
    answer = connect(data, server, admin_token).ask("GET", f"/streams/{quote(stream, safe='')}/room")
    card = answer["card"]
    lines = [
        f"{card['title']} by {card['streamer']['name']}: {card['mode']}, {card['state']}, epoch {card['epoch']}",
        f"watching: {card['viewers']}, present: {answer['present']}",
    ]
    for who in answer["participants"]:
        rights = "admitted" if who["admitted"] else "waiting outside"
        lines.append(f"  {who['account']['name']}: {rights}{', watching' if who['watching'] else ''}")
    for word in ("tickets", "entitled", "ejected"):
        lines.append(f"{word}: {', '.join(person['name'] for person in answer[word]) or 'nobody'}")
    print_answer(answer, as_json, "\n".join(lines))


main.add_command(ledger)
main.add_command(moderator)

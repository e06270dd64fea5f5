"""`mesi ledger`: money, for who runs the server."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import click

from server.cli.options import print_answer, remote_options
from server.cli.remote import connect


@click.group()
def ledger() -> None:
    """Money: wallets and the books."""


@ledger.command()
@click.argument("name")
@click.argument("asset")
@click.argument("amount")
@remote_options
def deposit(
    name: str, asset: str, amount: str, data: Path, server: str | None, admin_token: str | None, as_json: bool
) -> None:
    """Put AMOUNT (like 12.50) of ASSET (like USD) into the wallet of NAME; prints the transfer's id."""
    body = {"name": name, "asset": asset, "amount": amount}
    answer = connect(data, server, admin_token).ask("POST", "/admin/ledger/deposits", body)
    print_answer(answer, as_json, answer["transfer"])


@ledger.command()
@click.argument("name")
@remote_options
def balance(name: str, data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """Show what the account NAME has: the amount to spend and its asset, one asset a line."""
    answer = connect(data, server, admin_token).ask("GET", f"/admin/ledger/balances/{quote(name, safe='')}")
    lines = []
    for each in answer["balances"]:
        extra = [f"{word} {each[word]} units" for word in ("held", "owed") if each[word] != "0"]
        lines.append(f"{each['shown']} {each['asset']}" + (f" ({', '.join(extra)})" if extra else ""))
    print_answer(answer, as_json, "\n".join(lines))


@ledger.command()
@remote_options
def check(data: Path, server: str | None, admin_token: str | None, as_json: bool) -> None:
    """Add up every entry; ends with 1 when anything is wrong."""
    answer = connect(data, server, admin_token).ask("GET", "/admin/ledger/check")
    print_answer(answer, as_json, "\n".join(answer["flaws"]) or "The books are right.")
    sys.exit(1 if answer["flaws"] else 0)

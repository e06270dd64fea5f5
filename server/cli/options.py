"""The options of commands that ask a running server, and how answers are printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., Any])


def remote_options(command: F) -> F:
    """Add the options that say which server is asked, and how its answer is printed."""
    options = [
        click.option(
            "--data",
            type=click.Path(path_type=Path),
            default=Path("data"),
            envvar="MESI_DATA",
            show_envvar=True,
            help="The server's directory.",
        ),
        click.option(
            "--server",
            metavar="URL",
            envvar="MESI_SERVER",
            show_envvar=True,
            help="Its address, instead of the one in the directory.",
        ),
        click.option(
            "--admin-token",
            metavar="TOKEN",
            envvar="MESI_ADMIN_TOKEN",
            show_envvar=True,
            help="Instead of the one in the directory.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def print_answer(answer: object, as_json: bool, text: str) -> None:
    """Print an answer as text, or as JSON when asked for."""
    click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode() if as_json else text)

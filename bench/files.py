"""How many files this process may have open: raised as far as the system allows, or a sentence on what to do."""

from __future__ import annotations

import resource

import click

OTHERS = 200  # files of a process besides the connections of a tool


def allow_files(wanted: int) -> None:
    """Let this process, and those it starts, open so many connections; raises ClickException when it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHERS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        _raise_hard(needed, hard)
        hard = needed
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _raise_hard(needed: int, hard: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
    except (ValueError, PermissionError):
        raise click.ClickException(
            f"this takes {needed:,} open files, and the system allows {hard:,}: run it after `ulimit -Hn {needed}` "
            "as root, or ask for fewer connections"
        ) from None

"""Runs a tool on the terminal, and turns what can go wrong outside of it into a sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
import trio

from bench.mesi import ServerFailed
from bench.process import NoSuchProcess
from server.client import SessionFailed

T = TypeVar("T")


def run_tool(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` on Trio and return what it returns; a failure of the server's is a ClickException."""

    async def run() -> T:
        return await main()

    try:
        return trio.run(run)
    except* (SessionFailed, ServerFailed, NoSuchProcess, click.ClickException) as failures:
        raise _sentence(failures) from None


def _sentence(failures: BaseExceptionGroup[Exception]) -> click.ClickException:
    first = failures.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _sentence(first)
    return first if isinstance(first, click.ClickException) else click.ClickException(str(first))

"""Runs a node on the terminal: says what takes long, prints the page's address, and ends cleanly when interrupted."""

from __future__ import annotations

import signal
from functools import partial

import click
import trio

from server import log
from server.cli.patience import patience
from server.config import Config

KERNEL = "Compiling the forwarding kernel (once; up to a minute) "


def run(config: Config, *, with_demo: bool) -> None:
    """Serve until interrupted; raises ClickException when the node can't start."""
    log.configure(config.log.level)
    with patience(KERNEL):
        from server import node
    try:
        trio.run(partial(_serve, config, with_demo=with_demo))
    except* node.NodeFailed as failures:
        raise click.ClickException(str(failures.exceptions[0])) from None


async def _serve(config: Config, *, with_demo: bool) -> None:
    from server.demo import stream_demo
    from server.node import run_node

    async with trio.open_nursery() as nursery:
        await nursery.start(_end_on_signal, nursery.cancel_scope)
        running = await nursery.start(run_node, config)
        if with_demo:
            await nursery.start(stream_demo, running)
        click.echo(f"Open {running.url}/ in a browser. Ctrl-C ends the server.")


async def _end_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()

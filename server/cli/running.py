"""Runs a node on the terminal: says what takes long, prints the page's address, and ends cleanly when interrupted."""

from __future__ import annotations

import resource
import signal
from functools import partial

import click
import trio

from media.io.networks import is_loopback
from server import garbage, log
from server.addresses import bracketed, own_addresses
from server.cli.patience import patience
from server.config import Config
from server.connections.tls import WILDCARDS

KERNEL = "Compiling the forwarding kernel (once; a minute or two) "


def run(config: Config, *, with_demo: bool) -> None:
    """Serve until interrupted; raises ClickException when the node can't start."""
    log.configure(config.log.level)
    _allow_open_files()
    with patience(KERNEL):
        from server import node
    try:
        trio.run(partial(_serve, config, with_demo=with_demo))
    except* node.NodeFailed as failures:
        raise click.ClickException(_first(failures)) from None


def _first(failures: BaseExceptionGroup[BaseException]) -> str:
    # Each nursery on the way out has wrapped it once more.
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else str(first)


def _allow_open_files() -> None:
    # The soft limit is for programs that use select(2); this one does not, and each connection is a file.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: Config, *, with_demo: bool) -> None:
    from server.demo import stream_demo
    from server.node import run_node

    async with trio.open_nursery() as nursery:
        await nursery.start(_end_on_signal, nursery.cancel_scope)
        running = await nursery.start(run_node, config)
        garbage.keep_what_is_there()
        if with_demo:
            await nursery.start(stream_demo, running)
        click.echo(f"Open {running.url}/ in a browser. Ctrl-C ends the server.")
        if config.listen.host in WILDCARDS:
            port = running.url.rpartition(":")[2]
            others = [
                f"https://{bracketed(address)}:{port}/" for address in own_addresses() if not is_loopback(address)
            ]
            click.echo(f"Other machines: {' or '.join(others)} (the certificate is self-made: browsers warn once)")


async def _end_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()

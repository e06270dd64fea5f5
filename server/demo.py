"""The demo streamer: a moving test picture with a clock and a tone, published over real WHIP by its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import structlog
import trio

from server.client import Publisher, SessionFailed, publish
from server.node import Running
from signalling.identifiers import Actor, Mode

NAME, TITLE = "demo", "Test picture"
RETRY_S = 1.0  # before trying again; the server is on this machine, and back soon or not at all
TOKEN_VARIABLE = "MESI_DEMO_TOKEN"  # by the environment: arguments can be read by everyone on the machine
TOKEN_S = 30 * 86_400

log = structlog.get_logger("demo")


async def stream_demo(running: Running, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Keep the test picture live until cancelled. Encoding takes its own process: it would delay the server's loop."""
    account = await running.auth.add_account(NAME)
    actor = Actor(account.id, account.name)
    page = running.rooms.live(actor, limit=200)
    own = [card.id for card in page.streams if card.streamer.id == account.id]
    stream = own[0] if own else (await running.rooms.create_stream(actor, title=TITLE, mode=Mode.PUBLIC)).card.id
    url = f"{running.url}/whip/{stream}"
    environment = {**os.environ, TOKEN_VARIABLE: running.auth.issue(account, TOKEN_S, "user")}
    task_status.started()
    while True:
        command = [sys.executable, "-m", "server.demo", url]
        await trio.run_process(command, env=environment, check=False, cwd=_root(), stdin=subprocess.DEVNULL)
        log.warning("demo_streamer_ended", url=url)
        await trio.sleep(RETRY_S)


def _root() -> Path:
    return Path(__file__).resolve().parent.parent


async def send_picture(publisher: Publisher) -> None:
    """Send the test picture until the connection ends."""
    from media.testpicture import Format, MovingPicture

    picture = MovingPicture(Format(), started_ns=time.monotonic_ns(), wall_ns=time.time_ns())
    while publisher.endpoint.ended is None:
        if publisher.keyframe_wanted:
            publisher.keyframe_wanted = False
            picture.request_keyframe()
        for media in picture.due(time.monotonic_ns()):
            publisher.send(media.kind, media.payload, timestamp=media.timestamp, marker=media.marker, at_ns=media.at_ns)
        await trio.sleep(max(0.0, (picture.deadline_ns() - time.monotonic_ns()) / 1e9))


async def _main(url: str, token: str) -> None:
    # Its own server's certificate is self-made, and the connection stays on this machine.
    async with httpx2.AsyncClient(verify=False) as http:
        while True:
            try:
                async with publish(http, url, token, ("audio", "video")) as publisher:
                    await send_picture(publisher)
            except* SessionFailed as failures:
                sys.stderr.write(f"demo: {failures.exceptions[0]}\n")
            await trio.sleep(RETRY_S)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's, which ends this process itself
    trio.run(_main, sys.argv[1], os.environ[TOKEN_VARIABLE])

"""A coturn on this machine, which makes its credentials of the same secret as the server."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECRET = "shared"
START_S = 20.0


@contextmanager
def relay(folder: Path) -> Iterator[str]:
    """Run a TURN server for as long as the block does; gives its address over TCP, which firewalls let through."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--listening-port={port}", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers"]
    options += ["--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=mesi.test", "--no-cli", "--no-tls"]
    options += ["--no-dtls", "--no-rfc5780", f"--pidfile={folder / 'pid'}", f"--userdb={folder / 'db'}"]
    log = (folder / "coturn.log").open("ab")
    with log, subprocess.Popen(["turnserver", "-n", *options, "--log-file=stdout"], stdout=log, stderr=log) as process:
        try:
            _wait_for(port, process)
            yield f"turn:127.0.0.1:{port}?transport=tcp"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        else:
            return

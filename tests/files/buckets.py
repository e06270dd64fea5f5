"""An S3 server that nobody here wrote (moto), in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from server.files.objects import StorageSettings

BUCKET = "mesi-files"
PROGRAM = """
import sys, time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def s3_server() -> Iterator[StorageSettings]:
    """Run one for as long as the block does; gives how to reach a bucket in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        endpoint = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), timeout=30).close()
        yield StorageSettings(BUCKET, endpoint, "us-east-1", "key", "secret", "some/place/")
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


def names_in(settings: StorageSettings) -> str:
    """Return what a listing of the bucket says."""
    with urllib.request.urlopen(f"{settings.endpoint}/{settings.bucket}?list-type=2", timeout=30) as answer:
        return str(answer.read().decode())

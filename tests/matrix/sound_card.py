"""A sound card of software: without any, Firefox lets no AudioContext run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 10.0


@contextmanager
def sound_card(folder: Path) -> Iterator[None]:
    """Run PulseAudio with a sink that goes nowhere; programs that are started in the block play to it."""
    socket = folder / "pulse.sock"
    command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--log-level=error"]
    command += ["-L", "module-null-sink rate=48000"]
    command += ["-L", f"module-native-protocol-unix auth-anonymous=1 socket={socket}"]
    environment = {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    before = os.environ.get("PULSE_SERVER")
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while not socket.exists():
            assert process.poll() is None, "PulseAudio ended early"
            assert time.monotonic() < deadline, "PulseAudio did not start"
            time.sleep(0.05)
        os.environ["PULSE_SERVER"] = f"unix:{socket}"
        yield
    finally:
        if before is None:
            os.environ.pop("PULSE_SERVER", None)
        else:
            os.environ["PULSE_SERVER"] = before
        process.terminate()
        process.wait(10)

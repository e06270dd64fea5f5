"""Looks whether this machine can run a node well, and says what to do where it can't."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from media.io.networks import is_loopback
from server.addresses import own_addresses
from server.config import Config
from server.files.confinement import landlock_version

SOL_UDP = 17
UDP_SEGMENT = 103  # linux/udp.h: generic segmentation offload, since Linux 4.18
FILES_PER_CONNECTION = 1
FILES_BESIDE = 200  # database, libraries, listeners
TIME_ERROR = 5  # of adjtimex(2): nothing keeps the clock right
TIMEX_BYTES = 512  # more than struct timex has anywhere
SOCKET_BUFFER = 4 * 1024 * 1024  # bursts of many publishers; see media/forwarding/forwarder.py


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `fatal` when a node can't start without it."""

    good: bool
    fatal: bool
    words: str


def findings(config: Config) -> Iterator[Finding]:
    """Look at one thing after the other."""
    yield Finding(True, True, "configuration: every key is known and in range")
    yield _data(Path(config.data.dir))
    yield _port(config.listen.host, config.listen.port, socket.SOCK_STREAM, "--listen HOST:PORT")
    for host in config.media.hosts:
        for number in config.media.ports:
            yield _port(host, number, socket.SOCK_DGRAM, "--media HOST:PORT")
        if config.media.tcp:
            port = config.media.tcp_port or config.media.port
            yield _port(host, port, socket.SOCK_STREAM, "tcp_port under [media]")
    yield _reach(config.listen.host, config.media.hosts)
    yield _segmentation()
    yield _files(config.limits.connections)
    yield _buffers()
    yield _clock()
    yield _natives()
    yield _landlock()


def _data(folder: Path) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    good = place.is_dir() and os.access(place, os.W_OK)
    if not good:
        return Finding(False, True, f"data: {folder} can't be written; choose another with --data")
    if _is_taken(folder / "lock"):
        return Finding(False, True, f"data: another server uses {folder}; stop it, or choose another with --data")
    return Finding(True, True, f"data: {folder} can be written")


def _is_taken(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _port(host: str, port: int, kind: socket.SocketKind, choice: str) -> Finding:
    name = "TCP" if kind is socket.SOCK_STREAM else "UDP"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        remedy = "another program uses it" if error.errno == errno.EADDRINUSE else str(error.strerror)
        return Finding(False, True, f"{name} {host}:{port}: {remedy}; choose another with {choice}")
    return Finding(True, True, f"{name} {host}:{port}: free")


def _reach(listen: str, hosts: tuple[str, ...]) -> Finding:
    media = ", ".join(hosts)
    if all(map(is_loopback, hosts)) and not (listen == "localhost" or is_loopback(listen)):
        others = [address for address in own_addresses() if not is_loopback(address)]
        remedy = f"; --media {others[0]}:PORT changes that" if others else ""
        return Finding(False, False, f"media: other machines can open the page, but media stays on {media}{remedy}")
    return Finding(True, False, f"media: whoever can open the page can reach {media}, as far as is seen from here")


def _segmentation() -> Finding:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(SOL_UDP, UDP_SEGMENT, struct.pack("i", 1200))
    except OSError:
        return Finding(False, False, "UDP segmentation offload: not here; sending costs about twice as much")
    return Finding(True, False, "UDP segmentation offload: available")


def _files(connections: int) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections * FILES_PER_CONNECTION + FILES_BESIDE
    # A server raises the soft limit to the hard one by itself.
    good = hard == resource.RLIM_INFINITY or hard >= wanted
    advice = "" if good else f"; for limits.connections = {connections} raise it: ulimit -Hn {wanted}"
    return Finding(good, False, f"open files: at most {hard}{advice}")


def _buffers() -> Finding:
    path = Path("/proc/sys/net/core/rmem_max")
    allowed = int(path.read_text()) if path.exists() else SOCKET_BUFFER
    good = allowed >= SOCKET_BUFFER
    advice = "" if good else f"; bursts get lost: sysctl -w net.core.rmem_max={SOCKET_BUFFER}"
    return Finding(good, False, f"UDP receive buffer: up to {allowed} bytes{advice}")


def _clock() -> Finding:
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))  # zeros: only asked
    if state in (-1, TIME_ERROR):
        words = "clock: nothing keeps it right; tokens and times shown would be off: run chrony or systemd-timesyncd"
        return Finding(False, False, words)
    return Finding(True, False, "clock: kept right by the network")


def _landlock() -> Finding:
    if not landlock_version():
        return Finding(False, False, "Landlock: not here; through a hole, an upload could read other files")
    return Finding(True, False, "Landlock: what looks at uploads reads nothing else")


def _natives() -> Finding:
    try:
        import media.io.native  # noqa: F401
    except (ImportError, OSError, AttributeError) as error:
        return Finding(False, True, f"native symbols: {error}; rebuild .venv by removing it")
    return Finding(True, True, "native symbols: libsrtp and the C library are found")

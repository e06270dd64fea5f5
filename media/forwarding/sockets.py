"""The UDP sockets of the forwarding thread, one for each address, and the paths that packets take through them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from media.forwarding.addresses import Address, pack_sockaddr
from media.webrtc.ice import Path

SOCKET_BUFFER = 4 << 20  # bytes: 30 ms of 1 Gbit/s, while the thread is not scheduled


def path_through(address: Address, number: int) -> Path:
    """Return the path to an address through one of our sockets."""
    return (*address, number) if number else address


def end_of(path: Path) -> Address:
    """Return the address to which a path leads."""
    return path[0], path[1]


def number_of(path: Path) -> int:
    """Return the number of our socket through which a path leads."""
    return path[2] if len(path) == 3 else 0


class MediaSockets:
    """Bound sockets in the order of the addresses. Raises OSError when one can't be bound."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._sockets.append(_open(address))
        except OSError:
            self.close()
            raise

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where they are bound."""
        return tuple(opened.getsockname()[:2] for opened in self._sockets)

    @property
    def descriptors(self) -> list[int]:
        """Return their file descriptors."""
        return [opened.fileno() for opened in self._sockets]

    def send(self, datagram: bytes, path: Path) -> None:
        """Send at once or not at all; raises OSError."""
        self._sockets[number_of(path)].sendto(datagram, end_of(path))

    def close(self) -> None:
        """Close them all."""
        for opened in self._sockets:
            opened.close()


def _open(address: Address) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        opened.bind(address)
    except OSError:
        opened.close()
        raise
    return opened


def same_place(raw: bytes, path: Path) -> bool:
    """Whether a struct sockaddr is where a path leads."""
    packed = pack_sockaddr(end_of(path))
    return raw[: len(packed)] == packed

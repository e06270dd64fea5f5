"""Points the kernel's message headers at its buffers, once: memory that C reads and NumPy owns."""

from __future__ import annotations

from typing import Any, Protocol

import numpy.typing as npt


class Buffers(Protocol):
    """The tables that recvmmsg and sendmmsg see; layouts as in `tables`."""

    @property
    def inbox(self) -> npt.NDArray[Any]: ...  # noqa: D102 - the table of this name
    @property
    def inbox_address(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def inbox_headers(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def inbox_vectors(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def outbox_headers(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def outbox_vectors(self) -> npt.NDArray[Any]: ...  # noqa: D102
    @property
    def outbox_segments(self) -> npt.NDArray[Any]: ...  # noqa: D102


def point_headers_at_buffers(tables: Buffers) -> None:
    """Have each message of the tables begin where its datagram is."""
    # struct mmsghdr on 64-bit Linux: name, namelen, iov, iovlen, control, controllen, flags, msg_len
    for i in range(len(tables.inbox)):
        tables.inbox_vectors[i] = (tables.inbox[i].ctypes.data, tables.inbox.shape[1])
        tables.inbox_headers[i, 0] = tables.inbox_address[i].ctypes.data
        tables.inbox_headers[i, 2] = tables.inbox_vectors[i].ctypes.data
        tables.inbox_headers[i, 3] = 1
    for i in range(len(tables.outbox_segments)):
        tables.outbox_headers[i, 2] = tables.outbox_vectors[i].ctypes.data
        tables.outbox_headers[i, 3] = 1
        segment = tables.outbox_segments[i]
        segment[0] = 18  # cmsg_len: header and a uint16
        segment[8] = 17  # SOL_UDP
        segment[12] = 103  # UDP_SEGMENT

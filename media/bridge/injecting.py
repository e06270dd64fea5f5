"""A publisher inside the node: its packets reach the forwarding thread as any other's do, by its socket and by SRTP.

The thread then needs no second way in, with rules of its own, and no lock: the socket's buffer is the bounded queue.
"""

from __future__ import annotations

import secrets
import socket

from media.forwarding.addresses import Address
from media.webrtc.srtp import SrtpKeys, SrtpProfile, open_sender
from media.wire.rtcp import SenderReport, build_rtcp

LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Injector:
    """One publisher's socket and keys; `server` is where the forwarding thread listens."""

    def __init__(self, server: Address) -> None:
        host = LOOPBACK.get(server[0], server[0])
        self._server = (host, server[1])
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((host, 0))
        profile = SrtpProfile.AEAD_AES_128_GCM
        mine, theirs = (secrets.token_bytes(profile.key_size + profile.salt_size) for _ in range(2))
        self.keys = SrtpKeys(profile, local=theirs, remote=mine)  # the forwarding thread's
        self._sender = open_sender(SrtpKeys(profile, local=mine, remote=theirs))
        self.lost = 0

    @property
    def address(self) -> Address:
        """Where its packets come from."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def send(self, packets: list[bytes], report: SenderReport | None) -> None:
        """Send a frame's packets; what does not fit into the socket's buffer is lost and counted."""
        for packet in packets:
            self._send(self._sender.protect(packet))
        if report is not None:
            self._send(self._sender.protect_rtcp(build_rtcp(report)))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._server)
        except OSError:
            self.lost += 1

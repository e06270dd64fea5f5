"""The kernel's turns one by one, in the test's own thread: datagrams in over real sockets, then whatever came out."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from numba import njit, types
from pylibsrtp import Error, Policy, Session

from media.forwarding.forwarder import Forwarder, Limits
from media.forwarding.kernel import loop
from media.forwarding.kernel.loop import mirror as kernel_mirror
from media.forwarding.kernel.loop import turn as kernel_turn
from media.forwarding.kernel.newcomers import welcome_newcomers as kernel_welcome
from media.forwarding.replays import WINDOW
from media.forwarding.tables import Count, Tables
from media.io.compiled import keep_with
from media.webrtc.srtp import SrtpKeys, SrtpProfile, open_receiver, open_sender
from media.wire.rtp import parse_rtp_untrusted
from tests.media import srtp_model

ROLLOVERS = 4  # more than a test's packets can cause
LIMITS = Limits(rooms=4, transports=16, tracks=8, subscriptions=32)

keep_with("kernel")  # else it went where the module imported last keeps its own, and outlived changes of the kernel


@njit([types.int64(loop._LAYOUT)], nogil=True, cache=True)
def _turn(whole):
    return kernel_turn(whole[0])


@njit([types.int64(loop._LAYOUT)], nogil=True, cache=True)
def _mirror(whole):
    return kernel_mirror(whole[0])


@njit([types.void(loop._LAYOUT)], nogil=True, cache=True)
def _welcome(whole):
    kernel_welcome(whole[0])


@dataclass(frozen=True, slots=True)
class Packet:
    """What a viewer decrypted, without padding."""

    payload_type: int
    ssrc: int
    sequence_number: int
    timestamp: int
    marker: bool
    payload: bytes
    extensions: Mapping[int, bytes] = field(default_factory=dict)


class End:
    """The far end of one transport, with its keys; `shadow` decrypts what it sends as the kernel must."""

    def __init__(self, forwarder: Forwarder, room: int, *, publishes: bool, worker: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.row = forwarder.open_transport(room, publishes=publishes, worker=worker)
        size = SrtpProfile.AEAD_AES_128_GCM.key_size + SrtpProfile.AEAD_AES_128_GCM.salt_size
        keys = SrtpKeys(SrtpProfile.AEAD_AES_128_GCM, os.urandom(size), os.urandom(size))
        path = forwarder.workers.path(worker, self.socket.getsockname())
        forwarder.bind_address(self.row, path)
        forwarder.send_to(self.row, path)
        forwarder.set_keys(self.row, keys)
        theirs = SrtpKeys(keys.profile, keys.remote, keys.local)
        self.tx: Session = open_sender(theirs)
        self.rx: Session = open_receiver(theirs)
        self._key, self._salt = (
            srtp_model.derive(keys.local, srtp_model.ENCRYPTION, 16),
            srtp_model.derive(keys.local, srtp_model.SALT, 12),
        )
        policy = Policy(key=keys.remote, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=keys.profile.libsrtp_profile)
        policy.window_size = WINDOW
        self.shadow = Session(policy)
        self._to = forwarder.workers.addresses(worker)[0]
        self._sealed: dict[tuple[bytes, int, bytes], bytes] = {}

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self._to)

    def drain(self) -> tuple[list[Packet], list[bytes]]:
        """Return the RTP and the RTCP that came, decrypted."""
        packets: list[Packet] = []
        reports: list[bytes] = []
        with suppress(BlockingIOError):
            while True:
                data = self.socket.recv(4096)
                if 192 <= data[1] < 224:
                    reports.append(self.rx.unprotect_rtcp(data))
                else:
                    packets.append(parse(self._open(data)))
        return packets, reports

    def _open(self, sealed: bytes) -> bytes:
        # Without libsrtp, whose replay check hides what came twice; the rollover counter is tried.
        for roc in range(ROLLOVERS):
            with suppress(InvalidTag):
                packet = srtp_model.open_gcm(self._key, self._salt, sealed, roc)
                # One nonce for two plaintexts would give GCM's key away (RFC 7714 section 9.1).
                nonce = (sealed[8:12], roc, sealed[2:4])
                assert self._sealed.setdefault(nonce, sealed) == sealed
                return packet
        raise AssertionError("not sealed for this viewer")


def parse(data: bytes) -> Packet:
    packet = parse_rtp_untrusted(data)
    header, payload = packet.header, data[packet.payload_start : packet.payload_end]
    assert not header.csrcs
    return Packet(
        header.payload_type,
        header.ssrc,
        header.sequence_number,
        header.timestamp,
        header.marker,
        payload,
        header.extensions,
    )


class Turns:
    """A forwarder whose threads never run."""

    def __init__(self, workers: int = 1) -> None:
        self.forwarder = Forwarder(("127.0.0.1", 0), LIMITS, workers=workers)
        self.tables: Tables = self.forwarder.tables
        self.ends: list[End] = []

    def end(self, room: int, *, publishes: bool, worker: int = 0) -> End:
        self.ends.append(End(self.forwarder, room, publishes=publishes, worker=worker))
        return self.ends[-1]

    def turn(self) -> int:
        """Let the kernel take what was sent; returns how many datagrams that were."""
        return int(_turn(self.tables.whole))

    def mirror(self) -> int:
        """Let the second worker take what the first told it of; returns how many packets that were."""
        return int(_mirror(self.forwarder.workers.tables[1].whole))

    def welcome(self, worker: int = 0) -> None:
        """Let a worker begin with those who came."""
        _welcome(self.forwarder.workers.tables[worker].whole)

    def counts(self) -> dict[Count, int]:
        return {count: int(self.tables.counters[count]) for count in Count if count is not Count.CELLS}

    def snapshot(self) -> dict[str, bytes]:
        """Return every table that a datagram may change, but not the kernel's own buffers."""
        tables = self.tables
        rows = {
            "rooms": tables.rooms[: LIMITS.rooms],
            "transports": tables.transports[: LIMITS.transports],
            "tracks": tables.tracks[: LIMITS.tracks],
            "subscriptions": tables.subscriptions[: LIMITS.subscriptions],
            "payload_types": tables.payload_types[: LIMITS.transports],
            "sockaddrs": tables.sockaddrs[: LIMITS.transports],
            "ssrcs": tables.ssrcs[: LIMITS.transports],
            "cache_seq": tables.cache_seq[: LIMITS.tracks],
            "twcc_seq": tables.twcc_seq[: LIMITS.tracks],
        }
        return {name: np.ascontiguousarray(table).tobytes() for name, table in rows.items()}


@contextmanager
def open_turns(workers: int = 1) -> Iterator[Turns]:
    turns = Turns(workers)
    try:
        yield turns
    finally:
        for end in turns.ends:
            end.socket.close()
        turns.forwarder.workers.close()


def protected(end: End, data: bytes, *, rtcp: bool = False) -> bytes | None:
    """Encrypt, or None where libsrtp refuses to: what is too old, too long, or a header longer than its packet."""
    with suppress(Error, ValueError):
        return end.tx.protect_rtcp(data) if rtcp else end.tx.protect(data)
    return None

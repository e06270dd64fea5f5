"""Both ends of a WebRTC transport and the network between them, in virtual time."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from media.webrtc.certificate import Certificate
from media.webrtc.client import ClientPeer
from media.webrtc.dtls import DtlsRole, Fingerprint
from media.webrtc.events import Closed, PeerEvent, Secured, Transmit
from media.webrtc.ice import IceCredentials
from media.webrtc.peer import Peer
from media.webrtc.srtp import SrtpKeys, open_receiver, open_sender

FIXTURES = Path(__file__).parent.parent / "fixtures" / "stun_dtls"
RECORDED_CLIENTS = ("chromium156", "ffmpeg812", "firefox153", "gstreamer122")
CERTIFICATE = Certificate.self_made()
CLIENT_CERTIFICATE = Certificate.self_made()
HERE, THERE, ELSEWHERE = ("192.0.2.1", 1000), ("192.0.2.2", 2000), ("198.51.100.9", 9)
TICK_NS = 5_000_000
SECOND_NS = 1_000_000_000


def recorded(client: str, kind: str) -> list[bytes]:
    """The STUN or DTLS datagrams that a real client sent to the server at the start of a session."""
    lines = map(json.loads, (FIXTURES / f"{client}.jsonl").read_text().splitlines())
    return [bytes.fromhex(line["hex"]) for line in lines if line["kind"] == kind]


def fingerprint(certificate: Certificate) -> Fingerprint:
    return Fingerprint("sha-256", bytes.fromhex(certificate.fingerprint.replace(":", "")))


def is_dtls(datagram: bytes) -> bool:
    return bool(datagram) and 20 <= datagram[0] < 64


def record(kind: int, body: bytes, *, epoch: int = 0, sequence: int = 0, version: int = 0xFEFD) -> bytes:
    return struct.pack("!BHH", kind, version, epoch) + sequence.to_bytes(6) + struct.pack("!H", len(body)) + body


def message(kind: int, body: bytes, *, number: int = 0, total: int | None = None, start: int = 0) -> bytes:
    size = len(body) if total is None else total
    return (
        bytes([kind]) + size.to_bytes(3) + struct.pack("!H", number) + start.to_bytes(3) + len(body).to_bytes(3) + body
    )


def in_fragments(hello: bytes, size: int) -> list[bytes]:
    """One datagram for each `size` bytes of a handshake message that came in one record."""
    body = hello[13 + 12 :]
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return [
        record(22, message(hello[13], part, total=len(body), start=place * size), sequence=place)
        for place, part in enumerate(parts)
    ]


class World:
    """Both ends, a network between them, and what each was told."""

    def __init__(
        self,
        *,
        seed: int = 0,
        loss: float = 0.0,
        server_is_client: bool = False,
        promised: Sequence[Fingerprint] | None = None,
        promised_by_server: Sequence[Fingerprint] | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.now_ns = SECOND_NS
        ours, theirs = IceCredentials.random(), IceCredentials.random()
        roles = (DtlsRole.CLIENT, DtlsRole.SERVER) if server_is_client else (DtlsRole.SERVER, DtlsRole.CLIENT)
        self.server = Peer(
            certificate=CERTIFICATE,
            local=ours,
            remote=theirs,
            fingerprints=[fingerprint(CLIENT_CERTIFICATE)] if promised is None else promised,
            dtls_role=roles[0],
            now_ns=self.now_ns,
        )
        self.client = ClientPeer(
            certificate=CLIENT_CERTIFICATE,
            local=theirs,
            remote=ours,
            fingerprints=[fingerprint(CERTIFICATE)] if promised_by_server is None else promised_by_server,
            dtls_role=roles[1],
            remote_address=HERE,
            now_ns=self.now_ns,
        )
        self.flying: list[tuple[int, str, bytes]] = []
        self.told_server: list[PeerEvent] = []
        self.told_client: list[PeerEvent] = []
        self.sent: list[bytes] = []
        self.dropped: Callable[[str, bytes], bool] = lambda to, datagram: False
        self.before_delivery: Callable[[str, bytes], None] = lambda to, datagram: None
        self.drop_numbers: set[int] = set()

    @property
    def server_keys(self) -> SrtpKeys | None:
        return next((event.keys for event in self.told_server if isinstance(event, Secured)), None)

    @property
    def client_keys(self) -> SrtpKeys | None:
        return next((event.keys for event in self.told_client if isinstance(event, Secured)), None)

    @property
    def is_connected(self) -> bool:
        return self.server_keys is not None and self.client_keys is not None

    def closings(self) -> list[PeerEvent]:
        return [event for event in self.told_server + self.told_client if isinstance(event, Closed)]

    def tell_server(self, datagram: bytes) -> list[PeerEvent]:
        events = self.server.receive_untrusted(datagram, THERE, self.now_ns)
        self.take_from_server(events)
        return events

    def tell_client(self, datagram: bytes) -> list[PeerEvent]:
        events = self.client.receive_untrusted(datagram, self.now_ns)
        self.take_from_client(events)
        return events

    def take_from_server(self, events: Iterable[PeerEvent]) -> None:
        self._take(events, "client", self.told_server)

    def take_from_client(self, events: Iterable[PeerEvent]) -> None:
        self._take(events, "server", self.told_client)

    def _take(self, events: Iterable[PeerEvent], to: str, told: list[PeerEvent]) -> None:
        for event in events:
            told.append(event)
            if isinstance(event, Transmit):
                self._send(to, event.datagram)

    def _send(self, to: str, datagram: bytes) -> None:
        self.sent.append(datagram)
        if len(self.sent) in self.drop_numbers or self.dropped(to, datagram) or self.random.random() < self.loss:
            return
        for _ in range(1 + (self.loss > 0 and self.random.random() < 0.1)):
            delay_ns = self.random.randrange(1, 8 if self.loss else 2) * TICK_NS
            self.flying.append((self.now_ns + delay_ns, to, datagram))

    def step(self) -> None:
        self.now_ns += TICK_NS
        arrived = [item for item in self.flying if item[0] <= self.now_ns]
        self.flying = [item for item in self.flying if item[0] > self.now_ns]
        for _, to, datagram in arrived:
            self.before_delivery(to, datagram)
            (self.tell_server if to == "server" else self.tell_client)(datagram)
        if self.client.deadline_ns() <= self.now_ns:
            self.take_from_client(self.client.handle_timeout(self.now_ns))
        if self.server.deadline_ns() <= self.now_ns:
            self.take_from_server(self.server.handle_timeout(self.now_ns))

    def start(self) -> None:
        self.take_from_client(self.client.start(self.now_ns))

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * SECOND_NS) // TICK_NS):
            self.step()

    def connect(self, seconds: float = 29) -> float:
        """Start, and run until both ends are secured; returns the virtual seconds that took, at most `seconds`."""
        begun_ns = self.now_ns
        self.start()
        while not self.is_connected and self.now_ns < begun_ns + seconds * SECOND_NS:
            self.step()
        return (self.now_ns - begun_ns) / SECOND_NS


def assert_keys_fit(server: SrtpKeys | None, client: SrtpKeys | None) -> None:
    assert server is not None
    assert client is not None
    assert (server.profile, server.local, server.remote) == (client.profile, client.remote, client.local)
    packet = bytes([0x80, 96, 0, 1]) + bytes(8) + b"payload"
    assert open_receiver(client).unprotect(open_sender(server).protect(packet)) == packet
    assert open_receiver(server).unprotect(open_sender(client).protect(packet)) == packet

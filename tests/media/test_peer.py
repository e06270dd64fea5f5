"""A peer and a client over a network that loses, reorders and repeats, in virtual time."""

from __future__ import annotations

import random
import time

import pytest

from media.webrtc import stun
from media.webrtc.certificate import Certificate
from media.webrtc.client import ClientPeer
from media.webrtc.dtls import DtlsRole, Fingerprint
from media.webrtc.ice import IceCredentials
from media.webrtc.peer import (
    CONSENT_NS,
    HALF_OPEN_NS,
    AddressValidated,
    Closed,
    CloseReason,
    Drop,
    Nominated,
    Peer,
    PeerEvent,
    Secured,
    Transmit,
)
from media.webrtc.srtp import SrtpKeys, open_receiver, open_sender

CERTIFICATE = Certificate.self_made()
CLIENT_CERTIFICATE = Certificate.self_made()
HERE, THERE, ELSEWHERE = ("192.0.2.1", 1000), ("192.0.2.2", 2000), ("198.51.100.9", 9)
TICK_NS = 5_000_000


def fingerprint(certificate: Certificate) -> Fingerprint:
    return Fingerprint("sha-256", bytes.fromhex(certificate.fingerprint.replace(":", "")))


class World:
    """Both ends, a network between them, and what each was told."""

    def __init__(self, *, seed: int = 0, loss: float = 0.0, server_is_client: bool = False) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.now_ns = 1_000_000_000
        ours, theirs = IceCredentials.random(), IceCredentials.random()
        roles = (DtlsRole.CLIENT, DtlsRole.SERVER) if server_is_client else (DtlsRole.SERVER, DtlsRole.CLIENT)
        self.server = Peer(
            certificate=CERTIFICATE,
            local=ours,
            remote=theirs,
            fingerprints=[fingerprint(CLIENT_CERTIFICATE)],
            dtls_role=roles[0],
            now_ns=self.now_ns,
        )
        self.client = ClientPeer(
            certificate=CLIENT_CERTIFICATE,
            local=theirs,
            remote=ours,
            fingerprints=[fingerprint(CERTIFICATE)],
            dtls_role=roles[1],
            remote_address=HERE,
            now_ns=self.now_ns,
        )
        self.flying: list[tuple[int, str, bytes]] = []
        self.events: list[PeerEvent] = []
        self.client_keys: SrtpKeys | None = None
        self.dropped: set[int] = set()
        self.sent = 0

    @property
    def server_keys(self) -> SrtpKeys | None:
        return next((event.keys for event in self.events if isinstance(event, Secured)), None)

    def take(self, events: list[PeerEvent], to: str) -> None:
        for event in events:
            if isinstance(event, Transmit):
                self.sent += 1
                copies = 1 + (self.loss > 0 and self.random.random() < 0.1)
                if self.random.random() < self.loss or self.sent in self.dropped:
                    continue
                for _ in range(copies):
                    delay_ns = self.random.randrange(1, 4 if self.loss else 2) * TICK_NS
                    self.flying.append((self.now_ns + delay_ns, to, event.datagram))
            elif to == "server" and isinstance(event, Secured):
                self.client_keys = event.keys
            elif to == "client":
                self.events.append(event)

    def step(self) -> None:
        self.now_ns += TICK_NS
        arrived = [item for item in self.flying if item[0] <= self.now_ns]
        self.flying = [item for item in self.flying if item[0] > self.now_ns]
        for _, to, datagram in arrived:
            if to == "server":
                self.take(self.server.receive_untrusted(datagram, THERE, self.now_ns), "client")
            else:
                self.take(self.client.receive_untrusted(datagram, self.now_ns), "server")
        if self.client.deadline_ns() <= self.now_ns:
            self.take(self.client.handle_timeout(self.now_ns), "server")
        if self.server.deadline_ns() <= self.now_ns:
            self.take(self.server.handle_timeout(self.now_ns), "client")

    def connect(self, steps: int = 600) -> None:
        self.take(self.client.start(self.now_ns), "server")
        for _ in range(steps):
            self.step()
            if self.server_keys and self.client_keys:
                return


def assert_keys_fit(world: World) -> None:
    assert world.server_keys is not None
    assert world.client_keys is not None
    packet = bytes([0x80, 96, 0, 1]) + bytes(8) + b"payload"
    assert open_receiver(world.client_keys).unprotect(open_sender(world.server_keys).protect(packet)) == packet
    assert open_receiver(world.server_keys).unprotect(open_sender(world.client_keys).protect(packet)) == packet


@pytest.mark.parametrize("server_is_client", [False, True])
def test_both_ends_agree_on_keys_in_either_dtls_role(server_is_client: bool) -> None:
    world = World(server_is_client=server_is_client)
    world.connect()
    assert_keys_fit(world)
    assert AddressValidated(THERE) in world.events
    assert Nominated(THERE) in world.events


@pytest.mark.parametrize("lost", range(1, 9))
def test_the_loss_of_any_one_datagram_is_repaired(lost: int) -> None:
    world = World()
    world.dropped = {lost}
    world.connect()
    # OpenSSL's timer is a wall clock, so a flight that only it repeats needs real time: let it pass.
    if world.server_keys is None or world.client_keys is None:
        time.sleep(1.05)
        for _ in range(200):
            world.step()
            world.client._dtls_due_ns = min(world.client._dtls_due_ns, world.now_ns)
            world.server._dtls_due_ns = min(world.server._dtls_due_ns, world.now_ns)
    assert_keys_fit(world)


def test_a_check_with_a_wrong_password_gets_no_answer_and_validates_nothing() -> None:
    world = World()
    username = f"{world.server.local.ufrag}:{world.server.remote.ufrag}"
    forged = stun.binding_request(bytes(12), username, "w" * 24, priority=1, tie_breaker=1, nominates=True)
    assert world.server.receive_untrusted(forged, ELSEWHERE, world.now_ns) == []
    assert world.server.drops[Drop.WRONG_PASSWORD] == 1


def test_dtls_from_an_address_that_was_never_validated_is_dropped() -> None:
    world = World()
    assert world.server.receive_untrusted(b"\x16\xfe\xfd" + bytes(60), ELSEWHERE, world.now_ns) == []
    assert world.server.drops[Drop.ADDRESS_NOT_VALIDATED] == 1


def test_a_certificate_that_was_not_promised_gets_no_keys() -> None:
    world = World()
    world.server._dtls._fingerprints = (fingerprint(CERTIFICATE),)
    world.connect(100)
    assert world.server_keys is None
    assert Closed(CloseReason.DTLS_FAILED) in world.events


def test_an_offer_whose_client_never_comes_ends_after_half_a_minute() -> None:
    world = World()
    assert world.server.deadline_ns() == world.now_ns + HALF_OPEN_NS
    assert world.server.handle_timeout(world.now_ns + HALF_OPEN_NS) == [Closed(CloseReason.NEVER_CAME)]


def test_silence_ends_consent_and_media_extends_it() -> None:
    world = World()
    world.connect()
    silent_ns = world.server.deadline_ns()
    world.server.saw_media(world.now_ns + CONSENT_NS // 2)
    assert world.server.handle_timeout(silent_ns) == []
    assert Closed(CloseReason.CONSENT_EXPIRED) in world.server.handle_timeout(world.server.deadline_ns())


def test_close_notify_of_the_client_ends_the_peer() -> None:
    world = World()
    world.connect()
    world.take(world.client.close(), "server")
    for _ in range(5):
        world.step()
    assert Closed(CloseReason.CLOSED_BY_PEER) in world.events


def test_an_ice_restart_moves_the_path_and_keeps_the_keys() -> None:
    world = World()
    world.connect()
    fresh = IceCredentials.random()
    old = world.server.local
    local = world.server.restart_ice(fresh)
    assert world.server.local_ufrags == (old.ufrag, local.ufrag)
    request = stun.binding_request(
        bytes(12), f"{local.ufrag}:{fresh.ufrag}", local.password, priority=1, tie_breaker=1, nominates=True
    )
    events = world.server.receive_untrusted(request, ELSEWHERE, world.now_ns)
    assert Nominated(ELSEWHERE) in events
    assert world.server.local_ufrags == (local.ufrag,)
    assert world.server.is_secured


JUNK = {
    "garbage handshake": b"\x16\xfe\xfd" + bytes(7) + b"\x07\x00\x20" + bytes(range(32)),
    "fatal alert": b"\x15\xfe\xfd" + bytes(7) + b"\x09\x00\x02\x02\x28",
    "close_notify": b"\x15\xfe\xfd" + bytes(7) + b"\x09\x00\x02\x01\x00",
    "application data": b"\x17\xfe\xfd" + bytes(7) + b"\x05\x00\x05hello",
    "huge fragment": b"\x16\xfe\xfd" + bytes(7) + b"\x05\x00\x10\x01\xff\xff\xff" + bytes(7) + b"\x04abcd",
    "truncated": b"\x16\xfe\xfd\x00",
    "stray change cipher spec": b"\x14\xfe\xfd" + bytes(7) + b"\x05\x00\x01\x01",
    "epoch 1 junk": b"\x16\xfe\xfd\x00\x01" + bytes(5) + b"\x05\x00\x20" + bytes(32),
    "empty": b"\x16",
}


@pytest.mark.parametrize("name", JUNK)
@pytest.mark.parametrize("moment", [1, 3, 5, 7, 30])
def test_junk_from_the_peers_own_address_never_ends_a_session(name: str, moment: int) -> None:
    world = World()
    world.take(world.client.start(world.now_ns), "server")
    for number in range(60):
        if number == moment:
            world.take(world.server.receive_untrusted(JUNK[name], THERE, world.now_ns), "client")
        world.step()
    assert_keys_fit(world)
    assert not any(isinstance(event, Closed) for event in world.events)

"""A peer and a client over a network that loses, reorders and repeats, in virtual time; and what strangers can't do."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.webrtc import stun
from media.webrtc.dtls_records import records_untrusted
from media.webrtc.events import (
    AddressForgotten,
    AddressValidated,
    Closed,
    CloseReason,
    Drop,
    Nominated,
    PeerEvent,
    Secured,
    Transmit,
)
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.peer import CONSENT_NS, HALF_OPEN_NS, MAX_ADDRESSES, Peer
from tests.media.transports import (
    CERTIFICATE,
    ELSEWHERE,
    SECOND_NS,
    THERE,
    World,
    assert_keys_fit,
    fingerprint,
    is_dtls,
    message,
    record,
    recorded,
)


def a_check(peer: Peer, *, nominates: bool = False, password: str | None = None, username: str | None = None) -> bytes:
    return stun.binding_request(
        bytes(12),
        username or f"{peer.local.ufrag}:{peer.remote.ufrag}",
        password or peer.local.password,
        priority=1,
        tie_breaker=1,
        nominates=nominates,
    )


def check_from(world: World, address: Address, *, nominates: bool = False) -> list[PeerEvent]:
    return world.server.receive_untrusted(a_check(world.server, nominates=nominates), address, world.now_ns)


def answer_in(events: list[PeerEvent]) -> stun.Binding:
    answer = next(event for event in events if isinstance(event, Transmit))
    parsed = stun.parse_untrusted(answer.datagram)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize("server_is_client", [False, True])
def test_both_ends_agree_on_keys_in_either_dtls_role(server_is_client: bool) -> None:
    world = World(server_is_client=server_is_client)
    assert world.connect() < 0.1
    assert_keys_fit(world.server_keys, world.client_keys)
    assert AddressValidated(THERE) in world.told_server
    assert Nominated(THERE) in world.told_server


@pytest.mark.parametrize("server_is_client", [False, True])
@pytest.mark.parametrize("lost", range(1, 10))
def test_the_loss_of_any_one_datagram_is_repaired_within_half_a_second(lost: int, server_is_client: bool) -> None:
    world = World(server_is_client=server_is_client)
    world.drop_numbers = {lost}
    assert world.connect() < 0.6
    assert_keys_fit(world.server_keys, world.client_keys)


def test_a_lost_flight_costs_no_more_than_the_next_hello_of_a_browser() -> None:
    world = World()
    check_from(world, THERE)
    first_part, second_part = recorded("chromium156", "dtls")[:2]
    assert world.tell_server(first_part) == []
    [flight] = world.tell_server(second_part)
    world.now_ns += 50_000_000
    assert world.tell_server(first_part) == [flight]
    assert world.tell_server(second_part) == []


@pytest.mark.parametrize("server_is_client", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_bad_network_delays_but_never_prevents_equal_keys(seed: int, server_is_client: bool) -> None:
    world = World(seed=seed, loss=0.05 * (seed % 6), server_is_client=server_is_client)
    world.connect()
    assert_keys_fit(world.server_keys, world.client_keys)
    world.run(40)
    assert world.closings() == []


# -- what one spoofed datagram does: nothing ---------------------------------------------------------------------------

NULL_CIPHER_HELLO = record(22, message(1, b"\xfe\xfd" + bytes(32) + b"\0\0\0\x02\0\0\x01\0"))
SPOOFED = {
    "garbage handshake": [record(22, bytes(range(32)))],
    "hello with the null cipher": [NULL_CIPHER_HELLO],
    "fatal alert": [record(21, b"\x02\x28")],
    "close_notify": [record(21, b"\x01\x00")],
    "application data": [record(23, b"hello")],
    "claim of 16 MB": [record(22, message(1, b"abcd", total=0xFFFFFF))],
    "fragment of nothing": [record(22, message(11, b"", total=4096, number=1))],
    "hello out of turn": [record(22, message(1, b"abcd", number=1))],
    "key exchange out of turn": [record(22, message(16, b"abcd", number=1))],
    "truncated": [b"\x16", b"\x16\xfe\xfd\0\0", record(22, b"")[:-2] + b"\xff\xff"],
    "epoch 1 junk": [record(22, bytes(32), epoch=1), record(21, bytes(32), epoch=1, sequence=2**47)],
    "epoch 2 junk": [record(22, bytes(32), epoch=2)],
    "stray change cipher spec": [record(20, b"\x01")],
    "far ahead": [record(20, b"\x01", sequence=2**47)],
    "wrong version": [record(22, message(1, bytes(60)), version=0x0303)],
    "flood of fragments": [
        record(22, message(11, b"x" * 10, total=16_000, number=number % 12), sequence=number) for number in range(300)
    ],
    "server hello done": [record(22, message(14, b"", number=3))],
    "hello request": [record(22, message(0, b""))],
}
MOMENTS = {"before the handshake": 1, "in the middle of it": 2, "after it": None}


@pytest.mark.parametrize("server_is_client", [False, True])
@pytest.mark.parametrize("target", ["server", "client"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", SPOOFED)
def test_a_spoofed_datagram_ends_no_session(name: str, moment: str, target: str, server_is_client: bool) -> None:
    world = World(server_is_client=server_is_client)
    arrivals = 0

    def spoof(to: str, datagram: bytes) -> None:
        nonlocal arrivals
        arrivals += to == target and is_dtls(datagram)
        if arrivals == MOMENTS[moment]:
            inject()
            arrivals += 1

    def inject() -> None:
        for junk in SPOOFED[name]:
            (world.tell_server if target == "server" else world.tell_client)(junk)

    world.before_delivery = spoof
    world.connect()
    if MOMENTS[moment] is None:
        inject()
        world.run(60)
    assert_keys_fit(world.server_keys, world.client_keys)
    assert world.closings() == []


@pytest.mark.parametrize("moment", [1, 2])
def test_a_hello_replayed_by_somebody_changes_nothing(moment: int) -> None:
    world = World()
    seen: list[bytes] = []

    def replay(to: str, datagram: bytes) -> None:
        if to == "server" and is_dtls(datagram):
            seen.append(datagram)
            if len(seen) == moment:
                for _ in range(20):
                    world.tell_server(seen[0])

    world.before_delivery = replay
    world.connect()
    for old in seen:
        world.tell_server(old)
    world.run(40)
    assert_keys_fit(world.server_keys, world.client_keys)
    assert world.closings() == []


@given(st.binary(max_size=200))
def test_any_bytes_from_anywhere_raise_nothing_and_are_counted(datagram: bytes) -> None:
    world = World()
    assert world.server.receive_untrusted(datagram, ELSEWHERE, world.now_ns) == []
    check_from(world, THERE)
    world.server.receive_untrusted(datagram, THERE, world.now_ns)
    assert sum(world.server.drops.values()) >= 1
    assert sum(world.server.counters().values()) >= 1


# -- ICE: who is believed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda peer: a_check(peer, password="w" * 24), Drop.WRONG_PASSWORD),
        (lambda peer: a_check(peer, password=peer.remote.password), Drop.WRONG_PASSWORD),
        (lambda peer: a_check(peer, username=f"{peer.local.ufrag}:else"), Drop.WRONG_USERNAME),
        (lambda peer: a_check(peer, username=f"else:{peer.remote.ufrag}"), Drop.WRONG_USERNAME),
        (lambda peer: a_check(peer, username=peer.local.ufrag), Drop.WRONG_USERNAME),
        (lambda peer: a_check(peer)[:-8], Drop.NOT_STUN),
        (lambda peer: stun.success_response(bytes(12), THERE, peer.local.password), Drop.NOT_A_REQUEST),
        (lambda peer: recorded("gstreamer122", "stun")[2], Drop.NOT_A_REQUEST),
        (lambda peer: record(22, message(1, bytes(60))), Drop.ADDRESS_NOT_VALIDATED),
        (lambda peer: b"\x80\x60" + bytes(40), Drop.NOT_OURS),
        (lambda peer: b"", Drop.NOT_OURS),
    ],
)
def test_what_cannot_be_believed_gets_no_answer_and_validates_nothing(
    change: Callable[[Peer], bytes], reason: Drop
) -> None:
    world = World()
    before = world.server.deadline_ns()
    assert world.server.receive_untrusted(change(world.server), ELSEWHERE, world.now_ns) == []
    assert world.server.drops == {reason: 1}
    assert world.server.deadline_ns() == before


def test_a_check_is_answered_with_the_address_it_came_from() -> None:
    answer = answer_in(check_from(World(), ELSEWHERE))
    assert answer.method is stun.Method.SUCCESS
    assert answer.mapped_address == ELSEWHERE


def test_an_unknown_required_attribute_is_refused_only_to_who_knows_the_password() -> None:
    world = World()
    for password, is_answered in ((world.server.local.password, True), ("w" * 24, False)):
        username = f"{world.server.local.ufrag}:{world.server.remote.ufrag}"
        odd = stun._sealed(
            stun.Method.REQUEST,
            bytes(12),
            [(stun.Attribute.USERNAME, username.encode()), (0x7FFF, b"")],  # type: ignore[list-item]
            password,
        )
        events = world.server.receive_untrusted(odd, ELSEWHERE, world.now_ns)
        assert [type(event) for event in events] == [Transmit] * is_answered
        if is_answered:
            assert answer_in(events).attributes[stun.Attribute.ERROR_CODE][:4] == b"\0\0\x04\x14"
            assert answer_in(events).attributes[stun.Attribute.UNKNOWN_ATTRIBUTES] == b"\x7f\xff"


def test_dtls_starts_before_any_nomination() -> None:
    world = World(server_is_client=True)
    events = check_from(world, THERE)
    assert [is_dtls(event.datagram) for event in events if isinstance(event, Transmit)] == [False, True]


def test_a_nomination_moves_the_path_at_once_and_a_plain_check_does_not() -> None:
    world = World()
    world.connect()
    assert Nominated(ELSEWHERE) not in check_from(world, ELSEWHERE)
    assert Nominated(ELSEWHERE) in check_from(world, ELSEWHERE, nominates=True)
    assert Nominated(THERE) not in check_from(world, THERE)
    assert Nominated(THERE) in check_from(world, THERE, nominates=True)


def test_without_a_nomination_media_goes_where_the_handshake_proved_itself() -> None:
    world = World()
    world.dropped = lambda to, datagram: not is_dtls(datagram)
    check_from(world, ELSEWHERE)
    check_from(world, THERE)
    request = world.client.start(world.now_ns)[0]
    assert isinstance(request, Transmit)
    parsed = stun.parse_untrusted(request.datagram)
    assert parsed is not None
    answer = stun.success_response(parsed.transaction, THERE, world.server.local.password)
    world.tell_client(answer)
    world.run(1)
    places = [event for event in world.told_server if isinstance(event, Nominated | Secured)]
    assert places[0] == Nominated(THERE)
    assert isinstance(places[1], Secured)


def test_addresses_are_few_and_the_one_in_use_is_never_forgotten() -> None:
    world = World()
    world.connect()
    roaming = [("198.51.100.1", port) for port in range(1, 3 * MAX_ADDRESSES)]
    forgotten = [event for address in roaming for event in check_from(world, address)]
    gone = [event.address for event in forgotten if isinstance(event, AddressForgotten)]
    assert gone == roaming[: len(roaming) - MAX_ADDRESSES + 1]
    assert THERE not in gone


def test_an_address_that_lost_consent_is_forgotten_at_the_next_check() -> None:
    world = World()
    world.connect()
    check_from(world, ELSEWHERE)
    world.now_ns += CONSENT_NS
    assert AddressForgotten(ELSEWHERE) in check_from(world, THERE)
    junk = record(22, bytes(60), epoch=1)
    assert world.server.receive_untrusted(junk, ELSEWHERE, world.now_ns) == []
    assert world.server.drops[Drop.ADDRESS_NOT_VALIDATED] == 1


# -- ICE restart -------------------------------------------------------------------------------------------------------


def test_an_ice_restart_moves_the_path_and_keeps_the_keys() -> None:
    world = World()
    world.connect()
    old, fresh = world.server.local, IceCredentials.random()
    local = world.server.restart_ice(fresh)
    assert world.server.local_ufrags == (old.ufrag, local.ufrag)
    assert answer_in(check_from(world, THERE)).is_authentic(old.password)
    check = a_check(world.server, username=f"{local.ufrag}:{fresh.ufrag}", password=local.password, nominates=True)
    events = world.server.receive_untrusted(check, ELSEWHERE, world.now_ns)
    assert answer_in(events).is_authentic(local.password)
    assert Nominated(ELSEWHERE) in events
    assert world.server.local_ufrags == (local.ufrag,)
    assert world.server.is_secured
    assert check_from(world, ELSEWHERE)
    with_old = a_check(world.server, username=f"{old.ufrag}:{world.client.local.ufrag}", password=old.password)
    assert world.server.receive_untrusted(with_old, THERE, world.now_ns) == []


def test_the_two_halves_of_old_and_new_credentials_do_not_mix() -> None:
    world = World()
    old_remote, fresh = world.server.remote, IceCredentials.random()
    local = world.server.restart_ice(fresh)
    mixed = [f"{local.ufrag}:{old_remote.ufrag}", f"{world.server.local.ufrag}:{fresh.ufrag}"]
    for username in mixed:
        check = a_check(world.server, username=username, password=local.password)
        assert world.server.receive_untrusted(check, THERE, world.now_ns) == []
    wrong = a_check(world.server, username=f"{local.ufrag}:{fresh.ufrag}")
    assert world.server.receive_untrusted(wrong, THERE, world.now_ns) == []
    assert world.server.drops == {Drop.WRONG_USERNAME: 2, Drop.WRONG_PASSWORD: 1}
    assert len(world.server.local_ufrags) == 2


def test_the_client_goes_on_across_an_ice_restart() -> None:
    world = World()
    world.connect()
    fresh = IceCredentials.random()
    remote = world.server.restart_ice(fresh)
    world.take_from_client(world.client.restart_ice(fresh, remote, world.now_ns))
    world.run(60)
    assert world.server.local_ufrags == (remote.ufrag,)
    assert world.closings() == []


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_certificate_that_was_not_promised_gets_no_keys() -> None:
    world = World(promised=[fingerprint(CERTIFICATE)])
    world.connect(5)
    assert world.server_keys is None
    assert Closed(CloseReason.DTLS_FAILED) in world.told_server
    assert Closed(CloseReason.CLOSED_BY_PEER) in world.told_client


def test_a_client_refuses_a_server_that_shows_another_certificate() -> None:
    world = World(promised_by_server=[])
    world.connect(5)
    assert world.client_keys is None
    assert Closed(CloseReason.DTLS_FAILED) in world.told_client


def test_an_offer_whose_client_never_comes_ends_after_half_a_minute() -> None:
    world = World()
    due_ns = world.server.deadline_ns()
    assert due_ns == world.now_ns + HALF_OPEN_NS
    assert world.server.handle_timeout(due_ns - 1) == []
    assert world.server.handle_timeout(due_ns) == [Closed(CloseReason.NEVER_CAME)]


def test_a_client_that_came_late_still_has_half_a_minute_for_its_handshake() -> None:
    world = World()
    world.now_ns += HALF_OPEN_NS - 1
    check_from(world, THERE)
    due_ns = world.server.deadline_ns()
    assert due_ns == world.now_ns + HALF_OPEN_NS
    world.now_ns += HALF_OPEN_NS // 2
    check_from(world, ELSEWHERE)
    assert world.server.deadline_ns() == due_ns
    assert world.server.handle_timeout(due_ns) == [Closed(CloseReason.DTLS_TIMEOUT)]


def test_silence_ends_consent_and_media_extends_it() -> None:
    world = World()
    world.connect()
    silent_ns = world.server.deadline_ns()
    world.server.saw_media(world.now_ns + CONSENT_NS // 2)
    assert world.server.handle_timeout(silent_ns) == []
    assert world.server.deadline_ns() > silent_ns
    ending = world.server.handle_timeout(world.server.deadline_ns())
    assert ending[-1] == Closed(CloseReason.CONSENT_EXPIRED)
    assert isinstance(ending[0], Transmit)


def test_junk_does_not_extend_consent() -> None:
    world = World()
    world.connect()
    due_ns = world.server.deadline_ns()
    world.now_ns += SECOND_NS
    for junk in (record(22, bytes(60), epoch=1), a_check(world.server, password="w" * 24), b"\x80" * 50):
        world.tell_server(junk)
    assert world.server.deadline_ns() == due_ns


def test_close_notify_of_the_client_ends_the_peer() -> None:
    world = World()
    world.connect()
    world.take_from_client(world.client.close())
    world.run(0.1)
    assert Closed(CloseReason.CLOSED_BY_PEER) in world.told_server


def test_a_closed_peer_revokes_consent() -> None:
    world = World()
    world.connect()
    assert [is_dtls(event.datagram) for event in world.server.close() if isinstance(event, Transmit)] == [True]
    assert check_from(world, THERE, nominates=True) == world.server.close() == world.server.handle_timeout(2**62) == []
    assert world.server.drops[Drop.CLOSED] == 1


def test_every_datagram_fits_the_path() -> None:
    world = World()
    world.connect()
    assert max(map(len, world.sent)) <= 1200
    flights = [datagram for datagram in world.sent if is_dtls(datagram)]
    assert all(sum(len(part.raw) for part in records_untrusted(flight)) == len(flight) for flight in flights)
    assert struct.unpack_from("!H", flights[0], 3)[0] == 0

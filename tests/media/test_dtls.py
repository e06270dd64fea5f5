"""DTLS: real hellos, every way to lose or reorder a handshake, and who is refused keys."""

from __future__ import annotations

import itertools
import random

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from media.webrtc import dtls as dtls_module
from media.webrtc.certificate import Certificate
from media.webrtc.dtls import (
    FIRST_REPEAT_NS,
    HELLO_ANSWER_NS,
    HELLO_REPEAT_NS,
    MAX_ATTEMPTS,
    NEVER_NS,
    STALE_NS,
    Dtls,
    DtlsRole,
    DtlsState,
    Fingerprint,
)
from media.webrtc.dtls_records import MTU, pack, records_untrusted
from media.webrtc.srtp import SrtpProfile
from tests.media.transports import (
    CERTIFICATE,
    CLIENT_CERTIFICATE,
    RECORDED_CLIENTS,
    SECOND_NS,
    assert_keys_fit,
    fingerprint,
    in_fragments,
    message,
    record,
    recorded,
)

HASHES = {"sha-256": hashes.SHA256(), "sha-384": hashes.SHA384(), "sha-512": hashes.SHA512()}


def a_server(*fingerprints: Fingerprint) -> Dtls:
    return Dtls(CERTIFICATE, DtlsRole.SERVER, fingerprints or [fingerprint(CLIENT_CERTIFICATE)])


def a_client(certificate: Certificate = CLIENT_CERTIFICATE) -> Dtls:
    return Dtls(certificate, DtlsRole.CLIENT, [fingerprint(CERTIFICATE)])


def tell(association: Dtls, datagrams: list[bytes], now_ns: int = SECOND_NS) -> list[bytes]:
    return [answer for datagram in datagrams for answer in association.receive_untrusted(datagram, now_ns)]


def finish(server: Dtls, client: Dtls, to_server: list[bytes], now_ns: int = SECOND_NS) -> None:
    while to_server:
        to_server = tell(client, tell(server, to_server, now_ns), now_ns)


def secured() -> tuple[Dtls, Dtls]:
    server, client = a_server(), a_client()
    finish(server, client, client.start(SECOND_NS))
    assert_keys_fit(server.keys, client.keys)
    return server, client


@pytest.mark.parametrize("name", RECORDED_CLIENTS)
def test_the_hello_of_a_real_client_gets_a_whole_flight_in_one_datagram(name: str) -> None:
    hellos = [datagram for datagram in recorded(name, "dtls") if datagram[:3] == b"\x16\xfe\xff"]
    *partial, flight = [tell(a_server(), hellos[:count]) for count in range(len(hellos) + 1)]
    assert not any(partial)
    assert [len(flight), len(flight[0]) <= MTU] == [1, True]
    assert [part.raw[13] for part in records_untrusted(flight[0])] == [2, 11, 12, 13, 14]


@pytest.mark.parametrize("name", RECORDED_CLIENTS)
def test_the_parts_of_a_real_hello_may_come_in_any_order_and_twice(name: str) -> None:
    hellos = [datagram for datagram in recorded(name, "dtls") if datagram[:3] == b"\x16\xfe\xff"]
    for order in itertools.permutations(hellos * 2):
        server = a_server()
        assert len(tell(server, list(order))) == 1
        assert server.attempts == 1


@pytest.mark.parametrize("size", [16, 30, 64, 100])
@pytest.mark.parametrize("seed", range(4))
def test_a_hello_in_many_reordered_and_repeated_fragments_connects(size: int, seed: int) -> None:
    server, client = a_server(), a_client()
    [hello] = client.start(SECOND_NS)
    fragments = in_fragments(hello, size) * 2
    random.Random(seed).shuffle(fragments)
    finish(server, client, tell(client, tell(server, fragments)))
    assert_keys_fit(server.keys, client.keys)


def test_gcm_is_chosen_where_the_client_has_it_in_any_place() -> None:
    server, _ = secured()
    assert server.keys is not None
    assert server.keys.profile is SrtpProfile.AEAD_AES_128_GCM


def a_foreign_client(monkeypatch: pytest.MonkeyPatch, srtp: bytes | None) -> tuple[Dtls, Fingerprint]:
    """A client of another make: it offers `srtp` or no SRTP at all, and does not rule out renegotiation."""
    certificate = Certificate.self_made()
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.use_certificate(certificate.cert)
    context.use_privatekey(certificate.key)
    if srtp:
        context.set_tlsext_use_srtp(srtp)
    monkeypatch.setattr(
        dtls_module, "_context", lambda own, role: context if own is certificate else CONTEXT_OF(own, role)
    )
    return a_client(certificate), fingerprint(certificate)


CONTEXT_OF = dtls_module._context


def test_a_client_without_gcm_gets_cm(monkeypatch: pytest.MonkeyPatch) -> None:
    client, shown = a_foreign_client(monkeypatch, b"SRTP_AES128_CM_SHA1_80")
    server = a_server(shown)
    finish(server, client, client.start(SECOND_NS))
    assert_keys_fit(server.keys, client.keys)
    assert server.keys is not None
    assert server.keys.profile is SrtpProfile.AES128_CM_SHA1_80


@pytest.mark.parametrize("srtp", [None, b"SRTP_AES128_CM_SHA1_32", b"SRTP_AEAD_AES_256_GCM"])
def test_a_client_without_a_common_srtp_profile_gets_no_keys(
    monkeypatch: pytest.MonkeyPatch, srtp: bytes | None
) -> None:
    client, shown = a_foreign_client(monkeypatch, srtp)
    server = a_server(shown)
    finish(server, client, client.start(SECOND_NS))
    assert (server.state, server.keys) == (DtlsState.FAILED, None)


def test_renegotiation_is_refused_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client, shown = a_foreign_client(monkeypatch, b"SRTP_AEAD_AES_128_GCM")
    server = a_server(shown)
    finish(server, client, client.start(SECOND_NS))
    keys = server.keys
    assert client._connection is not None
    client._connection.renegotiate()
    with pytest.raises(SSL.WantReadError):
        client._connection.do_handshake()
    hello = client._outgoing(client._connection)
    assert hello
    tell(server, hello)
    assert (server.state, server.keys) == (DtlsState.SECURED, keys)


def test_a_certificate_that_was_not_promised_gets_no_keys_but_a_goodbye() -> None:
    server, client = a_server(fingerprint(CERTIFICATE)), a_client()
    finish(server, client, client.start(SECOND_NS))
    assert (server.state, server.keys) == (DtlsState.FAILED, None)
    assert client.state is DtlsState.CLOSED


@pytest.mark.parametrize("algorithm", HASHES)
def test_any_fingerprint_of_the_best_offered_hash_will_do(algorithm: str) -> None:
    digest = CLIENT_CERTIFICATE.cert.fingerprint(HASHES[algorithm])
    right, wrong = Fingerprint(algorithm, digest), Fingerprint(algorithm, bytes(len(digest)))
    weaker = Fingerprint("sha-256", bytes(32)) if algorithm != "sha-256" else Fingerprint("md5", bytes(16))
    for offered, is_taken in (([wrong, right, weaker], True), ([wrong, weaker], False), ([], False)):
        server, client = Dtls(CERTIFICATE, DtlsRole.SERVER, offered), a_client()
        finish(server, client, client.start(SECOND_NS))
        assert (server.state is DtlsState.SECURED) is is_taken


def test_a_right_fingerprint_of_a_weaker_hash_does_not_excuse_a_wrong_one_of_a_better() -> None:
    server, client = a_server(fingerprint(CLIENT_CERTIFICATE), Fingerprint("sha-512", bytes(64))), a_client()
    finish(server, client, client.start(SECOND_NS))
    assert server.state is DtlsState.FAILED


def test_a_repeated_hello_repeats_the_flight_but_not_faster_than_clients_do() -> None:
    server, client = a_server(), a_client()
    hello = client.start(SECOND_NS)
    flight = tell(server, hello)
    assert tell(server, hello, SECOND_NS + HELLO_ANSWER_NS - 1) == []
    assert tell(server, hello, SECOND_NS + HELLO_ANSWER_NS) == flight
    assert tell(server, hello * 50, SECOND_NS + 2 * HELLO_ANSWER_NS) == flight
    assert (server.repeated_flights, server.attempts) == (2, 1)


def test_a_flight_is_repeated_with_growing_pauses_until_the_limit() -> None:
    server, client = a_server(), a_client()
    flight = tell(server, client.start(SECOND_NS))
    now_ns, pauses = SECOND_NS, []
    while server.deadline_ns() != NEVER_NS:
        assert server.handle_timeout(server.deadline_ns() - 1) == []
        pauses.append(server.deadline_ns() - now_ns)
        now_ns = server.deadline_ns()
        assert server.handle_timeout(now_ns) == flight
    assert pauses[:5] == [FIRST_REPEAT_NS << doubling for doubling in range(5)]
    assert len(pauses) == 10


def test_our_own_hello_is_repeated_soon_until_something_is_heard() -> None:
    server, client = a_server(), a_client()
    hello = client.start(SECOND_NS)
    now_ns, pauses = SECOND_NS, []
    for _ in range(4):
        pauses.append(client.deadline_ns() - now_ns)
        now_ns = client.deadline_ns()
        assert client.handle_timeout(now_ns) == hello
    assert pauses == [HELLO_REPEAT_NS << doubling for doubling in range(4)]
    tell(client, tell(server, hello, now_ns), now_ns)
    assert client.deadline_ns() - now_ns == FIRST_REPEAT_NS


def test_a_repeated_finish_of_the_client_repeats_the_servers() -> None:
    server, client = a_server(), a_client()
    to_server = tell(client, tell(server, client.start(SECOND_NS)))
    lost = tell(server, to_server)
    assert server.state is DtlsState.SECURED
    later_ns = client.deadline_ns()
    assert client.handle_timeout(later_ns) == to_server
    assert tell(server, to_server, later_ns) == lost
    tell(client, lost, later_ns)
    assert_keys_fit(server.keys, client.keys)


def test_close_notify_is_said_and_answered_from_either_side() -> None:
    for pair in (secured(), secured()[::-1]):
        leaving, staying = pair
        farewell = leaving.close()
        assert leaving.state is DtlsState.CLOSED
        answer = tell(staying, farewell)
        assert staying.state is DtlsState.CLOSED
        assert len(answer) == 1
        assert tell(leaving, answer) == leaving.close() == staying.close() == []


def test_a_record_numbered_far_ahead_does_not_make_the_honest_ones_look_old() -> None:
    server, client = a_server(), a_client()
    flight = tell(server, client.start(SECOND_NS))
    assert tell(server, [record(20, b"\x01", sequence=2**47)]) == []
    finish(server, client, tell(client, flight))
    assert_keys_fit(server.keys, client.keys)


def broken_hello() -> bytes:
    """A ClientHello that offers only the NULL cipher: plausible by its form, and fatal to OpenSSL."""
    body = b"\xfe\xfd" + bytes(range(32)) + b"\0\0\0\x02\0\0\x01\0"
    return record(22, message(1, body))


def test_a_hello_that_openssl_refuses_is_no_end_and_provokes_no_alert() -> None:
    server, client = a_server(), a_client()
    for spoofed in range(MAX_ATTEMPTS - 1):
        assert tell(server, [broken_hello()]) == []
        assert (server.state, server.attempts) == (DtlsState.HANDSHAKING, spoofed + 1)
    finish(server, client, client.start(SECOND_NS))
    assert_keys_fit(server.keys, client.keys)


def test_refused_hellos_end_the_association_at_the_limit_and_then_the_client_is_told() -> None:
    server = a_server()
    answers = [tell(server, [broken_hello()]) for _ in range(MAX_ATTEMPTS)]
    assert server.state is DtlsState.FAILED
    assert [bool(answer) for answer in answers] == [False] * (MAX_ATTEMPTS - 1) + [True]
    assert tell(server, [broken_hello()]) == []
    assert server.deadline_ns() == NEVER_NS


def test_a_client_may_start_over_when_its_first_handshake_fell_silent() -> None:
    server, dead, client = a_server(), a_client(), a_client()
    flight = tell(server, dead.start(SECOND_NS))
    hello = client.start(SECOND_NS)
    assert tell(server, hello, SECOND_NS + STALE_NS - 1) == flight
    finish(server, client, hello, SECOND_NS + STALE_NS)
    assert_keys_fit(server.keys, client.keys)


def test_the_client_role_starts_over_after_a_failure_with_a_pause() -> None:
    client, first, second = a_client(), a_server(), a_server()
    [flight] = tell(first, client.start(SECOND_NS))
    parts = [part.raw for part in records_untrusted(flight)]
    assert parts[2][13] == 12
    parts[2] = parts[2][:-1] + bytes([parts[2][-1] ^ 1])  # the signature of the ServerKeyExchange
    tell(client, [b"".join(parts)])
    assert (client.state, client.attempts) == (DtlsState.HANDSHAKING, 1)
    hello = client.handle_timeout(client.deadline_ns())
    assert client.attempts == 2
    finish(second, client, hello)
    assert_keys_fit(second.keys, client.keys)


def test_no_flight_is_larger_than_the_mtu_even_with_a_large_certificate() -> None:
    records = [record(22, bytes(size), sequence=size) for size in (500, 500, 500, 100, 1187, 1187, 1)]
    datagrams = pack(part for item in records for part in records_untrusted(item))
    assert b"".join(datagrams) == b"".join(records)
    assert all(len(datagram) <= MTU for datagram in datagrams)


@given(st.binary(max_size=300))
def test_any_bytes_leave_a_secured_association_alone(datagram: bytes) -> None:
    SECURED[0].receive_untrusted(datagram, SECOND_NS)
    SECURED[1].receive_untrusted(datagram, SECOND_NS)
    assert {association.state for association in SECURED} == {DtlsState.SECURED}


SECURED = secured()


@settings(deadline=None, max_examples=150)
@given(
    target=st.integers(0, 3),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 40),
)
def test_any_change_to_any_datagram_of_a_handshake_raises_nothing(
    target: int, changes: list[tuple[int, int]], cut: int
) -> None:
    server, client = a_server(), a_client()
    flight = client.start(SECOND_NS)
    for turn, receiver in enumerate((server, client, server, client)):
        if turn == target and flight:
            changed = bytearray(flight[0])
            for position, value in changes:
                changed[position % len(changed)] = value
            flight[0] = bytes(changed[: len(changed) - cut])
        flight = tell(receiver, flight)
        assert all(len(datagram) <= MTU for datagram in flight)
    for association in (server, client):
        association.handle_timeout(min(association.deadline_ns(), 60 * SECOND_NS))
        assert association.keys is None or association.state is not DtlsState.FAILED

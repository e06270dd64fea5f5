"""The libsrtp functions that the kernel calls, against the vectors of RFC 3711 and RFC 7714."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numba import njit, types
from pylibsrtp import Error, Session

from media.io.native import srtp_protect, srtp_unprotect
from media.webrtc.srtp import SrtpKeys, SrtpProfile, context_address, open_receiver, open_sender
from tests.media import srtp_model as model

# RFC 3711 appendix B.3
MASTER = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139" + "0EC675AD498AFEEBB6960B3AABE6")
# RFC 7714 section 16: session key, salt and packet of every example
GCM_KEY = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
GCM_SALT = bytes.fromhex("517569642070726f2071756f")
GCM_PACKET = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
GCM_SEALED = (
    "8040f17b8041f8d35501a0b2"
    "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
    "899d7f27beb16a9152cf765ee4390cce"
)


@njit([types.int32(types.uint64, types.uint8[::1], types.int64[::1])], cache=True)
def protect(context, data, size):
    return srtp_protect(context, data.ctypes.data, size.ctypes.data)


@njit([types.int32(types.uint64, types.uint8[::1], types.int64[::1])], cache=True)
def unprotect(context, data, size):
    return srtp_unprotect(context, data.ctypes.data, size.ctypes.data)


def called(function, session: Session, packet: bytes) -> tuple[int, bytes]:  # type: ignore[no-untyped-def]
    """Call a C function as the kernel does: in place, the size in the low half of an int64."""
    data = np.zeros(2048, np.uint8)
    data[: len(packet)] = memoryview(packet)
    size = np.array([len(packet)], np.int64)
    status = function(context_address(session), data, size)
    return int(status), data[: size[0]].tobytes()


def keys(profile: SrtpProfile, master: bytes) -> SrtpKeys:
    return SrtpKeys(profile, master, master)


def test_the_key_derivation_is_that_of_rfc_3711() -> None:
    assert model.derive(MASTER, model.ENCRYPTION, 16).hex().upper() == "C61E7A93744F39EE10734AFE3FF7A087"
    assert model.derive(MASTER, model.SALT, 14).hex().upper() == "30CBBC08863D8C85D49DB34A9AE1"
    expected = "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"
    assert model.derive(MASTER, model.AUTHENTICATION, 20).hex().upper() == expected


def test_the_counter_mode_is_that_of_rfc_3711() -> None:
    session_key, iv = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C"), 0xF0F1F2F3F4F5F6F7F8F9FAFBFCFD0000
    stream = model.keystream(session_key, iv, 0xFF02 * 16)
    assert stream[:48].hex().upper() == (
        "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB41E95B3BB0A2E8DD477901E4FCA894C0"
    )
    assert stream[0xFEFF * 16 :].hex().upper() == (
        "EC8CDF7398607CB0F2D21675EA9EA1E4362B7C3C6773516318A077D7FC5073AE6A2CC3787889374FBEB4C81B17BA6C44"
    )


def test_the_aead_is_that_of_rfc_7714() -> None:
    assert model.seal_gcm(GCM_KEY, GCM_SALT, GCM_PACKET).hex() == GCM_SEALED
    assert model.open_gcm(GCM_KEY, GCM_SALT, bytes.fromhex(GCM_SEALED)) == GCM_PACKET


def test_libsrtps_own_known_answer_comes_out_of_the_kernels_symbols() -> None:
    plain = bytes.fromhex("800f1234decafbadcafebabe") + b"\xab" * 16
    sealed = "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"
    sender = open_sender(keys(SrtpProfile.AES128_CM_SHA1_80, MASTER))
    assert called(protect, sender, plain) == (0, bytes.fromhex(sealed))
    receiver = open_receiver(keys(SrtpProfile.AES128_CM_SHA1_80, MASTER))
    assert called(unprotect, receiver, bytes.fromhex(sealed)) == (0, plain)


@pytest.mark.parametrize("seq", [0, 1, 32_767])
def test_libsrtp_seals_as_the_documents_say_in_both_profiles(seq: int) -> None:
    packet = bytes.fromhex("8060") + seq.to_bytes(2) + bytes.fromhex("0000000112345678") + os.urandom(100)
    assert called(protect, open_sender(keys(SrtpProfile.AES128_CM_SHA1_80, MASTER)), packet) == (
        0,
        model.seal_cm(MASTER, packet),
    )
    gcm_master = MASTER[:28]
    session_key = model.derive(gcm_master, model.ENCRYPTION, 16)
    session_salt = model.derive(gcm_master, model.SALT, 12)
    assert called(protect, open_sender(keys(SrtpProfile.AEAD_AES_128_GCM, gcm_master)), packet) == (
        0,
        model.seal_gcm(session_key, session_salt, packet),
    )


@pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)
def test_the_rollover_counter_goes_on_where_numbers_wrap(profile: SrtpProfile) -> None:
    master = MASTER[: profile.key_size + profile.salt_size]
    sender, receiver = open_sender(keys(profile, master)), open_receiver(keys(profile, master))
    for seq in range(65_000, 66_200, 100):
        packet = bytes.fromhex("8060") + (seq & 0xFFFF).to_bytes(2) + bytes(8) + b"payload"
        _, sealed = called(protect, sender, packet)
        assert called(unprotect, receiver, sealed) == (0, packet)
        if profile is SrtpProfile.AES128_CM_SHA1_80:
            assert sealed == model.seal_cm(master, packet, roc=seq >> 16)


@pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)
@pytest.mark.parametrize("size", range(60))
def test_packets_too_short_for_their_tag_are_refused(profile: SrtpProfile, size: int) -> None:
    master = MASTER[: profile.key_size + profile.salt_size]
    for first, second in ((0x80, 96), (0x8F, 96), (0x90, 96), (0x81, 201)):
        junk = bytes([first, second, 0, 1]) + bytes(56)
        status, _ = called(unprotect, open_receiver(keys(profile, master)), junk[:size])
        assert status != 0
        with pytest.raises(Error):
            open_receiver(keys(profile, master)).unprotect_rtcp(junk[:size])


def test_a_replayed_packet_has_its_own_status() -> None:
    sender, receiver = (make(keys(SrtpProfile.AEAD_AES_128_GCM, MASTER[:28])) for make in (open_sender, open_receiver))
    packet = bytes.fromhex("806000010000000012345678") + b"payload"
    _, sealed = called(protect, sender, packet)
    assert called(unprotect, receiver, sealed)[0] == 0
    assert called(unprotect, receiver, sealed)[0] == 9  # srtp_err_status_replay_fail
    assert called(unprotect, receiver, sealed[:-1] + bytes([sealed[-1] ^ 1]))[0] in (7, 9)
    assert called(protect, sender, packet)[0] == 0  # a repetition is allowed to who sends

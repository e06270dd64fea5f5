"""SRTP keys out of DTLS, and libsrtp sessions for them (RFC 3711, RFC 5764, RFC 7714)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pylibsrtp import Policy, Session, _binding

from media.io.aead import open_aead, own

ENCRYPTION_LABEL, SALT_LABEL = 0, 2  # RFC 3711 section 4.3.2
REPLAY_WINDOW = 1024  # packets; the default of 128 is less than one keyframe at a few Mbit/s


class SrtpProfile(Enum):
    """A protection profile: its OpenSSL name, key and salt sizes in bytes, and libsrtp's number.

    GCM costs less than half of CM with HMAC-SHA1; the latter is mandatory, and all that several clients have.
    """

    AEAD_AES_128_GCM = (b"SRTP_AEAD_AES_128_GCM", 16, 12, Policy.SRTP_PROFILE_AEAD_AES_128_GCM)
    AES128_CM_SHA1_80 = (b"SRTP_AES128_CM_SHA1_80", 16, 14, Policy.SRTP_PROFILE_AES128_CM_SHA1_80)

    @property
    def openssl_name(self) -> bytes:
        """The name in the use_srtp extension's textual form."""
        return self.value[0]

    @property
    def key_size(self) -> int:
        """Bytes of master key."""
        return self.value[1]

    @property
    def salt_size(self) -> int:
        """Bytes of master salt."""
        return self.value[2]

    @property
    def libsrtp_profile(self) -> int:
        """The number that libsrtp gives the profile."""
        return int(self.value[3])

    @classmethod
    def by_name(cls, name: bytes) -> SrtpProfile | None:
        """Find what DTLS negotiated; None for nothing or something never offered."""
        return next((profile for profile in cls if profile.openssl_name == name), None)


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """The master keys of one transport: `local` protects what we send, `remote` what the peer sends (key then salt)."""

    profile: SrtpProfile
    local: bytes = field(repr=False)  # never into a log
    remote: bytes = field(repr=False)

    @classmethod
    def from_exported(cls, profile: SrtpProfile, material: bytes, *, we_are_client: bool) -> SrtpKeys:
        """Cut the exporter's output: client key, server key, client salt, server salt (RFC 5764 section 4.2)."""
        key, salt = profile.key_size, profile.salt_size
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        return cls(profile, client, server) if we_are_client else cls(profile, server, client)


class _RtpCipher:
    """AES-GCM under the session key of a master key: `context` for compiled code, `salt` of 12 octets.

    libsrtp keeps a record of each source, of what it sent and how often; who counts packets itself needs none of it.
    Raises ValueError for another profile.
    """

    def __init__(self, profile: SrtpProfile, master: bytes, *, seals: bool) -> None:
        if profile is not SrtpProfile.AEAD_AES_128_GCM:
            raise ValueError(f"{profile.name} is not AES-GCM")
        size = profile.key_size
        self.salt = derive(master, SALT_LABEL, profile.salt_size, key_size=size)
        key = np.frombuffer(derive(master, ENCRYPTION_LABEL, size, key_size=size), np.uint8)
        self.context = own(self, open_aead(key, seals))


class RtpSealer(_RtpCipher):
    """What compiled code seals RTP with (RFC 7714)."""

    def __init__(self, keys: SrtpKeys) -> None:
        super().__init__(keys.profile, keys.local, seals=True)


class RtpOpener(_RtpCipher):
    """What compiled code opens RTP with."""

    def __init__(self, keys: SrtpKeys) -> None:
        super().__init__(keys.profile, keys.remote, seals=False)


def derive(master: bytes, label: int, size: int, *, key_size: int) -> bytes:
    """Return `size` octets of a session key, of a master key and its salt (RFC 3711 section 4.3.1)."""
    salt = int.from_bytes(master[key_size:].ljust(14, b"\0"))
    start = ((salt ^ label << 48) << 16).to_bytes(16)
    return Cipher(algorithms.AES(master[:key_size]), modes.CTR(start)).encryptor().update(bytes(size))


def open_sender(keys: SrtpKeys) -> Session:
    """Open a session that protects; a packet repeated inside the window is allowed (resends to peers without RTX).

    Several may be opened from the same keys, one for RTP and one for RTCP say, but each SSRC's RTP, and each SSRC's
    RTCP, belongs to one of them alone: two counting the same packets would use a GCM nonce twice (RFC 7714 section 8).
    """
    policy = _policy(keys.local, Policy.SSRC_ANY_OUTBOUND, keys.profile)
    policy.allow_repeat_tx = True
    return Session(policy)


def open_receiver(keys: SrtpKeys) -> Session:
    """Open a session that unprotects; it raises pylibsrtp.Error for a replayed or forged packet."""
    return Session(_policy(keys.remote, Policy.SSRC_ANY_INBOUND, keys.profile))


def context_address(session: Session) -> int:
    """Return the address of libsrtp's context, for compiled code; valid while `session` is referenced."""
    return int(_binding.ffi.cast("uintptr_t", session._srtp[0]))


def _policy(key: bytes, direction: int, profile: SrtpProfile) -> Policy:
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=profile.libsrtp_profile)
    policy.window_size = REPLAY_WINDOW
    return policy

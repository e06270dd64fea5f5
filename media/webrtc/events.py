"""What the two ends of a WebRTC transport report: frozen values, from `Peer` and `ClientPeer` alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from media.webrtc.data_channel import ChannelEvent
from media.webrtc.ice import Path
from media.webrtc.srtp import SrtpKeys


class CloseReason(Enum):
    """Why a transport ended by itself."""

    CLOSED_BY_PEER = "closed_by_peer"
    CONSENT_EXPIRED = "consent_expired"
    NEVER_CAME = "never_came"
    DTLS_FAILED = "dtls_failed"
    DTLS_TIMEOUT = "dtls_timeout"


class Drop(Enum):
    """Why a datagram had no effect."""

    NOT_OURS = "not_ours"  # neither STUN nor DTLS by its first byte (RFC 7983)
    NOT_STUN = "not_stun"
    NOT_A_REQUEST = "not_a_request"
    WRONG_USERNAME = "wrong_username"
    WRONG_PASSWORD = "wrong_password"
    UNKNOWN_ATTRIBUTE = "unknown_attribute"  # authentic, and answered with 420
    ADDRESS_NOT_VALIDATED = "address_not_validated"
    NOT_DTLS = "not_dtls"  # no record that an honest peer sends at this point
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send `datagram` to `destination`."""

    datagram: bytes
    destination: Path


@dataclass(frozen=True, slots=True)
class AddressValidated:
    """Datagrams from `address` belong to this peer from now on."""

    address: Path


@dataclass(frozen=True, slots=True)
class AddressForgotten:
    """Datagrams from `address` no longer belong to this peer."""

    address: Path


@dataclass(frozen=True, slots=True)
class Nominated:
    """Send media to `address` from now on."""

    address: Path


@dataclass(frozen=True, slots=True)
class Secured:
    """The handshake is done and the certificate is the promised one."""

    keys: SrtpKeys


@dataclass(frozen=True, slots=True)
class Closed:
    """The transport ended; it does nothing any more."""

    reason: CloseReason


PeerEvent = Transmit | AddressValidated | AddressForgotten | Nominated | Secured | Closed | ChannelEvent

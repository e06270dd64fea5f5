"""Where QUIC arrives, and what we agree on with every client."""

from __future__ import annotations

from dataclasses import dataclass

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import CipherSuite

from media.moq.protocol.versions import PREFERRED

H3_ALPN = "h3"
IDLE_S = 30.0  # a client that vanished without a word is noticed after as long
PACKET_BYTES = 1_200  # passes every path that QUIC does; aioquic does not probe for more
MAX_DATAGRAM_FRAME_BYTES = 65_536
MAX_DATA = 16 << 20  # a connection's window: four of the longest frames
MAX_STREAM_DATA = 4 << 20
# Of which every client has one (RFC 8446 section 9.1): the kernel of packets knows them.
CIPHERS = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384]


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where QUIC arrives. `names` are the host names and addresses that clients know it by."""

    host: str
    port: int
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    max_connections: int = 10_000
    packet_bytes: int = PACKET_BYTES


def make_configuration(packet_bytes: int = PACKET_BYTES) -> QuicConfiguration:
    """Return a server's, which lacks only a certificate."""
    return QuicConfiguration(
        is_client=False,
        alpn_protocols=[H3_ALPN, *(version.value for version in PREFERRED)],
        idle_timeout=IDLE_S,
        max_datagram_size=packet_bytes,
        max_datagram_frame_size=MAX_DATAGRAM_FRAME_BYTES,
        max_data=MAX_DATA,
        max_stream_data=MAX_STREAM_DATA,
        cipher_suites=CIPHERS,
    )

"""Answers to first packets that begin no connection: which versions there are, and proof of address wanted."""

from __future__ import annotations

import secrets

from aioquic.quic.packet import QuicHeader, encode_quic_retry, encode_quic_version_negotiation
from aioquic.quic.retry import QuicRetryTokenHandler

from media.io.udp import Destination


def say_versions(header: QuicHeader, versions: list[int]) -> bytes:
    """Return the datagram that tells which versions there are (RFC 9000 section 6)."""
    return encode_quic_version_negotiation(
        source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=versions
    )


class Retry:
    """Has clients prove that they receive at their address, at no cost of ours (RFC 9000 section 8.1.2)."""

    def __init__(self) -> None:
        self._tokens = QuicRetryTokenHandler()

    def ask(self, header: QuicHeader, source: Destination, now: float, id_bytes: int) -> bytes:
        """Return the datagram that asks for it (s, monotonic), with a connection id of so many bytes."""
        own = secrets.token_bytes(id_bytes)
        token = self._tokens.create_token(
            address=source,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=own,
            now=now,
        )
        assert header.version is not None
        return encode_quic_retry(
            version=header.version,
            source_cid=own,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )

    def original_untrusted(self, header: QuicHeader, source: Destination, now: float) -> bytes | None:
        """Return the connection id of a client's first packet, None when its token proves nothing."""
        try:
            return self._tokens.validate_token(
                address=source, destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError:
            return None

"""What offers say of data channels, and which offer of them is accepted (RFC 8841)."""

from __future__ import annotations

from dataclasses import dataclass

from media.webrtc.sdp import MediaDescription, SessionDescription

PROTOCOLS = ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP")
FORMAT = "webrtc-datachannel"
DEFAULT_MESSAGE = 65_536  # bytes that a peer takes which does not say; section 6.1


@dataclass(frozen=True, slots=True)
class DataOffer:
    """How a peer takes part: its SCTP port, and the longest message that it takes; None where any will do."""

    port: int
    max_message: int | None


def find_data(offer: SessionDescription) -> tuple[int, DataOffer] | None:
    """Return the m-line of data channels that can be served, by its index: the first, in the bundle of all else."""
    bundle = offer.bundles[0] if offer.bundles else ()
    for index, media in enumerate(offer.media):
        if media.live and media.mid in bundle and (found := _offered(media)) is not None:
            return index, found
    return None


def _offered(media: MediaDescription) -> DataOffer | None:
    is_data = media.kind == "application" and media.protocol in PROTOCOLS and FORMAT in media.formats
    if not is_data or not media.sctp_port:
        return None
    size = DEFAULT_MESSAGE if media.max_message_size is None else media.max_message_size
    return DataOffer(media.sctp_port, size or None)

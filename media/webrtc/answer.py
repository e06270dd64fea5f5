"""Writes the text of an SDP answer from what was decided (RFC 8829 section 5.3.1, RFC 9725 section 4.4)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from media.webrtc.attributes import HeaderExtension
from media.webrtc.dtls import DtlsRole
from media.webrtc.ice import Address, IceCredentials
from media.webrtc.sdp import MediaDescription, PayloadFormat, SessionDescription

HOST_TYPE_PREFERENCE = 126  # RFC 8445 section 5.1.2.2
# Below whatever UDP has (RFC 6544 section 4.2), as libwebrtc does it.
TCP_TYPE_PREFERENCE, PASSIVE_PREFERENCE = 90, 4 << 13
COMPONENT = 1  # RTP; with rtcp-mux there is no other


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """What a transport is reached by: its ICE side, the certificate's SHA-256 fingerprint, addresses best first.

    `tcp_candidates` are where connections are taken (RFC 6544).
    """

    ice: IceCredentials
    fingerprint: str
    candidates: tuple[Address, ...]
    tcp_candidates: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class OutgoingStream:
    """What a viewer is told of the stream that an m-line will carry."""

    msid: str
    cname: str
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AcceptedData:
    """The m-line of data channels: our SCTP port, and the longest message that we take, in bytes."""

    port: int
    max_message: int


@dataclass(frozen=True, slots=True)
class AcceptedMedia:
    """The accepted part of an m-line; `outgoing` is None where we only receive, `layers` are those of simulcast."""

    format: PayloadFormat
    fmtp: str
    rtx: int | None
    feedback: tuple[str, ...]
    extensions: tuple[HeaderExtension, ...]
    outgoing: OutgoingStream | None
    layers: tuple[str, ...] = ()
    red: int | None = None  # the payload type of redundant sound
    prefers_red: bool = False  # asks for that rather than for plain sound: senders go by what comes first


def write_answer(
    offer: SessionDescription,
    accepted: Mapping[int, AcceptedMedia | AcceptedData],
    local: LocalEndpoint,
    dtls_role: DtlsRole,
    *,
    session_id: int,
) -> str:
    """Write the answer: m-lines in the offer's order, those not in `accepted` (by index) rejected with port 0."""
    mids = {media.mid for index, media in enumerate(offer.media) if index in accepted}
    bundled = [mid for mid in (offer.bundles[0] if offer.bundles else ()) if mid in mids]
    lines = ["v=0", f"o=- {session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines += [f"a=group:BUNDLE {' '.join(bundled)}"] if bundled else []
    lines += ["a=ice-lite"]
    lines += ["a=ice-options:trickle"] if "trickle" in offer.ice_options else []
    lines += ["a=extmap-allow-mixed"] if "extmap-allow-mixed" in offer.flags else []
    lines += ["a=msid-semantic: WMS *"]
    for index, media in enumerate(offer.media):
        match accepted.get(index):
            case AcceptedMedia() as taken:
                lines += _accepted(media, taken, local, dtls_role)
            case AcceptedData() as data:
                lines += _accepted_data(media, data, local, dtls_role)
            case _:
                lines += _rejected(media, local, dtls_role)
    return "\r\n".join(lines) + "\r\n"


def candidate_lines(candidates: Sequence[Address], tcp_candidates: Iterable[Address] = ()) -> Iterator[str]:
    """Write host candidates with falling priority (RFC 8839 section 5.1), and that there will be no more."""
    for number, (host, port) in enumerate(candidates):
        priority = HOST_TYPE_PREFERENCE << 24 | (65_535 - number) << 8 | (256 - COMPONENT)
        address = ipaddress.ip_address(host)
        yield f"a=candidate:{number + 1} {COMPONENT} udp {priority} {address} {port} typ host"
    for number, (host, port) in enumerate(tcp_candidates):
        priority = TCP_TYPE_PREFERENCE << 24 | (PASSIVE_PREFERENCE + 8_191 - number) << 8 | (256 - COMPONENT)
        address, foundation = ipaddress.ip_address(host), len(candidates) + number + 1
        yield f"a=candidate:{foundation} {COMPONENT} tcp {priority} {address} {port} typ host tcptype passive"
    yield "a=end-of-candidates"


def ice_lines(ice: IceCredentials) -> list[str]:
    """Write ICE credentials."""
    return [f"a=ice-ufrag:{ice.ufrag}", f"a=ice-pwd:{ice.password}"]


def _rejected(media: MediaDescription, local: LocalEndpoint, dtls_role: DtlsRole) -> Iterator[str]:
    yield f"m={media.kind} 0 {media.protocol} {media.formats[0]}"
    yield "c=IN IP4 0.0.0.0"
    if media.mid is not None:
        yield f"a=mid:{media.mid}"
    yield "a=inactive"
    # Needless here (RFC 3264 section 6), but GStreamer refuses the whole answer where an m-line lacks them.
    yield from _transport_lines(local, dtls_role)


def _transport_lines(local: LocalEndpoint, dtls_role: DtlsRole) -> Iterator[str]:
    yield from ice_lines(local.ice)
    yield f"a=fingerprint:sha-256 {local.fingerprint}"
    yield "a=setup:active" if dtls_role is DtlsRole.CLIENT else "a=setup:passive"


def _accepted(
    media: MediaDescription, taken: AcceptedMedia, local: LocalEndpoint, dtls_role: DtlsRole
) -> Iterator[str]:
    plain = [taken.format.payload_type, *([] if taken.rtx is None else [taken.rtx])]
    red = [] if taken.red is None else [taken.red]
    payload_types = [*red, *plain] if taken.prefers_red else [*plain, *red]
    yield f"m={media.kind} 9 {media.protocol} {' '.join(map(str, payload_types))}"
    yield "c=IN IP4 0.0.0.0"
    yield f"a=mid:{media.mid}"
    yield "a=recvonly" if taken.outgoing is None else "a=sendonly"
    yield "a=rtcp-mux"
    yield "a=rtcp-mux-only"
    yield from ["a=rtcp-rsize"] if "rtcp-rsize" in media.flags else []
    yield from ["a=extmap-allow-mixed"] if "extmap-allow-mixed" in media.flags else []
    yield from _transport_lines(local, dtls_role)
    # The first of a bundle would do (RFC 9143 section 7.1.3), but aiortc with max-bundle reads those of the last.
    yield from candidate_lines(local.candidates, local.tcp_candidates)
    yield from _formats(taken)
    yield from (f"a=extmap:{extension.id} {extension.uri}" for extension in taken.extensions)
    yield from (f"a=rid:{rid} recv" for rid in taken.layers)
    yield from [f"a=simulcast:recv {';'.join(taken.layers)}"] if taken.layers else []
    yield from _outgoing(taken.outgoing) if taken.outgoing is not None else ()


def _accepted_data(
    media: MediaDescription, data: AcceptedData, local: LocalEndpoint, dtls_role: DtlsRole
) -> Iterator[str]:
    yield f"m=application 9 {media.protocol} webrtc-datachannel"
    yield "c=IN IP4 0.0.0.0"
    yield f"a=mid:{media.mid}"
    yield from _transport_lines(local, dtls_role)
    yield from candidate_lines(local.candidates, local.tcp_candidates)
    yield f"a=sctp-port:{data.port}"
    yield f"a=max-message-size:{data.max_message}"


def _formats(taken: AcceptedMedia) -> Iterator[str]:
    item, number = taken.format, taken.format.payload_type
    yield f"a=rtpmap:{number} {item.name}/{item.clock_rate}" + (f"/{item.channels}" if item.channels > 1 else "")
    if taken.fmtp:
        yield f"a=fmtp:{number} {taken.fmtp}"
    yield from (f"a=rtcp-fb:{number} {feedback}" for feedback in taken.feedback)
    if taken.rtx is not None:
        yield f"a=rtpmap:{taken.rtx} rtx/{item.clock_rate}"
        yield f"a=fmtp:{taken.rtx} apt={number}"
    if taken.red is not None:
        yield f"a=rtpmap:{taken.red} red/{item.clock_rate}/{item.channels}"
        yield f"a=fmtp:{taken.red} {number}/{number}"


def _outgoing(stream: OutgoingStream) -> Iterator[str]:
    yield f"a=msid:{stream.msid}"
    if len(stream.ssrcs) > 1:
        yield f"a=ssrc-group:FID {' '.join(map(str, stream.ssrcs))}"  # RFC 5576 section 4.2
    yield from (f"a=ssrc:{ssrc} cname:{stream.cname}" for ssrc in stream.ssrcs)

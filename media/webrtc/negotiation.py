"""Decides what of an offer is accepted, for publishers (WHIP, RFC 9725) and viewers (WHEP): one codec per m-line."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from media.webrtc.answer import AcceptedData, AcceptedMedia, LocalEndpoint, OutgoingStream, write_answer
from media.webrtc.attributes import Direction, HeaderExtension, Setup
from media.webrtc.data_section import DataOffer, find_data
from media.webrtc.dtls import DtlsRole, Fingerprint
from media.webrtc.extensions import DESCRIBED, ONE_BYTE_IDS, TAKEN, ids_for, ids_of, is_described, passed_by, passed_to
from media.webrtc.formats import (
    Choice,
    CodecDescription,
    Kind,
    best_to_receive,
    carries,
    choices,
    comes_near,
    receiving_parameters,
    sending_parameters,
)
from media.webrtc.ice import IceCredentials
from media.webrtc.sctp import PORT
from media.webrtc.sctp_inbound import MAX_MESSAGE
from media.webrtc.sdp import MediaDescription, SessionDescription
from media.wire.codecs import Codec
from media.wire.extensions import Passed

__all__ = [
    "CodecDescription",
    "LocalEndpoint",
    "OfferRejected",
    "PublisherAnswer",
    "ReceivedTrack",
    "SentTrack",
    "ViewerAnswer",
    "answer_publisher",
    "answer_viewer",
]

TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
ACCEPTED_EXTENSIONS = (
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    TRANSPORT_CC,
    *sorted(TAKEN),
)
# What simulcast is answered for: of these the layers can be told apart and joined without looking at what depends on
# what. Most layers that clients send are three; their names must fit where the kernel compares them.
LAYERED_CODECS = (Codec.VP8, Codec.H264)
MAX_LAYERS, MAX_LAYER_NAME = 4, 8
PUBLISHER_FEEDBACK = ("transport-cc", "ccm fir", "nack", "nack pli")
VIEWER_FEEDBACK = ("ccm fir", "nack", "nack pli")
# How a viewer's end may tell what its network carries, best first: the feedback, the extension that it refers to, and
# how many octets that has.
STAMPS = (("transport-cc", TRANSPORT_CC, 2), ("goog-remb", ABS_SEND_TIME, 3))
PROTOCOLS = ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP")  # RFC 8829 section 5.1.2
USABLE_HASHES = ("sha-256", "sha-384", "sha-512")  # SHA-1 can be forged (RFC 8122 section 5)
SESSION_ID_BITS = 62  # RFC 8829 section 5.2.1


class OfferRejected(Exception):
    """An offer that parses but can't be served.

    `reason` is "malformed" (breaks a rule of its own format), "unsupported" (right, but not what we can do) or
    "no_common_codec"; `detail` tells a person what to change.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ReceivedTrack:
    """A publisher's track: how its packets look, and which feedback the publisher understands."""

    kind: Kind
    mid: str
    codec: CodecDescription
    payload_type: int
    rtx_payload_type: int | None
    nack: bool
    pli: bool
    fir: bool
    transport_cc_extension_id: int | None
    ssrcs: tuple[int, ...]
    layers: tuple[str, ...] = ()  # of simulcast, as RFC 8852 names them in the extensions that follow
    rid_extension_id: int | None = None
    repaired_rid_extension_id: int | None = None
    passed: Mapping[Passed, int] = field(default_factory=dict)  # its ids of the extensions that viewers get
    red_payload_type: int | None = None


@dataclass(frozen=True, slots=True)
class SentTrack:
    """A viewer's track: how packets must look when they leave, and which feedback may come back."""

    kind: Kind
    mid: str
    payload_type: int
    rtx_payload_type: int | None
    ssrc: int
    rtx_ssrc: int | None
    nack: bool
    pli: bool
    stamp: int = 0  # first octet of the header extension of each packet (RFC 8285 section 4.2), 0 for none
    passed: Mapping[Passed, int] = field(default_factory=dict)  # its ids of the publisher's extensions
    red_payload_type: int | None = None  # of redundant sound, where it takes that


@dataclass(frozen=True, slots=True)
class PublisherAnswer:
    """The answer to a WHIP offer and what follows from it."""

    sdp: str
    tracks: tuple[ReceivedTrack, ...]
    remote_ice: IceCredentials
    fingerprints: tuple[Fingerprint, ...]
    dtls_role: DtlsRole
    data: DataOffer | None = None


@dataclass(frozen=True, slots=True)
class ViewerAnswer:
    """The answer to a WHEP offer and what follows from it."""

    sdp: str
    tracks: tuple[SentTrack, ...]
    remote_ice: IceCredentials
    fingerprints: tuple[Fingerprint, ...]
    dtls_role: DtlsRole
    data: DataOffer | None = None


def answer_publisher(
    offer: SessionDescription, local: LocalEndpoint, *, random_bits: Callable[[int], int] = secrets.randbits
) -> PublisherAnswer:
    """Accept an offer's audio and video whole, or not at all (RFC 9725 section 4.4.2).

    The first codec that we know is taken. Simulcast of codecs that are not in `LAYERED_CODECS` is answered without,
    so that one plain encoding is sent. Raises OfferRejected.
    """
    taken: set[int] = set()
    accepted: dict[int, AcceptedMedia] = {}
    tracks: list[ReceivedTrack] = []
    for index, media in _usable_media(offer, Direction.SENDONLY):
        choice = best_to_receive(media, taken)
        if choice is None:
            names = ", ".join(dict.fromkeys(item.name for item in media.codecs)) or "none by name"
            raise OfferRejected("unsupported", f"no {media.kind} codec that is supported among those offered: {names}")
        taken |= choice.payload_types
        extensions = _extensions(media, choice, offer.flags | media.flags)
        tracks.append(_received(media, choice, extensions))
        accepted[index] = _accept_received(media, choice, extensions)
    answered, data = _with_data(offer, accepted)
    remote_ice, fingerprints, role = _remote(_carrier(offer, answered))
    sdp = write_answer(offer, answered, local, role, session_id=random_bits(SESSION_ID_BITS))
    return PublisherAnswer(sdp, tuple(tracks), remote_ice, fingerprints, role, data)


def answer_viewer(
    offer: SessionDescription,
    local: LocalEndpoint,
    available: Sequence[CodecDescription],
    *,
    stream: str,
    random_bits: Callable[[int], int] = secrets.randbits,
) -> ViewerAnswer:
    """Accept the m-lines for which `available` has a track in a codec that the viewer offers; the others get port 0.

    `stream` becomes the viewer's MediaStream id and must be a token. Raises OfferRejected, with "no_common_codec" when
    nothing is left.
    """
    taken: set[int] = set()
    ssrcs = _fresh_ssrcs(random_bits, {ssrc for media in offer.media for ssrc in media.ssrcs})
    accepted: dict[int, AcceptedMedia] = {}
    tracks: list[SentTrack] = []
    for index, media in _usable_media(offer, Direction.RECVONLY):
        pairs = [(choice, codec) for codec in available for choice in choices(media, taken)]
        fitting = (pair for fits in (carries, comes_near) for pair in pairs if fits(*pair))
        choice, codec = next(fitting, (None, None))
        if choice is None or codec is None:
            continue
        taken |= choice.payload_types
        stamp = _stamp(media, choice)
        used = () if stamp is None else (stamp.extension.id,)
        passed = passed_to(media.extensions, choice.codec, used, offer.flags | media.flags)
        tracks.append(track := _sent(media, choice, stamp, ids_of(passed), ssrcs))
        extensions = (*(() if stamp is None else (stamp.extension,)), *passed.values())
        accepted[index] = _accept_sent(choice, track, stamp, extensions, sending_parameters(choice, codec), stream)
    if not accepted:
        names = ", ".join(codec.codec.name for codec in available)
        raise OfferRejected("no_common_codec", f"the stream is in {names}, and the offer can receive none of it")
    answered, data = _with_data(offer, accepted)
    remote_ice, fingerprints, role = _remote(_carrier(offer, answered))
    sdp = write_answer(offer, answered, local, role, session_id=random_bits(SESSION_ID_BITS))
    return ViewerAnswer(sdp, tuple(tracks), remote_ice, fingerprints, role, data)


def _with_data(
    offer: SessionDescription, media: Mapping[int, AcceptedMedia]
) -> tuple[dict[int, AcceptedMedia | AcceptedData], DataOffer | None]:
    """Accept data channels beside the media, where they are offered."""
    found = find_data(offer)
    if found is None or any(offer.media[index].mid not in _bundle(offer) for index in media):
        return {**media}, None
    index, data = found
    return {**media, index: AcceptedData(PORT, MAX_MESSAGE)}, data


def _usable_media(offer: SessionDescription, direction: Direction) -> Iterator[tuple[int, MediaDescription]]:
    """Yield the live audio and video m-lines with their index, after checking the rules of WHIP and WHEP."""
    live = [(index, media) for index, media in enumerate(offer.media) if media.live and media.kind != "application"]
    kinds = [media.kind for _, media in live]
    if not kinds:
        raise OfferRejected("unsupported", "the offer has no audio or video m-line in use")
    for index, media in live:
        where = f"the {media.kind} m-line (line {media.line})"
        if media.kind not in ("audio", "video"):
            raise OfferRejected("unsupported", f"{where} is neither audio nor video")
        if kinds.count(media.kind) > 1:
            raise OfferRejected("unsupported", f"more than one {media.kind} m-line; one audio and one video are served")
        if media.protocol not in PROTOCOLS:
            raise OfferRejected("unsupported", f"{where} asks for {media.protocol}; only {PROTOCOLS[0]} is served")
        if media.direction not in (Direction.SENDRECV, direction):
            raise OfferRejected("unsupported", f"{where} is {media.direction}; it must be {direction} or sendrecv")
        if "rtcp-mux" not in media.flags:
            raise OfferRejected("unsupported", f"{where} has no a=rtcp-mux")
        if media.mid is None:
            raise OfferRejected("malformed", f"{where} has no a=mid")
        if len(live) > 1 and media.mid not in _bundle(offer):
            raise OfferRejected("unsupported", f"{where} is not in the BUNDLE group; all media share one transport")
        yield index, media


def _bundle(offer: SessionDescription) -> tuple[str, ...]:
    return offer.bundles[0] if offer.bundles else ()


def _carrier(offer: SessionDescription, accepted: Collection[int]) -> MediaDescription:
    """Return the m-line whose transport attributes count: the first of the bundle that lives (RFC 9143 section 7.3)."""
    order = _bundle(offer)
    sections = [offer.media[index] for index in accepted]
    return min(sections, key=lambda media: order.index(media.mid) if media.mid in order else len(order))


def _remote(carrier: MediaDescription) -> tuple[IceCredentials, tuple[Fingerprint, ...], DtlsRole]:
    fingerprints = tuple(item for item in carrier.fingerprints if item.algorithm in USABLE_HASHES)
    if carrier.ice is None:
        raise OfferRejected("malformed", "the offer has no a=ice-ufrag and a=ice-pwd")
    if not carrier.fingerprints:
        raise OfferRejected("malformed", "the offer has no a=fingerprint")
    if not fingerprints:
        raise OfferRejected("unsupported", f"no fingerprint is made with {', '.join(USABLE_HASHES)}")
    return carrier.ice, fingerprints, _dtls_role(carrier)


def _dtls_role(media: MediaDescription) -> DtlsRole:
    """Choose our side of the handshake: the server's, except towards clients that insist on being it (FFmpeg).

    Raises OfferRejected for holdconn. RFC 4145 section 4.1: an offer without setup is active.
    """
    if media.setup is Setup.HOLDCONN:
        raise OfferRejected("unsupported", "a=setup:holdconn asks for no connection")
    return DtlsRole.CLIENT if media.setup is Setup.PASSIVE else DtlsRole.SERVER


def _received(media: MediaDescription, choice: Choice, accepted: Sequence[HeaderExtension]) -> ReceivedTrack:
    feedback = choice.format.feedback
    layers = _layers(media, choice)
    extensions = {item.uri: item.id for item in accepted}
    return ReceivedTrack(
        kind=choice.codec.kind,
        mid=media.mid or "",
        codec=choice.codec,
        payload_type=choice.format.payload_type,
        rtx_payload_type=choice.rtx,
        nack="nack" in feedback,
        pli="nack pli" in feedback,
        fir="ccm fir" in feedback,
        transport_cc_extension_id=extensions.get(TRANSPORT_CC) if "transport-cc" in feedback else None,
        ssrcs=media.ssrcs,
        layers=layers,
        rid_extension_id=extensions.get(RID),
        repaired_rid_extension_id=extensions.get(REPAIRED_RID),
        passed=passed_by(accepted, choice.codec.kind),
        red_payload_type=choice.red if choice.prefers_red else None,
    )


def _accept_received(media: MediaDescription, choice: Choice, accepted: Sequence[HeaderExtension]) -> AcceptedMedia:
    feedback = tuple(name for name in PUBLISHER_FEEDBACK if name in choice.format.feedback)
    layers = _layers(media, choice)
    extensions = tuple(
        item for item in accepted if item.uri != TRANSPORT_CC or "transport-cc" in choice.format.feedback
    )
    red = choice.red if choice.prefers_red else None
    fmtp = receiving_parameters(choice)
    return AcceptedMedia(choice.format, fmtp, choice.rtx, feedback, extensions, None, layers, red, red is not None)


def _layers(media: MediaDescription, choice: Choice) -> tuple[str, ...]:
    """Return the layers of simulcast that we take, or none of them."""
    names = media.layers
    fits = 2 <= len(names) <= MAX_LAYERS and len(set(names)) == len(names) and max(map(len, names)) <= MAX_LAYER_NAME
    is_told = any(item.uri == RID for item in _accepted(media, (RID,)))
    return names if fits and is_told and choice.codec.codec in LAYERED_CODECS else ()


def _extensions(media: MediaDescription, choice: Choice, flags: Set[str]) -> list[HeaderExtension]:
    """Return the publisher's extensions that we accept; those of layers where there are some."""
    of_layers = (RID, REPAIRED_RID) if _layers(media, choice) else ()
    of_frames = (DESCRIBED,) if is_described(choice.codec.codec, flags) else ()
    return _accepted(media, (*ACCEPTED_EXTENSIONS, *of_layers, *of_frames))


def _accepted(media: MediaDescription, uris: Collection[str]) -> list[HeaderExtension]:
    """Return the extensions of an m-line that are among `uris`, each of those and each id once."""
    found: dict[str, HeaderExtension] = {}
    for item in media.extensions:
        fits = item.id in ids_for(item.uri) and item.id not in {other.id for other in found.values()}
        sent = item.direction in (Direction.SENDRECV, Direction.SENDONLY)
        if item.uri in uris and fits and sent:
            found.setdefault(item.uri, item)
    return list(found.values())


class _Stamp(NamedTuple):
    feedback: str
    extension: HeaderExtension
    first_octet: int


def _stamp(media: MediaDescription, choice: Choice) -> _Stamp | None:
    """Return the feedback about its network that a viewer can give, the extension for it, and that one's first octet.

    Where losses are repaired without RTX there is none: one packet sent twice must have the same octets.
    """
    if choice.rtx is None and "nack" in choice.format.feedback:
        return None
    for feedback, uri, octets in STAMPS:
        found = next((item for item in media.extensions if item.uri == uri and item.id in ONE_BYTE_IDS), None)
        received = found is not None and found.direction in (Direction.SENDRECV, Direction.RECVONLY)
        if found is not None and received and feedback in choice.format.feedback:
            return _Stamp(feedback, HeaderExtension(found.id, uri, Direction.SENDRECV), found.id << 4 | octets - 1)
    return None


def _sent(
    media: MediaDescription, choice: Choice, stamp: _Stamp | None, passed: Mapping[Passed, int], ssrcs: Iterator[int]
) -> SentTrack:
    return SentTrack(
        kind=choice.codec.kind,
        mid=media.mid or "",
        payload_type=choice.format.payload_type,
        rtx_payload_type=choice.rtx,
        ssrc=next(ssrcs),
        rtx_ssrc=next(ssrcs) if choice.rtx is not None else None,
        nack="nack" in choice.format.feedback,
        pli="nack pli" in choice.format.feedback,
        stamp=0 if stamp is None else stamp.first_octet,
        passed=passed,
        red_payload_type=choice.red,
    )


def _accept_sent(
    choice: Choice,
    track: SentTrack,
    stamp: _Stamp | None,
    extensions: tuple[HeaderExtension, ...],
    fmtp: str,
    stream: str,
) -> AcceptedMedia:
    wanted = VIEWER_FEEDBACK if stamp is None else (*VIEWER_FEEDBACK, stamp.feedback)
    feedback = tuple(name for name in wanted if name in choice.format.feedback)
    own = (track.ssrc,) if track.rtx_ssrc is None else (track.ssrc, track.rtx_ssrc)
    outgoing = OutgoingStream(msid=f"{stream} {track.kind}", cname=stream, ssrcs=own)
    return AcceptedMedia(choice.format, fmtp, choice.rtx, feedback, extensions, outgoing, red=choice.red)


def _fresh_ssrcs(random_bits: Callable[[int], int], used: set[int]) -> Iterator[int]:
    used = used | {0}  # 0 stands for "none yet" in the forwarding tables
    while True:
        ssrc = random_bits(32)
        if ssrc not in used:
            used.add(ssrc)
            yield ssrc

"""One turn of the reference: what arrived is checked and placed, and handed to those who get it, in plain Python.

Read reference.py first, which says who may have it and under which numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from media.forwarding.reference.backlogs import send_backlog
from media.forwarding.reference.decisions import Dropped, Outcome, Outgoing, Viewer, verdict
from media.forwarding.reference.tracks import Track
from media.forwarding.tables import PAYLOAD, Count
from media.wire.extensions import SIZES, Passed
from media.wire.malformed import MalformedPacket
from media.wire.red import find_primary_untrusted
from media.wire.rtcp import Fir, Nack, Pli, parse_rtcp_untrusted
from media.wire.rtp import parse_rtp_untrusted

MAX_NACKED = 256  # packets that one datagram may ask for


@dataclass(slots=True, eq=False)
class Publisher:
    """A transport that sends before `publish_until` (ns); a payload type says which track, and whether it is RTX.

    Of simulcast it says the first layer; SSRCs, and names in the extensions `rid_id` and `repaired_rid_id`, say which.
    """

    publish_until: int
    payload_types: dict[int, tuple[Track, bool]] = field(default_factory=dict)
    rid_id: int | None = None
    repaired_rid_id: int | None = None
    passed: dict[Passed, int] = field(default_factory=dict)  # its ids of the header extensions that viewers get
    red_payload_types: set[int] = field(default_factory=set)  # those of redundant sound


def turn(arrived: Sequence[tuple[Publisher | Viewer, bytes]], tracks: Sequence[Track], now: int) -> list[Outcome]:
    """Take what arrived together, as RTP of publishers and RTCP of viewers, and return all that follows from it.

    First everything is received and NACKs are answered; then the packets of each track, in the order of `tracks`, go to
    each of its subscriptions; and then what waited where there is room.
    """
    outcomes: list[Outcome] = []
    received: list[tuple[Track, int]] = []
    for sender, data in arrived:
        if isinstance(sender, Viewer):
            outcomes += taking(receive_rtcp(sender, data, now), now)
            continue
        place = receive_rtp(sender, data, now)
        if isinstance(place, Count):
            outcomes.append(Dropped(place))
        else:
            received.append(place)
    for track in tracks:
        packets = []
        for ext_seq in (number for owner, number in received if owner is track):
            packet = track.cached(ext_seq)
            # A source that began anew in the meantime, or jumped, has taken the places of what was not sent yet.
            outcomes += [Dropped(Count.OVERTAKEN)] if packet is None else []
            packets += [] if packet is None else [packet]
        for subscription in track.takers():
            for packet in packets:
                outcomes += taking(subscription.forward(track, packet, now), now)
    everybody = (subscription for track in tracks for subscription in track.subscriptions)
    for subscription in everybody:
        outcomes += taking(send_backlog(subscription, now), now)
    return outcomes


def taking(outcomes: Iterator[Outcome], now: int) -> Iterator[Outcome]:
    """Have each packet that leaves take its viewer's way, before what follows is decided."""
    for outcome in outcomes:
        if isinstance(outcome, Outgoing):
            outcome.subscription.viewer.pace.take(len(outcome.payload), now)
        yield outcome


def receive_rtp(publisher: Publisher, data: bytes, now: int) -> tuple[Track, int] | Count:
    """Place and remember one decrypted packet; returns its track and number there, or why it goes nowhere."""
    if now >= publisher.publish_until:
        return Count.PUBLISH_LAPSED
    try:
        packet = parse_rtp_untrusted(data)
    except MalformedPacket:
        return Count.MALFORMED_RTP
    header, payload = packet.header, data[packet.payload_start : packet.payload_end]
    if header.payload_type not in publisher.payload_types:
        return Count.UNKNOWN_PAYLOAD_TYPE
    if header.ssrc == 0:
        return Count.MALFORMED_RTP  # the tables' word for no source; of senders that draw it at random none drew it
    track, is_repair = publisher.payload_types[header.payload_type]
    if track.layers:
        identifier = publisher.repaired_rid_id if is_repair else publisher.rid_id
        rid = b"" if identifier is None else header.extensions.get(identifier, b"")
        layer = track.layer(header.ssrc, rid, is_repair=is_repair)
        if layer is None:
            return Count.UNKNOWN_LAYER
        track = layer
    ssrc, seq = header.ssrc, header.sequence_number
    if is_repair:
        # RFC 4588 section 4: the original sequence number comes before the payload; without one it was a probe.
        if len(payload) < 2 or track.ssrc is None:
            return Count.PADDING
        ssrc, seq, payload = track.ssrc, int.from_bytes(payload[:2]), payload[2:]
    if len(payload) > PAYLOAD:
        return Count.TOO_LARGE
    red_at = 0
    if header.payload_type in publisher.red_payload_types:
        try:
            red_at = find_primary_untrusted(payload)
        except MalformedPacket:
            return Count.MALFORMED_RED
    place = track.place(ssrc, seq, now, is_repair=is_repair)
    if isinstance(place, Count):
        return place
    told = ((kind, header.extensions.get(number, b"")) for kind, number in sorted(publisher.passed.items()))
    extensions = tuple((kind, value) for kind, value in told if len(value) in SIZES[kind])
    track.keep(place, payload, header.timestamp, now, marker=header.marker, extensions=extensions, red_at=red_at)
    return track, place


def receive_rtcp(viewer: Viewer, data: bytes, now: int) -> Iterator[Outcome]:
    """Answer a viewer's NACKs, and note which pictures it can't decode."""
    left = MAX_NACKED
    by_ssrc = {subscription.ssrc: subscription for subscription in viewer.subscriptions}
    for packet in parse_rtcp_untrusted(data):
        match packet:
            case Nack(_, ssrc, numbers) if ssrc in by_ssrc:
                yield from (by_ssrc[ssrc].retransmit(number, now) for number in numbers[:left])
                yield from (Dropped(Count.NACKS_IGNORED) for _ in numbers[left:])
                left -= min(left, len(numbers))
            case Pli(_, ssrc) if ssrc in by_ssrc and verdict(viewer, now) is None:
                by_ssrc[ssrc].track.keyframe_wanted = True
            case Fir(_, requests) if verdict(viewer, now) is None:
                for ssrc, _ in requests:
                    if ssrc in by_ssrc:
                        by_ssrc[ssrc].track.keyframe_wanted = True

"""Decides which header extensions are passed on between a publisher's m-line and a viewer's (RFC 8285 section 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from media.webrtc.attributes import Direction, HeaderExtension
from media.webrtc.formats import CodecDescription, Kind
from media.wire.codecs import Codec
from media.wire.extensions import KINDS, TURNED_BY_SENDER, URIS, Passed

# What fits a one-byte header (RFC 8285 section 4.2); every client seen stays there.
ONE_BYTE_IDS = range(1, 15)
# Descriptors of keyframes are longer than one-byte headers can hold, so that they are taken only beside others (RFC
# 8285 section 6); then their ids may be larger, too.
TWO_BYTE_IDS = range(1, 256)
DESCRIBED = URIS[Passed.DEPENDENCY]
TAKEN = frozenset(
    URIS[kind]
    for kinds in KINDS.values()
    for kind in kinds
    if kind not in TURNED_BY_SENDER and kind is not Passed.DEPENDENCY
)


def is_described(codec: Codec, flags: Iterable[str]) -> bool:
    """Whether dependency descriptors are passed on in a codec, of whose m-line or session these are the flags.

    Of others than AV1 the payload says what forwarding must know, and all decoders go by that.
    """
    return codec is Codec.AV1 and "extmap-allow-mixed" in flags


def ids_for(uri: str) -> range:
    """Return which ids an extension may have."""
    return TWO_BYTE_IDS if uri == DESCRIBED else ONE_BYTE_IDS


def passed_by(accepted: Iterable[HeaderExtension], kind: Kind) -> dict[Passed, int]:
    """Return the publisher's ids of what is passed on, among the extensions that were accepted of its m-line."""
    ids = {item.uri: item.id for item in accepted}
    return {passed: ids[URIS[passed]] for passed in KINDS[kind] if URIS[passed] in ids}


def passed_to(
    offered: Iterable[HeaderExtension], codec: CodecDescription, used: Iterable[int], flags: Iterable[str]
) -> dict[Passed, HeaderExtension]:
    """Return what a viewer's m-line takes of what is passed on; `used` ids stand for something else already."""
    left_out = () if is_described(codec.codec, flags) else (Passed.DEPENDENCY,)
    wanted = {URIS[passed]: passed for passed in KINDS[codec.kind] if passed not in left_out}
    found: dict[Passed, HeaderExtension] = {}
    taken = set(used)
    for item in offered:
        passed = wanted.get(item.uri)
        is_received = item.direction in (Direction.SENDRECV, Direction.RECVONLY)
        if passed is None or passed in found or not is_received:
            continue
        if item.id in ids_for(item.uri) and item.id not in taken:
            found[passed] = HeaderExtension(item.id, item.uri, Direction.SENDRECV)
            taken.add(item.id)
    return found


def ids_of(found: Mapping[Passed, HeaderExtension]) -> dict[Passed, int]:
    """Return the ids alone, as the forwarding tables have them."""
    return {passed: item.id for passed, item in found.items()}

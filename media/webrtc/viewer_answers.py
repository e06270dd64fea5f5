"""Answers offers of viewers: what those of one kind of client share is read and decided once, for all who watch.

A thousand viewers with one browser send the same offer but for their credentials. So each offer is taken apart into its
shape, in which stand-ins have the place of what is somebody's own, and that. Of a shape that is known, all is there but
our own credentials and the numbers that are fresh for every viewer. What can't be taken apart is answered as it is.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from media.webrtc.dtls import Fingerprint
from media.webrtc.ice import IceCredentials
from media.webrtc.negotiation import (
    CodecDescription,
    LocalEndpoint,
    OfferRejected,
    SentTrack,
    ViewerAnswer,
    answer_viewer,
)
from media.webrtc.sdp import MalformedSdp, SessionDescription, parse_sdp_untrusted

MAX_KNOWN = 64  # shapes: some browsers, in some versions, for each stream that is watched much
MAX_SHAPE = 16_384  # characters; browsers' offers have up to 6,500
MAX_OWN = 64  # lines of an offer that are its writer's own; browsers have three for each m-line
SSRC_BITS, SESSION_BITS = 32, 62

_ORIGIN = "o=- 1 1 IN IP4 127.0.0.1"
# What is somebody's own, as strictly as it is read elsewhere: other writing stays in the shape.
_OWN = re.compile(
    r"(?P<ufrag>a=ice-ufrag:)[A-Za-z0-9+/]{4,256}"
    r"|(?P<password>a=ice-pwd:)[A-Za-z0-9+/]{22,256}"
    r"|(?P<digest>a=fingerprint:sha-256 )[0-9A-F]{2}(?::[0-9A-F]{2}){31}"
    r"|(?P<origin>o=)[\x20-\x7e]{1,256}"
)
_PREFIXES = ("a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:sha-256 ", "o=")
_STAND_INS: dict[str, Callable[[int], str]] = {
    "ufrag": lambda number: f"{number:04}",
    "password": lambda number: f"{number:024}",
    "digest": lambda number: ":".join([f"{number:02X}"] * 32),
}


class Answered(NamedTuple):
    """An answer, and the kinds of media that the offer asks for and does not get."""

    answer: ViewerAnswer
    lacks: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is the same for all offers of one shape: their answer, with stand-ins for what is one viewer's own.

    `parts` is its text, cut before and behind each stand-in for what is ours; `ssrcs` are the stand-ins of numbers.
    """

    answered: Answered
    parts: tuple[str, ...]
    ssrcs: tuple[int, ...]
    offered_ssrcs: frozenset[int]


class ViewerAnswers:
    """Answers offers, and remembers those shapes that were used last; `learned` counts how often one was new."""

    def __init__(self) -> None:
        self.learned = 0
        self._known: OrderedDict[tuple[object, ...], _Known] = OrderedDict()
        # Nobody outside knows them, so that no offer has them in it.
        ice = IceCredentials(secrets.token_hex(16), secrets.token_hex(16))
        self._stand_in = LocalEndpoint(ice, secrets.token_hex(32), ())
        self._session = secrets.randbits(SESSION_BITS) | 1 << SESSION_BITS - 1
        self._ssrcs = [secrets.randbits(SSRC_BITS) | 1 << SSRC_BITS - 1 for _ in range(8)]

    def answer(
        self, offer_sdp: str, local: LocalEndpoint, available: Sequence[CodecDescription], *, stream: str
    ) -> Answered:
        """Answer an offer as `answer_viewer` does; raises MalformedSdp and OfferRejected."""
        taken_apart = _take_apart(offer_sdp)
        if taken_apart is not None:
            shape, own = taken_apart
            key = (shape, tuple(available), stream, local.candidates, local.tcp_candidates)
            known = self._known.get(key) or self._learn(key, shape, local, available, stream)
            if known is not None:
                self._known.move_to_end(key)
                return self._fill(known, own, local)
        offer = parse_sdp_untrusted(offer_sdp)
        return _with_lacks(offer, answer_viewer(offer, local, available, stream=stream))

    def _learn(
        self,
        key: tuple[object, ...],
        shape: str,
        local: LocalEndpoint,
        available: Sequence[CodecDescription],
        stream: str,
    ) -> _Known | None:
        """Answer a shape, and remember it; None where it can't be answered: the offer itself will say why."""
        numbers = iter(self._ssrcs)
        try:
            offer = parse_sdp_untrusted(shape)
            shown = replace(self._stand_in, candidates=local.candidates, tcp_candidates=local.tcp_candidates)
            answer = answer_viewer(
                offer,
                shown,
                available,
                stream=stream,
                random_bits=lambda bits: next(numbers) if bits == SSRC_BITS else self._session,
            )
        except (MalformedSdp, OfferRejected, StopIteration):
            return None
        self.learned += 1
        offered = frozenset(ssrc for media in offer.media for ssrc in media.ssrcs)
        ssrcs = tuple(ssrc for sent in answer.tracks for ssrc in (sent.ssrc, sent.rtx_ssrc) if ssrc is not None)
        ours = (shown.ice.ufrag, shown.ice.password, shown.fingerprint, str(self._session), *map(str, ssrcs))
        parts = tuple(re.split(f"({'|'.join(ours)})", answer.sdp))
        known = self._known[key] = _Known(_with_lacks(offer, answer), parts, ssrcs, offered)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return known

    def _fill(self, known: _Known, own: dict[str, str], local: LocalEndpoint) -> Answered:
        """Put what is one viewer's own, and ours for this viewer, in the place of the stand-ins."""
        answer, lacks = known.answered
        ssrcs = dict(zip(known.ssrcs, _fresh_ssrcs(known.offered_ssrcs, len(known.ssrcs)), strict=True))
        ours = {str(stand_in): str(ssrc) for stand_in, ssrc in ssrcs.items()}
        ours[self._stand_in.ice.ufrag], ours[self._stand_in.ice.password] = local.ice.ufrag, local.ice.password
        ours[self._stand_in.fingerprint] = local.fingerprint
        ours[str(self._session)] = str(secrets.randbits(SESSION_BITS))
        sdp = "".join([ours.get(part, part) for part in known.parts])
        tracks = tuple(_numbered(track, ssrcs) for track in answer.tracks)
        theirs = answer.remote_ice
        remote = IceCredentials(own.get(theirs.ufrag, theirs.ufrag), own.get(theirs.password, theirs.password))
        fingerprints = tuple(_own_fingerprint(item, own) for item in answer.fingerprints)
        return Answered(replace(answer, sdp=sdp, tracks=tracks, remote_ice=remote, fingerprints=fingerprints), lacks)


def _take_apart(offer: str) -> tuple[str, dict[str, str]] | None:
    """Return an offer's shape, and by stand-in what is its writer's own; None for one that is too large."""
    if len(offer) > MAX_SHAPE:
        return None
    lines = offer.split("\n")
    stand_ins: dict[str, str] = {}  # by kind and value: what is the same in the offer stays the same
    own: dict[str, str] = {}
    for place, line in enumerate(lines):
        if not line.startswith(_PREFIXES):
            continue
        body, end = (line[:-1], "\r") if line.endswith("\r") else (line, "")
        found = _OWN.fullmatch(body)
        kind = None if found is None else found.lastgroup
        if found is None or kind is None:
            continue
        if kind == "origin":
            lines[place] = _ORIGIN + end
            continue
        if len(own) == MAX_OWN:
            return None
        prefix = found[kind]
        value = body[len(prefix) :]
        if (stand_in := stand_ins.get(body)) is None:
            stand_in = stand_ins[body] = _STAND_INS[kind](len(own))
            own[stand_in] = value
        lines[place] = prefix + stand_in + end
    return "\n".join(lines), own


def _with_lacks(offer: SessionDescription, answer: ViewerAnswer) -> Answered:
    wanted = {media.kind for media in offer.media if media.live}
    return Answered(answer, frozenset(wanted - {sent.kind for sent in answer.tracks}))


def _fresh_ssrcs(used: frozenset[int], count: int) -> Iterable[int]:
    fresh: dict[int, None] = {}
    while len(fresh) < count:
        ssrc = secrets.randbits(SSRC_BITS)
        if ssrc and ssrc not in used:  # 0 stands for "none yet" in the forwarding tables
            fresh[ssrc] = None
    return fresh


def _numbered(track: SentTrack, ours: dict[int, int]) -> SentTrack:
    return replace(track, ssrc=ours[track.ssrc], rtx_ssrc=None if track.rtx_ssrc is None else ours[track.rtx_ssrc])


def _own_fingerprint(stand_in: Fingerprint, own: dict[str, str]) -> Fingerprint:
    value = own.get(stand_in.digest.hex(":").upper()) if stand_in.algorithm == "sha-256" else None
    return stand_in if value is None else Fingerprint("sha-256", bytes.fromhex(value.replace(":", "")))

"""What the WHIP and WHEP client offers: bundles of VP8 and Opus to send, or of every codec that is forwarded here."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

from media.webrtc.certificate import Certificate
from media.webrtc.ice import IceCredentials
from media.webrtc.negotiation import TRANSPORT_CC
from media.webrtc.sctp import PORT

Kind = Literal["audio", "video"]
VIDEO, VIDEO_RTX, AUDIO = 96, 97, 111  # payload types of what is published
CLOCK_RATES: dict[Kind, int] = {"audio": 48_000, "video": 90_000}
RECEIVED = {
    "video": (
        (96, "VP8/90000", ""),
        (98, "VP9/90000", ""),
        (100, "AV1/90000", ""),
        (102, "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    ),
    "audio": ((111, "opus/48000/2", "minptime=10;useinbandfec=1"),),
}
REPAIRED = ("nack", "nack pli", "ccm fir")  # the feedback that is asked for
TRANSPORT_CC_ID = 3


@cache
def certificate() -> Certificate:
    """Return this process' certificate: one for all sessions, as making it costs more than a session."""
    return Certificate.self_made()


def choose_sources(ice: IceCredentials, kinds: tuple[Kind, ...]) -> tuple[dict[Kind, int], int]:
    """Return the SSRCs of what is published, and that of what is sent again."""
    seed = int.from_bytes(ice.password.encode()[:4])
    return {kind: seed + 1 + place & 0xFFFFFFFF for place, kind in enumerate(kinds)}, seed & 0xFFFFFFFF


def build_offer(
    ice: IceCredentials,
    direction: str,
    kinds: tuple[Kind, ...],
    ssrcs: dict[Kind, int],
    rtx_ssrc: int,
    feedback: tuple[str, ...] = REPAIRED,
) -> str:
    """Return the SDP of an offer that bundles `kinds`; `ssrcs` are those of what is published."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines.append("a=group:BUNDLE " + " ".join(str(mid) for mid in range(len(kinds))))
    for mid, kind in enumerate(kinds):
        formats = RECEIVED[kind] if direction == "recvonly" else RECEIVED[kind][:1]
        lines += _media(kind, formats, feedback)
        lines += [f"a=mid:{mid}", f"a={direction}", "a=rtcp-mux", "a=rtcp-rsize", "a=setup:actpass"]
        lines += [f"a=ice-ufrag:{ice.ufrag}", f"a=ice-pwd:{ice.password}"]
        lines += [f"a=fingerprint:sha-256 {certificate().fingerprint}", f"a=msid:mesi {kind}"]
        if kind in ssrcs:
            lines += _sources(kind, ssrcs[kind], rtx_ssrc)
    return "\r\n".join(lines) + "\r\n"


def with_data(offer: str, ice: IceCredentials) -> str:
    """Offer data channels, too, in the bundle of an offer (RFC 8841)."""
    lines = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:data", "a=setup:actpass"]
    lines += [f"a=ice-ufrag:{ice.ufrag}", f"a=ice-pwd:{ice.password}"]
    lines += [f"a=fingerprint:sha-256 {certificate().fingerprint}", f"a=sctp-port:{PORT}"]
    lines.append("a=max-message-size:262144")
    return re.sub(r"^a=group:BUNDLE[^\r]*", r"\g<0> data", offer, flags=re.MULTILINE) + "\r\n".join(lines) + "\r\n"


def _media(kind: Kind, formats: tuple[tuple[int, str, str], ...], feedback: tuple[str, ...]) -> list[str]:
    numbers = [f"{number} {number + 1}" if kind == "video" else str(number) for number, _, _ in formats]
    lines = [f"m={kind} 9 UDP/TLS/RTP/SAVPF {' '.join(numbers)}", "c=IN IP4 0.0.0.0"]
    if "transport-cc" in feedback:
        lines.append(f"a=extmap:{TRANSPORT_CC_ID} {TRANSPORT_CC}")
    for number, name, parameters in formats:
        lines.append(f"a=rtpmap:{number} {name}")
        lines += [f"a=rtcp-fb:{number} {word}" for word in feedback if kind == "video" or word == "transport-cc"]
        if parameters:
            lines.append(f"a=fmtp:{number} {parameters}")
        if kind == "video":
            lines += [f"a=rtpmap:{number + 1} rtx/90000", f"a=fmtp:{number + 1} apt={number}"]
    return lines


def _sources(kind: Kind, ssrc: int, rtx_ssrc: int) -> list[str]:
    lines = [f"a=ssrc:{ssrc} cname:mesi"]
    if kind == "video":
        lines += [f"a=ssrc:{rtx_ssrc} cname:mesi", f"a=ssrc-group:FID {ssrc} {rtx_ssrc}"]
    return lines

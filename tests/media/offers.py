"""The recorded offers of seven real clients, and an endpoint to answer them with."""

from __future__ import annotations

from pathlib import Path

from media.webrtc.answer import LocalEndpoint
from media.webrtc.ice import IceCredentials

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
PUBLISHERS = tuple(sorted(path.stem.removeprefix("offer-") for path in FIXTURES.glob("offer-*-pub.sdp")))
VIEWERS = tuple(sorted(path.stem.removeprefix("offer-") for path in FIXTURES.glob("offer-*-sub*.sdp")))
FINGERPRINT = ":".join(["AB"] * 32)
LOCAL = LocalEndpoint(
    IceCredentials("ourUfrag", "ourPasswordOf24IceChars/"), FINGERPRINT, (("192.0.2.7", 7882), ("2001:db8::7", 7882))
)


def offer_text(name: str) -> str:
    return (FIXTURES / f"offer-{name}.sdp").read_bytes().decode()

"""The SRTP sessions of one transport, whose addresses the kernel holds."""

from __future__ import annotations

from dataclasses import dataclass

from pylibsrtp import Session

from media.webrtc.srtp import RtpSealer, SrtpKeys, SrtpProfile, open_receiver, open_sender


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """What a transport's packets are protected with.

    `feedback` is for RTCP that Python sends to publishers, since threads must not share a session; `sealer` for RTP, in
    place of `sender`.
    """

    sender: Session
    receiver: Session
    feedback: Session | None
    sealer: RtpSealer | None

    @classmethod
    def open(cls, keys: SrtpKeys, *, publishes: bool) -> TransportKeys:
        """Open all that a publisher or a viewer needs."""
        sealer = RtpSealer(keys) if keys.profile is SrtpProfile.AEAD_AES_128_GCM else None
        return cls(open_sender(keys), open_receiver(keys), open_sender(keys) if publishes else None, sealer)

    @property
    def contexts(self) -> int:
        """How many contexts of libsrtp these are."""
        return 2 if self.feedback is None else 3

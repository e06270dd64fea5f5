"""The SRTP keys of one transport: sessions and ciphers that Python holds, and the kernel knows by their addresses."""

from __future__ import annotations

from media.forwarding.tables import Tables
from media.webrtc.srtp import (
    RtpOpener,
    RtpSealer,
    SrtpKeys,
    SrtpProfile,
    context_address,
    open_receiver,
    open_sender,
)


class TransportKeys:
    """What a transport's packets are protected with; kept until a fence after the kernel was told of no keys.

    `feedback` is for RTCP that Python sends to publishers, since threads must not share a session.
    """

    def __init__(self, keys: SrtpKeys, *, publishes: bool) -> None:
        self._sender, self._receiver = open_sender(keys), open_receiver(keys)
        self.feedback = open_sender(keys) if publishes else None
        is_gcm = keys.profile is SrtpProfile.AEAD_AES_128_GCM
        self._sealer = RtpSealer(keys) if is_gcm else None  # for RTP, in place of the sender
        self._opener = RtpOpener(keys) if is_gcm and publishes else None  # and of the receiver

    def give_to(self, tables: Tables, transport: int) -> None:
        """Let the kernel use them from now on."""
        record = tables.transports
        # `rx` and `tx` last, and they alone are taken away again: the kernel must never have libsrtp go on where it
        # sealed or opened itself.
        record["sealer"][transport] = self._sealer.context if self._sealer else 0
        if self._sealer:
            tables.salts[transport] = memoryview(self._sealer.salt)
        record["opener"][transport] = self._opener.context if self._opener else 0
        if self._opener:
            tables.opening_salts[transport] = memoryview(self._opener.salt)
        record["rx"][transport] = context_address(self._receiver)
        record["tx"][transport] = context_address(self._sender)

    @property
    def contexts(self) -> int:
        """How many contexts of libsrtp these are."""
        return 2 if self.feedback is None else 3

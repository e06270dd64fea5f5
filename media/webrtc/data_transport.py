"""Where data channels meet the DTLS session that carries them (RFC 8261): records in, records and events out."""

from __future__ import annotations

from collections.abc import Collection

from media.webrtc.data_channel import ChannelEvent, DataChannels
from media.webrtc.data_section import DataOffer
from media.webrtc.dtls import Dtls, DtlsRole
from media.webrtc.sctp import PORT, Association


class DataTransport:
    """The data channels of one transport, from when it is secured until it ends; times are monotonic ns.

    `begins` says that the association is ours to begin.
    """

    def __init__(
        self,
        dtls: Dtls,
        role: DtlsRole,
        offer: DataOffer,
        labels: Collection[str],
        now_ns: int,
        *,
        begins: bool = False,
    ) -> None:
        self._dtls = dtls
        association = Association(own_port=PORT, peer_port=offer.port)
        self._parity = int(role is DtlsRole.SERVER)  # of channels that we open (RFC 8832 section 6)
        self.channels = DataChannels(
            association, labels=labels, peers_parity=1 - self._parity, max_message=offer.max_message, now_ns=now_ns
        )
        if begins:
            association.connect(now_ns)

    @property
    def next_stream(self) -> int:
        """The first stream that we may open a channel on."""
        return self._parity

    def receive(self, records: list[bytes], now_ns: int) -> list[ChannelEvent]:
        """Take what the DTLS session has received."""
        return [event for record in records for event in self.channels.receive_untrusted(record, now_ns)]

    def take_datagrams(self, now_ns: int) -> list[bytes]:
        """Return what is to be sent now."""
        packets = self.channels.take_packets(now_ns)
        return [datagram for packet in packets for datagram in self._dtls.send(packet)]

    def deadline_ns(self) -> int:
        """When `handle_timeout` wants to be called."""
        return self.channels.deadline_ns()

    def handle_timeout(self, now_ns: int) -> list[ChannelEvent]:
        """Have sent again what was not answered in time."""
        return self.channels.handle_timeout(now_ns) if now_ns >= self.deadline_ns() else []

"""A connection's keys of the moment, as what makes and opens its packets; an update makes new ones."""

from __future__ import annotations

from aioquic.quic.connection import QuicConnection, QuicConnectionState
from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.tls import Epoch

from media.moq.packet_reference import SealedByReference
from media.moq.packets import Keys, Opener, SealedByKernel, Sealer, keys_of, masks_alike


class Keyring:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self._sending, self._receiving = _Direction(), _Direction()
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._connection_id: bytes | None = None
        self._pair: CryptoPair | None = None

    def is_plain(self, quic: QuicConnection) -> bool:
        """Whether nothing is going on that packets of another kind, or of other keys, are needed for."""
        return (
            quic._state is QuicConnectionState.CONNECTED
            and quic._handshake_confirmed
            and not quic._close_pending
            and not quic._key_update_pending
            and not self._pair_of(quic)._update_key_requested
            and quic._quic_logger is None
            and quic._network_paths[0].is_validated
        )

    def key_phase(self, quic: QuicConnection) -> int:
        """Return the key phase of packets sent now."""
        return self._pair_of(quic).send.key_phase

    def sealer(self, quic: QuicConnection) -> Sealer:
        """Return what makes packets now."""
        crypto = self._pair_of(quic).send
        if self._sealer is None or self._sending.has_changed(crypto):
            keys = self._sending.keys(crypto)
            self._sealer = SealedByReference(crypto) if keys is None else SealedByKernel(keys)
        return self._sealer

    def opener(self, quic: QuicConnection) -> Opener | None:
        """Return what opens acknowledgements now, None when the cipher is not known."""
        crypto = self._pair_of(quic).recv
        if self._receiving.has_changed(crypto) or self._connection_id != quic.host_cid:
            self._connection_id = quic.host_cid
            keys = self._receiving.keys(crypto)
            self._opener = None if keys is None else Opener(keys, crypto.key_phase, quic.host_cid)
        return self._opener

    def _pair_of(self, quic: QuicConnection) -> CryptoPair:
        # To look it up by its epoch, an Enum, takes longer than all else here.
        if self._pair is None:
            self._pair = quic._cryptos[Epoch.ONE_RTT]
        return self._pair


class _Direction:
    def __init__(self) -> None:
        self._secret: bytes | None = None
        self._mask: bytes | None = None

    def has_changed(self, crypto: CryptoContext) -> bool:
        return crypto.secret is not self._secret

    def keys(self, crypto: CryptoContext) -> Keys | None:
        """Return the keys of the newest secret; header protection stays that of the first (RFC 9001 section 6.1)."""
        self._secret = crypto.secret
        keys = keys_of(crypto, self._mask)
        if keys is None or not masks_alike(crypto, keys.mask):
            return None
        self._mask = keys.mask
        return keys

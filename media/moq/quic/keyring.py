"""A connection's keys of the moment, as what makes and opens its packets; an update makes new ones."""

from __future__ import annotations

from aioquic.quic.connection import QuicConnection, QuicConnectionState
from aioquic.quic.crypto import CryptoContext, CryptoPair
from aioquic.tls import Epoch

from media.moq.kernel import columns as c
from media.moq.quic.packets import KernelKeys, keys_of, masks_alike
from media.moq.quic.table import Row


class Keyring:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self._sending, self._receiving = _Direction(seals=True), _Direction(seals=False)

    def show(self, quic: QuicConnection, row: Row) -> bool:
        """Put the keys of the moment into a connection's row; False when others are needed, or none are there yet."""
        if not is_plain(quic):
            return False
        pair: CryptoPair = quic._cryptos[Epoch.ONE_RTT]
        sealing, opening = self._sending.keys(pair.send), self._receiving.keys(pair.recv)
        if sealing is None or opening is None:
            return False
        row.ints[c.SEALER], row.ints[c.SEALING_MASK] = sealing.aead, sealing.mask
        row.ints[c.OPENER], row.ints[c.OPENING_MASK] = opening.aead, opening.mask
        row.octets[c.SEALING_IV : c.SEALING_IV + c.IV_BYTES] = sealing.iv
        row.octets[c.OPENING_IV : c.OPENING_IV + c.IV_BYTES] = opening.iv
        row.ints[c.KEY_PHASE] = pair.send.key_phase
        return pair.send.key_phase == pair.recv.key_phase


def is_plain(quic: QuicConnection) -> bool:
    """Whether nothing is going on that packets of another kind, or of other keys, are needed for."""
    return (
        quic._state is QuicConnectionState.CONNECTED
        and quic._handshake_confirmed
        and not quic._close_pending
        and not quic._key_update_pending
        and not quic._cryptos[Epoch.ONE_RTT]._update_key_requested
        and quic._quic_logger is None
        and quic._network_paths[0].is_validated
    )


class _Direction:
    def __init__(self, *, seals: bool) -> None:
        self._seals = seals
        self._secret: bytes | None = None
        self._mask: bytes | None = None
        self._keys: KernelKeys | None = None

    def keys(self, crypto: CryptoContext) -> KernelKeys | None:
        """Return the keys of the newest secret; header protection stays that of the first (RFC 9001 section 6.1)."""
        if crypto.secret is not self._secret:
            self._secret, self._keys = crypto.secret, None
            keys = keys_of(crypto, self._mask)
            if keys is not None and masks_alike(crypto, keys.mask):
                self._mask, self._keys = keys.mask, KernelKeys(keys, seals=self._seals)
        return self._keys

"""Reads how high the pictures are that begin with a keyframe's first payload, in VP8, VP9 and H264."""

from __future__ import annotations

from media.wire.codecs import Codec
from media.wire.malformed import MalformedPacket

_VP8_START_CODE = b"\x9d\x01\x2a"
_SPS, _STAP_A = 7, 24
_CHROMA_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # H.264 section 7.3.2.1.1
MAX_GOLOMB_BITS = 32
MAX_CYCLE = 255  # num_ref_frames_in_pic_order_cnt_cycle


def heights_untrusted(codec: Codec, payload: bytes) -> tuple[int, ...]:
    """Return the heights of the spatial layers, the lowest first; nothing where they are not told, or make no sense."""
    try:
        match codec:
            case Codec.VP8:
                found = _vp8(payload)
            case Codec.VP9:
                found = _vp9(payload)
            case Codec.H264:
                found = _h264(payload)
            case _:
                found = ()
    except IndexError:
        return ()
    except MalformedPacket:
        return ()
    return found if all(found) else ()


def _vp8(payload: bytes) -> tuple[int, ...]:
    """Look behind the start code of the frame header (RFC 6386 section 9.1)."""
    at = payload.find(_VP8_START_CODE, 0, 16)
    return (int.from_bytes(payload[at + 5 : at + 7], "little") & 0x3FFF,) if 0 <= at <= len(payload) - 7 else ()


def _vp9(payload: bytes) -> tuple[int, ...]:
    """Read the scalability structure of the payload descriptor (RFC 9628 section 4.2.1)."""
    first, at = payload[0], 1
    if first & 0x80:
        at += 2 if payload[at] & 0x80 else 1
    if first & 0x20:
        at += 1 if first & 0x10 else 2
    if first & 0x50 == 0x50:  # flexible and predicted: up to three differences
        for _ in range(3):
            at += 1
            if not payload[at - 1] & 0x01:
                break
    if not first & 0x02 or not payload[at] & 0x10:
        return ()
    sizes = payload[at + 1 : at + 1 + 4 * ((payload[at] >> 5) + 1)]
    heights = tuple(int.from_bytes(sizes[place + 2 : place + 4]) for place in range(0, len(sizes), 4))
    return heights if len(sizes) == 4 * ((payload[at] >> 5) + 1) else ()


def _h264(payload: bytes) -> tuple[int, ...]:
    kind = payload[0] & 0x1F
    if kind == _SPS:
        return (_sps_height(payload[1:]),)
    at = 1
    while kind == _STAP_A and at + 3 <= len(payload):
        size = int.from_bytes(payload[at : at + 2])
        if payload[at + 2] & 0x1F == _SPS:
            return (_sps_height(payload[at + 3 : at + 2 + size]),)
        at += 2 + size
    return ()


class _Bits:
    def __init__(self, data: bytes) -> None:
        # Emulation prevention (H.264 section 7.4.1): a 3 behind two zeros is no data.
        self._data = data.replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def read(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def golomb(self) -> int:
        """Read an unsigned Exp-Golomb code (H.264 section 9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > MAX_GOLOMB_BITS:
                raise MalformedPacket("a code of too many bits")
        return (1 << zeros) - 1 + self.read(zeros)


def _sps_height(data: bytes) -> int:
    """Read a sequence parameter set as far as its cropping (H.264 section 7.3.2.1.1)."""
    bits = _Bits(data[:256])
    profile = bits.read(8)
    bits.read(16)
    bits.golomb()
    chroma = 1
    if profile in _CHROMA_PROFILES:
        chroma = bits.golomb()
        bits.read(chroma == 3)
        bits.golomb()
        bits.golomb()
        bits.read(1)
        if bits.read(1):
            raise MalformedPacket("scaling lists, which no encoder of live pictures sends")
    bits.golomb()
    _skip_order(bits)
    bits.golomb()
    bits.read(1)
    bits.golomb()
    rows, is_progressive = bits.golomb() + 1, bits.read(1)
    if not is_progressive:
        bits.read(1)
    bits.read(1)
    unit = (2 if chroma == 1 else 1) * (2 - is_progressive)
    height = 16 * rows * (2 - is_progressive)
    if bits.read(1):
        bits.golomb()
        bits.golomb()
        height -= unit * (bits.golomb() + bits.golomb())
    return height if 0 < height <= 16_384 else 0


def _skip_order(bits: _Bits) -> None:
    kind = bits.golomb()
    if kind == 0:
        bits.golomb()
    elif kind == 1:
        bits.read(1)
        bits.golomb()
        bits.golomb()
        cycle = bits.golomb()
        if cycle > MAX_CYCLE:
            raise MalformedPacket("a cycle of too many pictures")
        for _ in range(cycle):
            bits.golomb()

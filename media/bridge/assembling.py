"""Frames out of a track's packets: puts together what belongs together, and leaves out what a decoder can't use."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from media.bridge.depacketising import (
    IDR,
    PPS,
    SPS,
    START_CODE,
    begins_group,
    depacketise_untrusted,
    nal_units_untrusted,
)
from media.wire.codecs import Codec
from media.wire.malformed import MalformedPacket

MAX_FRAME_PACKETS = 1024  # twice what the cache of packets holds: more is no frame


class Packet(NamedTuple):
    """What a frame needs to know of a packet; `rtp_time` in units of the track's clock, 32 bits."""

    rtp_time: int
    is_last: bool
    payload: bytes


class AssembledFrame(NamedTuple):
    """One access unit, as `media/bridge/depacketising.py` describes them."""

    rtp_time: int
    unit: bytes
    is_keyframe: bool


class Assembler:
    """Takes a track's packets in order, without gaps but for those it is told of; the first frame is a keyframe."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._packets: list[Packet] = []
        self._parameter_sets: dict[int, bytes] = {}  # H264's newest SPS and PPS
        self.counts = Counter[str]()
        self.needs_keyframe = codec is not Codec.OPUS

    def feed_untrusted(self, packet: Packet) -> list[AssembledFrame]:
        """Take the next packet; returns the frames that it completes: its own, and one before it without its end."""
        frames: list[AssembledFrame] = []
        if not packet.payload:
            return frames  # nothing but padding
        if self._packets and self._packets[-1].rtp_time != packet.rtp_time:
            frames += self._take_frame()
        self._packets.append(packet)
        if packet.is_last or self._codec is Codec.OPUS or len(self._packets) > MAX_FRAME_PACKETS:
            frames += self._take_frame()
        return frames

    def lose(self) -> None:
        """Take note of a gap: the frame in which it is, and what depends on it, can't be decoded."""
        self.counts["gaps"] += 1
        self._packets.clear()
        self.needs_keyframe = self._codec is not Codec.OPUS

    def _take_frame(self) -> list[AssembledFrame]:
        packets, self._packets = self._packets, []
        payloads = [packet.payload for packet in packets]
        is_keyframe = begins_group(self._codec, payloads)
        if self.needs_keyframe and not is_keyframe:
            self.counts["frames_undecodable"] += 1
            return []
        try:
            unit = depacketise_untrusted(self._codec, payloads)
            if self._codec is Codec.H264:
                unit = self._with_parameter_sets(payloads, unit)
        except MalformedPacket:
            self.counts["frames_malformed"] += 1
            self.needs_keyframe = self._codec is not Codec.OPUS
            return []
        self.needs_keyframe = False
        return [AssembledFrame(packets[0].rtp_time, unit, is_keyframe)]

    def _with_parameter_sets(self, payloads: list[bytes], unit: bytes) -> bytes:
        """Put SPS and PPS in front of a picture that begins a sequence without them, as sent apart from it."""
        units = list(nal_units_untrusted(payloads))
        own = {nal[0] & 0x1F: nal for nal in units}
        for kind in (SPS, PPS):
            if kind in own:
                self._parameter_sets[kind] = own[kind]
        if IDR not in own:
            return unit
        missing = [
            self._parameter_sets[kind] for kind in (SPS, PPS) if kind in self._parameter_sets.keys() - own.keys()
        ]
        return b"".join(START_CODE + nal for nal in missing) + unit

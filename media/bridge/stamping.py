"""One track's way from frames to RTP packets, with the sender reports that keep sound and picture together."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

from media.bridge.avc import read_avc_record_untrusted, to_annex_b_untrusted
from media.bridge.packetising import packetise_untrusted
from media.bridge.renditions import Rendition
from media.moq.protocol.containers import unwrap_legacy_untrusted, unwrap_loc_untrusted
from media.moq.protocol.frames import Frame
from media.wire.codecs import Codec
from media.wire.extensions import Passed
from media.wire.malformed import MalformedPacket
from media.wire.rtcp import SenderReport
from media.wire.rtp import RtpHeader, build_rtp

AUDIO_TYPE, VIDEO_TYPE = 111, 96  # payload types on the way into the forwarding thread
MAX_PACKET_BYTES = 1_400  # sound comes in one packet, and longer ones do not pass everywhere
REPORT_NS = 1_000_000_000
ASTRAY_US = 10_000_000  # a publisher's clock that jumped further was set anew
SECOND_US = 1_000_000
PASSED = {Passed.ORIENTATION: 1}  # the ids of header extensions on that way


class PublishersClock:
    """How far a publisher's timestamps are from our clock; shared by its tracks, so that they stay together."""

    def __init__(self) -> None:
        self._offset_us: int | None = None

    def now_us(self, seen_us: int, now_ns: int) -> int:
        """Return what the publisher's clock shows now, of which a frame from `seen_us` has just come."""
        now_us = now_ns // 1_000
        if self._offset_us is None or abs(now_us - self._offset_us - seen_us) > ASTRAY_US:
            self._offset_us = now_us - seen_us
        return now_us - self._offset_us


class Stamper:
    """Makes packets of one rendition's frames. Raises MalformedPacket for a description that is none."""

    def __init__(self, rendition: Rendition, clock: PublishersClock) -> None:
        self._codec, self._container, self._clock = rendition.codec, rendition.container, clock
        self._orientation = rendition.orientation
        self._avc = read_avc_record_untrusted(rendition.description) if rendition.description else None
        self.payload_type = AUDIO_TYPE if rendition.codec.kind == "audio" else VIDEO_TYPE
        self._ssrc = secrets.randbelow(2**32 - 1) + 1
        self._first_rtp = secrets.randbits(32)
        self._sequence_number = secrets.randbits(15)
        self._at_us = 0
        self._frames = self._packets = self._octets = 0
        self._due_ns = 0

    def packets_untrusted(self, frame: Frame, *, is_keyframe: bool) -> list[bytes]:
        """Return the packets of the next frame; raises MalformedPacket.

        None for an empty one, with which moq-rs says when its group ends.
        """
        at_us, unit = self._unwrap(frame)
        if not unit:
            return []
        if self._avc is not None:
            unit = to_annex_b_untrusted(self._avc, unit)
        payloads = packetise_untrusted(self._codec.codec, unit, is_keyframe=is_keyframe, picture_id=self._frames)
        if any(len(payload) > MAX_PACKET_BYTES for payload in payloads):
            raise MalformedPacket("sound that no packet holds")
        self._frames += 1
        self._at_us = at_us
        return list(self._stamped(payloads))

    def report(self, now_ns: int) -> SenderReport | None:
        """Return a sender report when one is due: what the publisher's clock shows now, in both its units."""
        if now_ns < self._due_ns or not self._packets:
            return None
        self._due_ns = now_ns + REPORT_NS
        at_us = self._clock.now_us(self._at_us, now_ns)
        ntp = ((at_us + ASTRAY_US * SECOND_US) << 32) // SECOND_US & 0xFFFFFFFFFFFFFFFF
        return SenderReport(
            self._ssrc, ntp, self._rtp_time(at_us), self._packets & 0xFFFFFFFF, self._octets & 0xFFFFFFFF
        )

    def _unwrap(self, frame: Frame) -> tuple[int, bytes]:
        if self._container == "legacy":
            return unwrap_legacy_untrusted(frame.payload)
        at_us, unit = unwrap_loc_untrusted(frame.payload)
        return frame.timestamp_us if at_us is None else at_us, unit

    def _rtp_time(self, at_us: int) -> int:
        return self._first_rtp + at_us * self._codec.clock_rate // SECOND_US & 0xFFFFFFFF

    def _stamped(self, payloads: list[bytes]) -> Iterator[bytes]:
        rtp_time = self._rtp_time(self._at_us)
        is_sound = self._codec.codec is Codec.OPUS
        for place, payload in enumerate(payloads, start=1):
            is_last = place == len(payloads) and not is_sound
            header = RtpHeader(self.payload_type, self._sequence_number, rtp_time, self._ssrc, is_last)
            if is_last and self._orientation is not None:
                header = replace(header, extensions={PASSED[Passed.ORIENTATION]: bytes([self._orientation])})
            self._sequence_number = self._sequence_number + 1 & 0xFFFF
            self._packets, self._octets = self._packets + 1, self._octets + len(payload)
            yield build_rtp(header, payload)

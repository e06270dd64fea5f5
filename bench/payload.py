"""What the load tools publish: packets of a real stream's sizes and pace whose every byte a receiver can check.

Video looks like VP8 (RFC 7741): a descriptor, then at a frame's start a frame header, so that any server finds its
keyframes. What follows is a stamp that says which packet this is and when it was sent, then filler that the stamp
determines. Sound is a stamp and filler. Sans-IO: time comes by argument, and what is due comes back.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["audio", "video"]
SECOND_NS = 1_000_000_000
FRAME_RATE = 30
SOUND_RATE = 50  # packets of 20 ms
SOUND_SIZE = 160  # bytes: 64 kbit/s
MAX_PAYLOAD = 1_180  # with RTP header and SRTP tag below 1,215 bytes, the most that browsers send
KEYFRAME_EVERY_S = 10
KEYFRAME_SIZE = 5  # times the average frame
UNEVEN = 0.25  # an encoder's frames differ by about so much
CATCH_UP_NS = SECOND_NS // 2  # what is later than that is never sent: a server is not to be hit by a tool's own stall

DESCRIPTOR_SIZE = 4  # X, I and a picture id of 15 bits
FRAME_HEADER_SIZE = 10
KEY_HEADER = bytes.fromhex("10 02 00 9d 01 2a 00 05 d0 02")  # a shown keyframe of 1280x720 (RFC 6386 section 9.1)
DELTA_HEADER = bytes.fromhex("11 02 00 00 00 00 00 00 00 00")
# check, publisher, flags, index in the frame, packets of the frame, size of the payload, frame, number, time sent
STAMP = struct.Struct("<IHBBHHIQQ")
STAMP_SIZE = STAMP.size
WORDS = struct.Struct("<7I")  # of a stamp, behind its check
SENT_AT = 24  # where in a stamp the time is: ns since the epoch
MAGIC = 0x6973654D  # the check is this plus the sum of the stamp's other words (32 bits, little-endian)
SOUND, KEY = 1, 2  # flags
FILLER = np.frombuffer(random.Random(1).randbytes(65_536), dtype=np.uint8)
FILLER_STEPS = (7_919, 104_729)  # primes, by packet number and by publisher: equal fillers are far apart
FILLER_STARTS = 64_000  # the longest filler still fits behind the last start


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a publisher sends; video in bits a second of payload, sound is there or not."""

    video_bps: int = 1_000_000
    sound: bool = True


@dataclass(slots=True)
class Packet:
    """One RTP payload; `at_ns` is the monotonic time that its timestamp stands for."""

    kind: Kind
    timestamp: int
    marker: bool
    at_ns: int
    payload: bytearray
    stamp_at: int

    def stamp(self, wall_ns: int) -> bytes:
        """Return the payload with the time it is sent at (ns since the epoch) written into it."""
        struct.pack_into("<Q", self.payload, self.stamp_at + SENT_AT, wall_ns)
        check = MAGIC + sum(WORDS.unpack_from(self.payload, self.stamp_at + 4)) & 0xFFFFFFFF
        struct.pack_into("<I", self.payload, self.stamp_at, check)
        return bytes(self.payload)


def cut_as_encoders(total: int) -> list[int]:
    """Return the sizes of the payloads of a frame of `total` bytes: nearly equal ones."""
    count = max(-(-total // MAX_PAYLOAD), 1)
    return [total * (index + 1) // count - total * index // count for index in range(count)]


class Source:
    """The packets of one publisher, from `started_ns` (monotonic) on; `sent` counts them by kind."""

    def __init__(
        self, publisher: int, rate: Rate, *, started_ns: int, cut: Callable[[int], list[int]] = cut_as_encoders
    ) -> None:
        self._publisher, self._rate, self._started_ns, self._cut = publisher, rate, started_ns, cut
        self._frames = self._sounds = 0
        self._random = random.Random(publisher)
        self._keyframe_wanted = True
        self.sent = {"audio": 0, "video": 0}

    def request_keyframe(self) -> None:
        """Let the next frame be one that a decoder can start with."""
        self._keyframe_wanted = True

    def skip(self, now_ns: int) -> None:
        """Never make what was due before."""
        elapsed_ns = now_ns - self._started_ns
        self._frames = max(self._frames, -(-elapsed_ns * FRAME_RATE // SECOND_NS))
        self._sounds = max(self._sounds, -(-elapsed_ns * SOUND_RATE // SECOND_NS))

    def deadline_ns(self) -> int:
        """When the next packet is due (monotonic)."""
        return min(self._frame_ns(), self._sound_ns()) if self._rate.sound else self._frame_ns()

    def due(self, now_ns: int) -> list[Packet]:
        """Return what is due until now, in order."""
        self.skip(now_ns - CATCH_UP_NS)
        packets: list[Packet] = []
        while (at_ns := self.deadline_ns()) <= now_ns:
            packets += self._frame(at_ns) if at_ns == self._frame_ns() else [self._sound(at_ns)]
        return packets

    def _frame_ns(self) -> int:
        return self._started_ns + self._frames * SECOND_NS // FRAME_RATE

    def _sound_ns(self) -> int:
        return self._started_ns + self._sounds * SECOND_NS // SOUND_RATE

    def _frame(self, at_ns: int) -> list[Packet]:
        frame, key = self._frames, self._keyframe_wanted or self._frames % (FRAME_RATE * KEYFRAME_EVERY_S) == 0
        self._frames += 1
        self._keyframe_wanted = False
        total = int(self._rate.video_bps / 8 / FRAME_RATE * (1 - UNEVEN + 2 * UNEVEN * self._random.random()))
        total *= KEYFRAME_SIZE if key else 1
        sizes = self._cut(total)
        count = len(sizes)
        timestamp = frame * 90_000 // FRAME_RATE & 0xFFFFFFFF
        packets = []
        for index, wanted in enumerate(sizes):
            size = max(wanted, DESCRIPTOR_SIZE + FRAME_HEADER_SIZE + STAMP_SIZE)
            head = bytearray([0x80, 0x80, 0x80 | frame >> 8 & 0x7F, frame & 0xFF])
            if index == 0:
                head[0] |= 0x10
                head += KEY_HEADER if key else DELTA_HEADER
            payload = self._fill("video", head, size, KEY if key else 0, index, count, frame)
            packets.append(Packet("video", timestamp, index + 1 == count, at_ns, payload, len(head)))
        return packets

    def _sound(self, at_ns: int) -> Packet:
        timestamp = self._sounds * 48_000 // SOUND_RATE & 0xFFFFFFFF
        payload = self._fill("audio", bytearray(), SOUND_SIZE, SOUND, 0, 1, self._sounds)
        self._sounds += 1
        return Packet("audio", timestamp, self._sounds == 1, at_ns, payload, 0)

    def _fill(
        self,
        kind: Kind,
        head: bytearray,
        size: int,
        flags: int,
        index: int,
        count: int,
        frame: int,
    ) -> bytearray:
        number = self.sent[kind]
        self.sent[kind] += 1
        stamp = STAMP.pack(0, self._publisher, flags, index, count, size, frame & 0xFFFFFFFF, number, 0)
        start = (number * FILLER_STEPS[0] + self._publisher * FILLER_STEPS[1]) % FILLER_STARTS
        filler = FILLER[start : start + size - len(head) - STAMP_SIZE].tobytes()
        return head + stamp + filler

"""A moving test picture with a clock, and a tone in step with its flash, as RTP payloads in VP8 and Opus.

At each full second of the wall clock the picture flashes and the tone beeps, both for 100 ms, so that lip sync can be
seen and heard. Sans-IO: time comes by argument, and what is due comes back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
VIDEO_CLOCK = 90_000  # Hz
AUDIO_CLOCK = 48_000  # Hz
AUDIO_FRAME = 960  # samples: 20 ms
MAX_PAYLOAD = 1_180  # with RTP header and SRTP tag below 1,215 bytes, the most that browsers send
KEYFRAME_EVERY_S = 10  # besides those asked for: a viewer whose request was lost recovers by itself
CATCH_UP_NS = SECOND_NS // 2  # whoever asks later than that (a suspended laptop) gets no burst of old frames
SIGNAL_NS = SECOND_NS // 10  # flash and beep
BEEP_HZ = 1_000  # divides the sample rate, so each beep begins at the same phase
BEEP_AMPLITUDE = 8_000  # a quarter of full scale
FADE = 240  # samples, 5 ms: no clicks
PICTURE_ID_WRAP = 1 << 15
DAY_S = 86_400  # the clock shows the time of day

# Five columns by seven rows, one string a glyph, rows from the top.
GLYPHS = {
    "0": ".###. #...# #..## #.#.# ##..# #...# .###.",
    "1": "..#.. .##.. ..#.. ..#.. ..#.. ..#.. .###.",
    "2": ".###. #...# ....# ...#. ..#.. .#... #####",
    "3": "##### ...#. ..#.. ...#. ....# #...# .###.",
    "4": "...#. ..##. .#.#. #..#. ##### ...#. ...#.",
    "5": "##### #.... ####. ....# ....# #...# .###.",
    "6": "..##. .#... #.... ####. #...# #...# .###.",
    "7": "##### ....# ...#. ..#.. .#... .#... .#...",
    "8": ".###. #...# #...# .###. #...# #...# .###.",
    "9": ".###. #...# #...# .#### ....# ...#. .##..",
    ":": "..... ..#.. ..#.. ..... ..#.. ..#.. .....",
    ".": "..... ..... ..... ..... ..... .##.. .##..",
}
# SMPTE's order, 75 %: luma, blue and red difference (BT.601).
COLOUR_BARS = ((180, 128, 128), (162, 44, 142), (131, 156, 44), (112, 72, 58), (84, 184, 198), (65, 100, 212))
WHITE, GREY, BLACK, NEUTRAL = 235, 60, 16, 128


@dataclass(frozen=True, slots=True)
class Format:
    """Size in pixels (both even), frames and bits a second."""

    width: int = 640
    height: int = 360
    frame_rate: int = 30
    video_bps: int = 700_000
    audio_bps: int = 64_000


@dataclass(frozen=True, slots=True)
class MediaPayload:
    """One RTP payload; `at_ns` is the monotonic time that its timestamp stands for, the same scale in both kinds."""

    kind: Literal["audio", "video"]
    timestamp: int
    marker: bool
    payload: bytes
    at_ns: int
    keyframe: bool = False


class MovingPicture:
    """A source of picture and sound; `started_ns` (monotonic) and `wall_ns` (since the epoch) are the same moment."""

    def __init__(self, form: Format, *, started_ns: int, wall_ns: int) -> None:
        self._form = form
        self._started_ns, self._wall_ns = started_ns, wall_ns
        self._canvas = Canvas(form.width, form.height)
        self._pictures = self._sounds = 0
        self._picture_id = 0
        self._keyframe_wanted = True
        self._video = _open_vp8(form)
        self._audio = _open_opus(form)

    def request_keyframe(self) -> None:
        """Let the next picture be one that a decoder can start with."""
        self._keyframe_wanted = True

    def deadline_ns(self) -> int:
        """When the next frame is due (monotonic)."""
        return min(self._picture_ns(), self._sound_ns())

    def due(self, now_ns: int) -> list[MediaPayload]:
        """Return what is due until now, in order; frames missed by more than half a second are never made."""
        self._skip_missed(now_ns)
        payloads: list[MediaPayload] = []
        while (at_ns := self.deadline_ns()) <= now_ns:
            payloads += self._sound(at_ns) if at_ns == self._sound_ns() else self._picture(at_ns)
        return payloads

    def _picture_ns(self) -> int:
        return self._started_ns + self._pictures * SECOND_NS // self._form.frame_rate

    def _sound_ns(self) -> int:
        # A frame of sound exists when its last sample does.
        return self._started_ns + (self._sounds + 1) * AUDIO_FRAME * SECOND_NS // AUDIO_CLOCK

    def _skip_missed(self, now_ns: int) -> None:
        late_ns = now_ns - CATCH_UP_NS - self._started_ns
        self._pictures = max(self._pictures, late_ns * self._form.frame_rate // SECOND_NS)
        self._sounds = max(self._sounds, late_ns * AUDIO_CLOCK // (AUDIO_FRAME * SECOND_NS))

    def _wall(self, at_ns: int) -> int:
        return self._wall_ns + at_ns - self._started_ns

    def _picture(self, at_ns: int) -> Iterator[MediaPayload]:
        timestamp = self._pictures * VIDEO_CLOCK // self._form.frame_rate
        self._pictures += 1
        frame = av.VideoFrame.from_ndarray(self._canvas.paint(self._wall(at_ns)), format="yuv420p")
        frame.pts, frame.time_base = timestamp, Fraction(1, VIDEO_CLOCK)
        frame.pict_type = PictureType.I if self._keyframe_wanted else PictureType.NONE
        self._keyframe_wanted = False
        for packet in self._video.encode(frame):
            parts = packetize_vp8(bytes(packet), self._picture_id)
            self._picture_id = (self._picture_id + 1) % PICTURE_ID_WRAP
            for number, part in enumerate(parts, 1):
                marker = number == len(parts)
                yield MediaPayload("video", timestamp & 0xFFFFFFFF, marker, part, at_ns, bool(packet.is_keyframe))

    def _sound(self, due_ns: int) -> Iterator[MediaPayload]:
        at_ns = due_ns - AUDIO_FRAME * SECOND_NS // AUDIO_CLOCK
        timestamp = self._sounds * AUDIO_FRAME
        first = self._sounds == 0
        self._sounds += 1
        frame = av.AudioFrame.from_ndarray(beep(self._wall(at_ns)), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_CLOCK, timestamp, Fraction(1, AUDIO_CLOCK)
        for packet in self._audio.encode(frame):
            # The marker begins a talkspurt (RFC 3551 section 4.1); this one never pauses.
            yield MediaPayload("audio", timestamp & 0xFFFFFFFF, first, bytes(packet), at_ns)


class Canvas:
    """Paints the picture of a moment into one YUV 4:2:0 buffer, which is painted over by the next."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._still = np.full((height * 3 // 2, width), NEUTRAL, dtype=np.uint8)
        self._still[:height] = GREY
        self._buffer = self._still.copy()
        self._scale = width // (12 * 6)  # twelve characters, and a margin on both sides
        self._clock_at = (height // 8, (width - self._scale * 6 * 12) // 2)
        self._draw_bars(height * 3 // 4)

    def paint(self, wall_ns: int) -> NDArray[np.uint8]:
        """Return the picture at `wall_ns` since the epoch, of shape (height * 3 / 2, width)."""
        self._buffer[:] = self._still
        since_second = wall_ns % SECOND_NS
        self._write(clock_text(wall_ns))
        size = self._height // 6
        top = self._height // 2
        if since_second < SIGNAL_NS:
            self._buffer[top : top + size, : self._width] = WHITE
        left = (self._width - size) * (since_second if wall_ns // SECOND_NS % 2 == 0 else SECOND_NS - since_second)
        left //= SECOND_NS
        self._buffer[top : top + size, left : left + size] = BLACK if since_second < SIGNAL_NS else WHITE
        return self._buffer

    def _write(self, text: str) -> None:
        row, column = self._clock_at
        for character in text:
            glyph = _BITMAPS[character].repeat(self._scale, axis=0).repeat(self._scale, axis=1)
            height, width = glyph.shape
            self._buffer[row : row + height, column : column + width] = glyph
            column += width

    def _draw_bars(self, top: int) -> None:
        top -= top % 2
        planes = self._still[self._height :].reshape(
            2, self._height // 2, self._width // 2
        )  # a view, both at half size
        step = self._width // len(COLOUR_BARS)
        for number, (luma, blue, red) in enumerate(COLOUR_BARS):
            left = number * step
            right = self._width if number + 1 == len(COLOUR_BARS) else left + step
            self._still[top : self._height, left:right] = luma
            for plane, value in ((0, blue), (1, red)):
                planes[plane, top // 2 :, left // 2 : right // 2] = value


def clock_text(wall_ns: int) -> str:
    """Write the time of day in UTC as HH:MM:SS.mmm."""
    seconds = wall_ns // SECOND_NS % DAY_S
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{wall_ns // 1_000_000 % 1000:03}"


def beep(wall_ns: int) -> NDArray[np.int16]:
    """Return 20 ms of interleaved stereo from `wall_ns` on: a tone in the first 100 ms of each second, else silence."""
    since_second = (wall_ns % SECOND_NS) * AUDIO_CLOCK // SECOND_NS
    place = (since_second + np.arange(AUDIO_FRAME)) % AUDIO_CLOCK
    length = SIGNAL_NS * AUDIO_CLOCK // SECOND_NS
    loudness = np.clip(np.minimum(place, length - place) / FADE, 0, 1) * BEEP_AMPLITUDE
    wave = loudness * np.sin(2 * np.pi * BEEP_HZ / AUDIO_CLOCK * place)
    stereo: NDArray[np.int16] = wave.astype(np.int16).repeat(2).reshape(1, -1)
    return stereo


def packetize_vp8(frame: bytes, picture_id: int) -> list[bytes]:
    """Cut an encoded frame into RTP payloads of nearly equal size (RFC 7741 section 4.2), below MAX_PAYLOAD bytes.

    Equal, because packets of one size leave the server as one message.
    """
    descriptor = bytes([0x80, 0x80, 0x80 | picture_id >> 8, picture_id & 0xFF])  # X, then I, then 15 bits
    count = max(-(-len(frame) // (MAX_PAYLOAD - len(descriptor))), 1)
    cuts = [len(frame) * number // count for number in range(count + 1)]
    parts = [descriptor + frame[start:stop] for start, stop in itertools.pairwise(cuts)]
    parts[0] = bytes([parts[0][0] | 0x10]) + parts[0][1:]  # S: the frame's first partition begins here
    return parts


def _bitmap(rows: str) -> NDArray[np.uint8]:
    lit = np.array([[mark == "#" for mark in row] for row in rows.split()])
    glyph = np.full((9, 6), BLACK, dtype=np.uint8)
    glyph[1:8, :5][lit] = WHITE
    return glyph


_BITMAPS = {character: _bitmap(rows) for character, rows in GLYPHS.items()}


def _open_vp8(form: Format) -> Any:
    codec: Any = av.CodecContext.create("libvpx", "w")
    codec.width, codec.height, codec.pix_fmt = form.width, form.height, "yuv420p"
    codec.framerate, codec.time_base = Fraction(form.frame_rate), Fraction(1, VIDEO_CLOCK)
    codec.bit_rate, codec.gop_size = form.video_bps, form.frame_rate * KEYFRAME_EVERY_S
    codec.thread_count = 1
    codec.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}
    return codec


def _open_opus(form: Format) -> Any:
    codec: Any = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = AUDIO_CLOCK, "stereo", "s16"
    codec.bit_rate = form.audio_bps
    codec.options = {"frame_duration": "20"}
    return codec

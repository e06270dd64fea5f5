"""RTCP to publishers that is rare: repair requests, limits, and the one owner of keyframe requests.

Nothing here waits, sends or reads a clock: `due` looks at the columns that the kernel keeps and says what to send now.
Only publishers that were added are ever looked at. The kernel wakes Python when it marks a gap; nobody looks for losses
before, or once nothing is missing. What is told all the time of what arrived, the kernel says (kernel/reporting.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from media.forwarding.losses import Losses
from media.wire.rtcp import Fir, Nack, Pli, Remb, build_rtcp

FOREVER = 2**63 - 1
VIDEO = 2  # value of the column `kind`
OUR_SSRC = 1  # what libwebrtc uses for receivers that send nothing; our answers to publishers promise no other
TICK_NS = 25_000_000  # how often losses are looked for: soon enough to repair within a viewer's jitter buffer
LIMIT_INTERVAL_NS = 1_000_000_000  # how often a limit is told
UNFED_NS = 100_000_000  # until a publisher is looked at again that was to be told before its first packet
KEYFRAME_INTERVAL_NS = 500_000_000  # a keyframe costs a publisher ten frames: one for any number of viewers joining
KEYFRAME_PATIENCE_NS = 10_000_000_000  # a publisher that sent none for so long gets no more requests ...
KEYFRAME_REST_NS = 10_000_000_000  # ... for this long
NO_LIMIT_BPS = 100_000_000.0  # more than anybody sends
LIFTED_TIMES = 3  # so often it is said that a limit is lifted: each of them may be lost
DEFAULT_RTT_NS = 100_000_000  # of a publisher far away: pacing repeats slower than needed costs less than faster


class FeedbackTables(Protocol):
    """The columns that feedback reads; layouts as in `tables`.

    `tracks["keyframe_wanted"]` and `tracks["gap"]` it also clears.
    """

    @property
    def tracks(self) -> npt.NDArray[Any]: ...  # noqa: D102 - the table of this name
    @property
    def cache_seq(self) -> npt.NDArray[np.int64]: ...  # noqa: D102


@dataclass(slots=True)
class _Track:
    """What was said about one track so far."""

    row: int
    uses_fir: bool
    losses: Losses = field(default_factory=Losses)
    restarts: int = -1
    # keyframes
    wanted_since_ns: int = 0  # 0: none is wanted
    asked_ns: int = -FOREVER
    resting_until_ns: int = 0
    fir_number: int = 0


@dataclass(slots=True)
class _Publisher:
    transport: int
    tracks: list[_Track]
    limit_bps: float = math.inf
    limit_ns: int = 0  # when it is told next
    lifted: int = 0  # how often it was told that there is no limit any more


_Question = Callable[[_Publisher, _Track, int], Iterator[bytes]]


class Feedback:
    """Feedback to all publishers; counters tell how often a limit was hit."""

    def __init__(self, tables: FeedbackTables, *, rtt_ns: int = DEFAULT_RTT_NS) -> None:
        self._tables = tables
        self._rtt_ns = rtt_ns
        self._publishers: dict[int, _Publisher] = {}
        self._limited: dict[int, _Publisher] = {}  # who is told a limit, or that there is none any more
        self._look_ns = 0  # when losses are looked for next
        self._feeders: dict[int, tuple[_Publisher, _Track]] = {}  # by the row of the track
        self._repaired_rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._video_rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._missing: set[int] = set()  # rows of tracks of which something was missing at the last look
        self._wanting: set[int] = set()  # rows of which a keyframe is wanted, by a viewer or by somebody here
        self._faults: list[tuple[int, Exception]] = []
        self.keyframe_requests = 0
        self.keyframes_given_up = 0
        self.losses_given_up = 0

    def counters(self) -> dict[str, int]:
        """How many keyframes were asked for, and how many of them and of lost packets never came, by name."""
        return {
            "keyframe_requests": self.keyframe_requests,
            "keyframes_given_up": self.keyframes_given_up,
            "losses_given_up": self.losses_given_up,
        }

    def add_publisher(self, transport_row: int, track_rows: Sequence[int], *, fir_only: Collection[int] = ()) -> None:
        """Look after a publisher's transport and the tracks it feeds.

        Tracks in `fir_only` get FIR instead of PLI, for publishers that negotiated nothing else.
        """
        tracks = [_Track(row, row in fir_only) for row in track_rows]
        self._publishers[transport_row] = _Publisher(transport_row, tracks)
        self._index_tracks()

    def remove_publisher(self, transport_row: int) -> None:
        """Forget a publisher; unknown rows are ignored."""
        if self._publishers.pop(transport_row, None) is not None:
            self._limited.pop(transport_row, None)
            self._index_tracks()

    def next_deadline_ns(self) -> int:
        """When `due` wants to be called at the latest (monotonic ns); call it earlier when a keyframe is wanted."""
        limits_ns = min((publisher.limit_ns for publisher in self._limited.values()), default=FOREVER)
        is_watching = self._missing or self._wanting or bool(self._has_gap().any())
        return min(self._look_ns, limits_ns) if is_watching else limits_ns

    def want_keyframe(self, track_row: int) -> None:
        """Ask for a keyframe at the next `due`, for a reader that is no viewer of the forwarding thread."""
        if track_row in self._feeders and self._tables.tracks["kind"][track_row] == VIDEO:
            self._wanting.add(track_row)

    def limit(self, transport_row: int, bps: float) -> None:
        """Have a publisher send no more than so many bits a second, as far as it listens to REMB; infinity lifts it.

        Browsers do also where they get transport feedback; simulcast then leaves out the best layers.
        """
        publisher = self._publishers.get(transport_row)
        if publisher is not None and bps != publisher.limit_bps:
            publisher.limit_bps, publisher.limit_ns, publisher.lifted = bps, 0, 0
            self._limited[transport_row] = publisher

    def due(self, now_ns: int) -> list[tuple[int, bytes]]:
        """Return (transport row, RTCP) for all that is to be sent now; each fits one datagram."""
        out: list[tuple[int, bytes]] = []
        if self._look_ns <= now_ns:
            out += self._repair_requests(now_ns)
        for publisher in [publisher for publisher in self._limited.values() if publisher.limit_ns <= now_ns]:
            out += self._guarded(publisher, self._limit(publisher, now_ns))
        return out + self._keyframe_requests(now_ns)

    def take_faults(self) -> list[tuple[int, Exception]]:
        """Return the transports that faults of ours struck since the last call; they are not looked after any more."""
        faults, self._faults = self._faults, []
        return faults

    def _ask(self, rows: set[int], what: _Question, now_ns: int) -> list[tuple[int, bytes]]:
        """Ask something about each track of `rows`; whom a fault struck meanwhile is asked nothing more."""
        out: list[tuple[int, bytes]] = []
        for row in sorted(rows):
            if row in self._feeders:
                publisher, track = self._feeders[row]
                out += self._guarded(publisher, what(publisher, track, now_ns))
        return out

    def _guarded(self, publisher: _Publisher, messages: Iterator[bytes]) -> list[tuple[int, bytes]]:
        try:
            return [(publisher.transport, rtcp) for rtcp in messages]
        except Exception as fault:  # whatever it is, it is about this publisher and nobody else's affair
            self._faults.append((publisher.transport, fault))
            self.remove_publisher(publisher.transport)
            return []

    def _limit(self, publisher: _Publisher, now_ns: int) -> Iterator[bytes]:
        live = [track for track in publisher.tracks if self._is_fed(track, publisher)]
        publisher.limit_ns = now_ns + (LIMIT_INTERVAL_NS if live else UNFED_NS)
        if not live:
            return
        if publisher.limit_bps == math.inf:
            publisher.lifted += 1
            if publisher.lifted == LIFTED_TIMES:
                del self._limited[publisher.transport]
        ssrcs = tuple(int(self._tables.tracks["ssrc"][track.row]) for track in live)
        yield build_rtcp(Remb(OUR_SSRC, round(min(publisher.limit_bps, NO_LIMIT_BPS)), ssrcs))

    def _is_fed(self, track: _Track, publisher: _Publisher) -> bool:
        """Whether this publisher's packets have arrived on the track; notices where a source began anew."""
        row = self._tables.tracks[track.row]
        if not row["active"] or row["transport"] != publisher.transport or row["ssrc"] == 0:
            return False
        if row["restarts"] != track.restarts:
            track.restarts = int(row["restarts"])
            track.losses = Losses()
        return True

    # -- repair ------------------------------------------------------------------------------------------------------

    def _repair_requests(self, now_ns: int) -> list[tuple[int, bytes]]:
        """Look closer at the tracks of which packets are missing, or were at the last look."""
        rows = {*self._repaired_rows[self._has_gap()].tolist(), *self._missing}
        if rows or self._wanting:
            self._look_ns = now_ns + TICK_NS
        return self._ask(rows, self._nacks, now_ns)

    def _has_gap(self) -> npt.NDArray[np.bool_]:
        has_gap: npt.NDArray[np.bool_] = self._tables.tracks["gap"][self._repaired_rows] != 0
        return has_gap

    def _nacks(self, publisher: _Publisher, track: _Track, now_ns: int) -> Iterator[bytes]:
        if not self._is_fed(track, publisher):
            return
        row = self._tables.tracks[track.row]
        row["gap"] = 0  # before the numbers are read: the next gap is then seen now, or leaves its mark
        first, highest = int(row["first_ext_seq"]), int(row["highest_ext_seq"])
        missing = track.losses.look(self._tables.cache_seq[track.row], first, highest, now_ns, self._rtt_ns)
        (self._missing.add if track.losses else self._missing.discard)(track.row)
        if track.losses.given_up:
            self.losses_given_up += track.losses.given_up
            self.want_keyframe(track.row)
        if missing:
            yield build_rtcp(Nack(OUR_SSRC, int(row["ssrc"]), tuple(number & 0xFFFF for number in missing)))

    # -- keyframes -----------------------------------------------------------------------------------------------------

    def _keyframe_requests(self, now_ns: int) -> list[tuple[int, bytes]]:
        """Ask at once, then every half second while one is wanted, whoever wants it and however many they are."""
        is_wanted = self._tables.tracks["keyframe_wanted"][self._video_rows] != 0
        self._wanting.update(self._video_rows[is_wanted].tolist())
        return self._ask(self._wanting, self._ask_for_keyframe, now_ns)

    def _ask_for_keyframe(self, publisher: _Publisher, track: _Track, now_ns: int) -> Iterator[bytes]:
        request = self._keyframe_request(track, now_ns) if self._is_fed(track, publisher) else None
        if request is not None:
            yield build_rtcp(request)

    def _keyframe_request(self, track: _Track, now_ns: int) -> Pli | Fir | None:
        row = self._tables.tracks[track.row]
        if now_ns < track.resting_until_ns:
            return None
        if not track.wanted_since_ns:
            track.wanted_since_ns = now_ns
        if int(row["last_keyframe_ns"]) > track.wanted_since_ns:
            self._stop_wanting(track)
            return None
        if now_ns - track.wanted_since_ns >= KEYFRAME_PATIENCE_NS:
            self.keyframes_given_up += 1
            self._stop_wanting(track)
            track.resting_until_ns = now_ns + KEYFRAME_REST_NS
            return None
        if now_ns - track.asked_ns < KEYFRAME_INTERVAL_NS:
            return None
        track.asked_ns = now_ns
        self.keyframe_requests += 1
        if not track.uses_fir:
            return Pli(OUR_SSRC, int(row["ssrc"]))
        track.fir_number = (track.fir_number + 1) & 0xFF
        return Fir(OUR_SSRC, ((int(row["ssrc"]), track.fir_number),))

    def _stop_wanting(self, track: _Track) -> None:
        self._tables.tracks["keyframe_wanted"][track.row] = 0
        track.wanted_since_ns = 0
        self._wanting.discard(track.row)

    # -- bookkeeping ---------------------------------------------------------------------------------------------------

    def _index_tracks(self) -> None:
        columns = self._tables.tracks
        every = [(publisher, track) for publisher in self._publishers.values() for track in publisher.tracks]
        self._feeders = {track.row: (publisher, track) for publisher, track in every}
        rows = np.array(sorted(self._feeders), np.int64)
        self._repaired_rows = rows[columns["nack"][rows] != 0]
        self._video_rows = rows[columns["kind"][rows] == VIDEO]
        self._missing &= self._feeders.keys()
        self._wanting &= self._feeders.keys()

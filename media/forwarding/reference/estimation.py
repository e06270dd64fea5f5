"""What a viewer's network carries, estimated in plain Python: read this first. Tests hold estimation.py against it.

Nothing here is fast, and nothing imports this but tests.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from media.forwarding import estimates as c


@dataclass(slots=True)
class Group:
    """Packets that left together: when the first and the last of them left and arrived."""

    first_sent_ns: int
    sent_ns: int
    first_arrived_ns: int
    arrived_ns: int

    def takes(self, sent_ns: int, arrived_ns: int) -> bool:
        """Whether a packet is one of them: it left within 5 ms, or waited with them and came in one go."""
        came_on, left_on = arrived_ns - self.arrived_ns, sent_ns - self.sent_ns
        is_young = arrived_ns - self.first_arrived_ns < c.LONGEST_BURST_NS
        is_burst = came_on <= c.BURST_NS and came_on < left_on and is_young
        return sent_ns - self.first_sent_ns <= c.GROUP_NS or is_burst


@dataclass(slots=True)
class Trend:
    """Whether delays rise: a line through the last ones, against a threshold that adapts to a network's jitter."""

    groups: int = 0
    delay_ms: float = 0.0
    smooth_ms: float = 0.0
    points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=c.TREND_POINTS))
    threshold_ms: float = c.FIRST_THRESHOLD_MS
    threshold_at_ns: int | None = None
    over_ms: float = 0.0
    over_groups: int = 0
    former: float = 0.0
    is_over: bool = False
    is_under: bool = False

    def see(self, left_ns: int, came_ns: int, arrived_ns: int) -> None:
        """Take the times between two groups, of which the later arrived at `arrived_ns`."""
        self.groups += 1
        self.delay_ms += (came_ns - left_ns) / c.MS_NS
        self.smooth_ms = c.SMOOTHING * self.smooth_ms + (1 - c.SMOOTHING) * self.delay_ms
        self.points.append((arrived_ns / c.MS_NS, self.smooth_ms))
        if self.groups >= c.TREND_POINTS:
            trend = self._slope() * min(self.groups, c.MOST_GROUPS) * c.GAIN
            self._detect(trend, left_ns / c.MS_NS)
            self._adapt(abs(trend), arrived_ns)

    def _slope(self) -> float:
        points, first = self.points, self.points[0][0]
        mean_x = sum(x - first for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        down = sum((x - first - mean_x) ** 2 for x, _ in points)
        return sum((x - first - mean_x) * (y - mean_y) for x, y in points) / down if down > 0 else 0.0

    def _detect(self, trend: float, left_ms: float) -> None:
        rises, self.former = trend >= self.former, trend
        self.is_under = trend < -self.threshold_ms
        if trend <= self.threshold_ms:
            self.is_over, self.over_ms, self.over_groups = False, 0.0, 0
            return
        self.over_ms += left_ms if self.over_groups else left_ms / 2
        self.over_groups += 1
        self.is_over = self.is_over or (self.over_ms > c.OVER_MS and self.over_groups > 1 and rises)

    def _adapt(self, size: float, now: int) -> None:
        step_ms = 0.0 if self.threshold_at_ns is None else (now - self.threshold_at_ns) / c.MS_NS
        self.threshold_at_ns = now
        if size <= self.threshold_ms + c.OUTLIER_MS:
            pace = c.FALL if size < self.threshold_ms else c.RISE
            moved = self.threshold_ms + pace * (size - self.threshold_ms) * min(step_ms, c.LONGEST_STEP_MS)
            self.threshold_ms = min(max(moved, c.LEAST_THRESHOLD_MS), c.MOST_THRESHOLD_MS)


@dataclass(slots=True)
class Waiting:
    """How long a viewer's packets wait, judged by the quickest of each report and of the last 10 to 20 seconds."""

    base_ns: int = 0
    window_least_ns: int = 0
    window_ends_ns: int | None = None
    queue_ms: float = 0.0

    def see(self, least_ns: int, now: int) -> None:
        """Take the shortest way of one report's packets."""
        if self.window_ends_ns is None or now >= self.window_ends_ns:
            former = least_ns if self.window_ends_ns is None else self.window_least_ns
            self.base_ns, self.window_least_ns = min(former, least_ns), least_ns
            self.window_ends_ns = now + c.BASE_WINDOW_NS
        self.base_ns = min(self.base_ns, least_ns)
        self.window_least_ns = min(self.window_least_ns, least_ns)
        self.queue_ms = (least_ns - self.base_ns) / c.MS_NS


@dataclass(slots=True)
class Busy:
    """How quickly a link lets packets through that wait for each other: what it carries, however little is sent."""

    ns: int = 0
    octets: int = 0
    arrived_ns: int | None = None  # the newest packet, waiting or not

    def see(self, waited_ms: float, arrived_ns: int, size: int) -> None:
        """Take one packet, which waited for so long."""
        if self.arrived_ns is None:
            self.arrived_ns = arrived_ns
            return
        if waited_ms > c.QUEUE_MS:
            self.ns += max(arrived_ns - self.arrived_ns, 0)
            self.octets += size
        self.arrived_ns = max(self.arrived_ns, arrived_ns)

    @property
    def bps(self) -> float:
        """What it carries, 0 while that is unknown."""
        return self.octets * 8 * c.SECOND_NS / self.ns if self.ns >= c.LEAST_BUSY_NS else 0.0

    def clear(self) -> None:
        """Begin anew."""
        self.ns = self.octets = 0


@dataclass(slots=True)
class Probe:
    """Packets behind `first` up to `last` that were sent at once, and how quickly they came."""

    first: int
    last: int
    began_ns: int | None = None
    ended_ns: int = 0
    octets: int = 0

    def see(self, number: int, arrived_ns: int, size: int) -> None:
        """Take one packet."""
        if number == self.first:
            self.began_ns = arrived_ns
        elif self.first < number <= self.last and self.began_ns is not None:
            self.octets += size
            self.ended_ns = arrived_ns

    @property
    def found_bps(self) -> float:
        """How quickly they came, 0 where none did."""
        if self.octets == 0 or self.began_ns is None:
            return 0.0
        return self.octets * 8 * c.SECOND_NS / max(self.ended_ns - self.began_ns, c.MS_NS // 4)


@dataclass(slots=True)
class Estimate:
    """What the way to one viewer carries; `bps` is it."""

    probe_bps: float = 0.0  # what somebody would send if the way carried it
    bps: float = c.START_BPS
    cuts: int = 0
    probe_due_ns: int = 0
    trend: Trend = field(default_factory=Trend)
    waiting: Waiting = field(default_factory=Waiting)
    busy: Busy = field(default_factory=Busy)
    group: Group | None = None
    former: Group | None = None
    least_ns: int | None = None
    received_bps: float = 0.0
    count_from_ns: int | None = None
    count_octets: int = 0
    delay_bps: float = c.START_BPS
    link_bps: float | None = None
    cut_ns: int = 0
    standing: int = 0
    changed_ns: int | None = None
    loss_bps: float = c.MOST_BPS
    loss_from_ns: int | None = None
    lost: int = 0
    got: int = 0
    probe: Probe | None = None
    found_bps: float = 0.0  # by the probe before, 0 none
    goal_bps: float = 0.0  # of the next probe, 0 for another beginning
    fails: int = 0

    def arrived(self, number: int, sent_ns: int, arrived_ns: int, size: int) -> None:
        """Take one packet that a report told of."""
        self.got += 1
        way_ns = arrived_ns - sent_ns
        self.least_ns = way_ns if self.least_ns is None else min(self.least_ns, way_ns)
        self._count(arrived_ns, size)
        is_known = self.waiting.window_ends_ns is not None
        self.busy.see((way_ns - self.waiting.base_ns) / c.MS_NS if is_known else 0.0, arrived_ns, size)
        if self.probe is not None:
            self.probe.see(number, arrived_ns, size)
        self._join_group(sent_ns, arrived_ns)

    def reported(self, lost: int, highest: int, now: int) -> None:
        """Judge what one report told."""
        self.lost += lost
        if self.least_ns is not None:
            self.waiting.see(self.least_ns, now)
            self.least_ns = None
        self._move_delay_bound(now)
        self._move_loss_bound(now)
        self._end_probe(highest, now)
        self.bps = min(max(min(self.delay_bps, self.loss_bps), c.LEAST_BPS), c.MOST_BPS)

    def probe_goal(self, now: int) -> float:
        """Return how many bits a second a probe is to show now, 0 where none is due."""
        if self.probe_bps <= self.bps:
            if self.fails or self.goal_bps:
                self.fails, self.goal_bps, self.found_bps = 0, 0.0, 0.0
                self.probe_due_ns = now + c.PROBE_AFTER_NS
            return 0.0
        if now < self.probe_due_ns:
            return 0.0
        step = c.PROBE_FIRST if self.link_bps is None and self.fails == 0 else c.PROBE_NEXT
        return min(self.goal_bps or step * self.bps, self.probe_bps)

    def probes(self, first: int, last: int, goal_bps: float, now: int) -> None:
        """Note a probe."""
        self.fails += self.probe is not None  # nothing was heard of the one before
        self.probe, self.goal_bps = Probe(first, last), goal_bps
        self.probe_due_ns = now + c.PROBE_LOST_NS

    def _count(self, arrived_ns: int, size: int) -> None:
        elapsed = 0 if self.count_from_ns is None else arrived_ns - self.count_from_ns
        if self.count_from_ns is None or elapsed < 0:
            self.count_from_ns, self.count_octets = arrived_ns, 0
            return
        self.count_octets += size
        if elapsed >= c.COUNT_NS:
            found = self.count_octets * 8 * c.SECOND_NS / elapsed
            self.received_bps = (self.received_bps + found) / 2 if self.received_bps else found
            self.count_from_ns, self.count_octets = arrived_ns, 0

    def _join_group(self, sent_ns: int, arrived_ns: int) -> None:
        group = self.group
        if group is not None and sent_ns < group.first_sent_ns:
            return
        if group is not None and group.takes(sent_ns, arrived_ns):
            group.sent_ns, group.arrived_ns = max(group.sent_ns, sent_ns), max(group.arrived_ns, arrived_ns)
            return
        if group is not None and self.former is not None:
            left_ns, came_ns = group.sent_ns - self.former.sent_ns, group.arrived_ns - self.former.arrived_ns
            self.trend.see(left_ns, came_ns, group.arrived_ns)
        self.former, self.group = group, Group(sent_ns, sent_ns, arrived_ns, arrived_ns)

    def _move_delay_bound(self, now: int) -> None:
        elapsed_s = 0.0 if self.changed_ns is None else min((now - self.changed_ns) / c.SECOND_NS, 1.0)
        self.changed_ns = now
        queue_ms = self.waiting.queue_ms
        self.standing = self.standing + 1 if queue_ms > c.STANDING_MS else 0
        if (self.trend.is_over and queue_ms > c.QUEUE_MS) or self.standing >= c.STANDING_REPORTS:
            self._lower(now)
            return
        if queue_ms <= c.QUEUE_MS:
            self.busy.clear()
        if not self.trend.is_under and queue_ms <= c.QUEUE_MS:
            is_near = self.link_bps is not None and abs(self.delay_bps - self.link_bps) < c.NEAR_LINK * self.link_bps
            if is_near:
                grown = self.delay_bps + c.STEP_BPS_PER_S * elapsed_s
            else:
                grown = self.delay_bps * (1 + c.INCREASE_PER_S * elapsed_s)
            most = max(self.delay_bps, c.HEADROOM * self.received_bps + c.HEADROOM_BPS)
            self.delay_bps = min(grown, most, c.MOST_BPS)

    def _lower(self, now: int) -> None:
        carried = max(self.received_bps, self.busy.bps)
        lowered = c.DECREASE * carried
        if carried and lowered < self.delay_bps and now - self.cut_ns >= c.CUT_EVERY_NS:
            self.link_bps, self.delay_bps = carried, max(lowered, c.LEAST_BPS)
            self.cut_ns = now
            self.busy.clear()
            self.cuts += 1

    def _move_loss_bound(self, now: int) -> None:
        self.loss_from_ns = now if self.loss_from_ns is None else self.loss_from_ns
        seen = self.lost + self.got
        if seen < c.LOSS_PACKETS or now - self.loss_from_ns < c.LOSS_WINDOW_NS:
            return
        share = self.lost / seen
        self.lost, self.got, self.loss_from_ns = 0, 0, now
        if share > c.HIGH_LOSS:
            self.loss_bps = max(min(self.loss_bps, self.delay_bps) * (1 - share / 2), c.LEAST_BPS)
            self.cuts += 1
        elif share < c.LOW_LOSS:
            self.loss_bps = min(self.loss_bps * c.LOSS_INCREASE, c.MOST_BPS)

    def _end_probe(self, highest: int, now: int) -> None:
        probe = self.probe
        if probe is None or highest < probe.last:
            return
        self.probe = None
        says_nothing = self.trend.is_over or self.waiting.queue_ms > c.QUEUE_MS
        found, before = 0.0 if says_nothing else probe.found_bps, self.found_bps
        shown = c.PROBE_SHARE * (min(found, before) if before else found)
        is_more = shown > self.bps
        if before and is_more:
            self._believe(min(shown, c.PROBE_TRUSTED * self.goal_bps, c.MOST_BPS))
        is_shown = shown >= c.PROBE_SHOWN * self.goal_bps and self.goal_bps < self.probe_bps
        if (not before and is_more) or is_shown:
            self.found_bps, self.goal_bps = found, c.PROBE_STEP * self.goal_bps
            self.probe_due_ns = now + c.PROBE_AGAIN_NS
            return
        self.found_bps = self.goal_bps = 0.0
        self.probe_due_ns = now + (c.PROBE_AFTER_NS << min(self.fails // c.FAILS_EACH, c.PROBE_HALVINGS))
        self.fails += 1

    def _believe(self, bps: float) -> None:
        """Raise the estimate; a link that is known stays so unless it carries clearly more than was known."""
        self.delay_bps = max(self.delay_bps, bps)
        if self.link_bps is not None and bps > (1 + c.NEAR_LINK) * self.link_bps:
            self.link_bps = None
        self.loss_bps = max(self.loss_bps, bps)

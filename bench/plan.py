"""`python -m bench.plan`: what a million viewers on many nodes would take, by a simulation. Nothing of it is built.

What one core does was measured, by the tools named at each option; how a tree of relaying nodes grows from that, how
long a cut takes to hold on all of it, and how soon a crowd sees a picture, is simulated with a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import click

from bench.outputs import Outputs, with_outputs
from bench.plan_crowd import Failure, Ways, leaf_fails, relay_fails, storm
from bench.plan_cut import CUT_AT_MS, Cut, Network, Outcome, Rules
from bench.plan_tree import Costs, Machine, Tree, grow, loads
from bench.plots import Bars, Lines
from bench.report import Report, distribution, percentile, read_report, say

LOSSES = (0.0, 0.01, 0.1, 0.3)
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
STORMS_S = (10.0, 60.0)
BROKEN_SHARE = 0.1  # of the nodes, in the worst of the simulated networks
NOTICE_MS = 2_000.0  # until a viewer sees that its leaf is gone, at least
POINTS = 1_000  # of a plotted distribution
GIGA = 1e9
# Where a measured number is in the results of `bench all`: file, name in the report.
MEASURED = {
    "packet_us": ("fanout", "server CPU per delivered packet"),
    "join_ms": ("join", "storm: server CPU for each join"),  # many at once, which is what is simulated
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is planned for, and with what."""

    viewers: int
    costs: Costs
    machine: Machine
    fanout: int
    rules: Rules
    cuts: int
    seed: int

    @property
    def of_a_node(self) -> int:
        """How many viewers one node is planned to carry."""
        return self.machine.viewers(self.costs)

    @property
    def tree(self) -> Tree:
        """The nodes."""
        return grow(self.viewers, self.of_a_node, self.fanout)


def read_measured(folder: Path, costs: Costs) -> Costs:
    """Return costs with what `bench all` measured instead, as far as its results are there."""
    for name, (file, row) in MEASURED.items():
        path = folder / f"{file}.json"
        if path.exists():
            found = {said: value for said, value, _ in read_report(path.read_text()).rows}
            value = found.get(row)
            if isinstance(value, int | float):
                costs = replace(costs, **{name: float(value)})
    return costs


def run_cuts(plan: Plan, loss: float, *, with_broken: bool = False) -> list[Outcome]:
    """Cut so many times, each time with other luck; with some of the nodes cut off from their parents at some time."""
    tree, found = plan.tree, []
    for number in range(plan.cuts):
        random = Random(plan.seed * 1_000 + number)
        nodes = random.sample(range(1, len(tree.parents)), int(BROKEN_SHARE * (len(tree.parents) - 1)))
        moments = {node: CUT_AT_MS + random.uniform(-2, 1) * plan.rules.lease_ms for node in nodes}
        broken = moments if with_broken else None
        found.append(Cut(tree, Network(loss=loss), plan.rules, plan.seed * 1_000 + number, broken).run())
    return found


def describe_tree(report: Report, plan: Plan) -> None:
    """Add how many nodes there are, and what is on the links."""
    tree, costs, machine = plan.tree, plan.costs, plan.machine
    report.add("one node by its cores", machine.by_cores(costs), "viewers")
    report.add("one node by its network", machine.by_network(costs), "viewers")
    report.add("nodes", len(tree.parents))
    report.add("links from the origin to a viewer's node", tree.depth)
    for kind, load in loads(tree, costs).items():
        report.add(f"{kind}: nodes", load.nodes)
        report.add(f"{kind}: sends", load.sends_bps / GIGA, "Gbit/s")
        report.add(f"{kind}: forwarding", load.cores, "cores")
    report.add("one link between nodes: media", costs.source_bps / 1e6, "Mbit/s")
    report.add("all egress to viewers", plan.viewers * costs.viewer_bps / GIGA, "Gbit/s")
    between = (len(tree.parents) - 1) * costs.source_bps
    report.add("egress between nodes, of all", 100 * between / (plan.viewers * costs.viewer_bps + between), "%")
    report.add("memory of a viewers' node for them", plan.of_a_node * costs.viewer_kb / 1e6, "GB")
    nodes = [(f"{size:,} viewers", float(len(grow(size, plan.of_a_node, plan.fanout).parents))) for size in SIZES]
    report.draw(Bars("Nodes of a tree (simulated)", "", nodes))


def describe_cuts(report: Report, plan: Plan) -> None:
    """Add how long a cut takes to hold on all nodes, and that nothing leaks, whatever is lost."""
    lines = Lines("From the cut to its confirmation (simulated)", "ms", "% of cuts confirmed")
    kinds = [(f"{100 * loss:g} % lost", loss, False) for loss in LOSSES]
    kinds.append((f"10 % lost, {100 * BROKEN_SHARE:g} % of nodes cut off", 0.1, True))
    leaks, slowest = 0, 0.0
    for name, loss, with_broken in kinds:
        say(f"{plan.cuts} cuts: {name}")
        cuts = run_cuts(plan, loss, with_broken=with_broken)
        confirmed = [cut.confirmed_ms for cut in cuts]
        report.add(f"cut, {name}: last packet of any node p50", percentile([max(c.last_ms) for c in cuts], 0.5), "ms")
        report.add(f"cut, {name}: confirmed p50", percentile(confirmed, 0.5), "ms")
        report.add(f"cut, {name}: confirmed at the latest", max(confirmed), "ms")
        report.add(f"cut, {name}: nodes that leaked after it", sum(cut.leaks for cut in cuts))
        node_hours = sum(cut.simulated_ms for cut in cuts) * len(plan.tree.parents) / 3.6e6
        report.add(f"{name}: leases that ran out", sum(cut.lapses for cut in cuts) / node_hours, "in a node's hour")
        lines.series[name] = distribution(confirmed)
        leaks, slowest = leaks + sum(cut.leaks for cut in cuts), max(slowest, *confirmed)
    link_seconds = sum(cut.simulated_ms for cut in cuts) / 1e3 * max(len(plan.tree.parents) - 1, 1)
    report.add("control messages on a link", sum(cut.messages for cut in cuts) / link_seconds, "/s")
    report.draw(lines)
    most = plan.rules.lease_ms * (1 + 2 * plan.rules.drift) + plan.rules.fence_ms
    report.expect("no node sends anything to those without the right after a confirmation", leaks == 0)
    report.expect(f"every cut is confirmed within {most:,.0f} ms, as long as a lease lasts", slowest <= most)


def describe_crowd(report: Report, plan: Plan) -> None:
    """Add how soon people see a picture when all come at once, and when a node fails."""
    tree, ways, costs = plan.tree, Ways(), plan.costs
    lines = Lines("When a picture is there (simulated)", "s", "% of viewers that have one")
    for within_s in STORMS_S:
        times = storm(tree, within_s, costs.join_ms, ways, plan.seed)
        name = f"all within {within_s:g} s"
        for share in (0.5, 0.99):
            report.add(f"storm, {name}: picture p{100 * share:g}", float(times[int(share * (len(times) - 1))]), "ms")
        lines.series[name] = list(_thin([float(ms) / 1e3 for ms in times]))
    leaf = leaf_fails(tree, NOTICE_MS, costs.join_ms, plan.of_a_node, ways, plan.seed)
    relay = relay_fails(tree, plan.rules.lease_ms, ways, plan.seed)
    for name, failure in (("a viewers' node fails", leaf), ("a relay fails", relay)):
        _describe_failure(report, name, failure)
        lines.series[name] = list(_thin([float(ms) / 1e3 for ms in failure.back_ms]))
    report.add("a viewers' node fails: the fullest other", 100 * leaf.others_use * plan.machine.use, "% of it")
    report.draw(lines)
    report.expect("the viewers of a node that fails find room on the others", leaf.others_use * plan.machine.use < 1)


def _describe_failure(report: Report, name: str, failure: Failure) -> None:
    report.add(f"{name}: viewers hit", failure.viewers)
    if failure.viewers:
        report.add(f"{name}: picture again p50", float(failure.back_ms[failure.viewers // 2]), "ms")
        report.add(f"{name}: picture again, the last", float(failure.back_ms[-1]), "ms")


def _thin(values: list[float]) -> Iterator[tuple[float, float]]:
    step = max(len(values) // POINTS, 1)
    for place in range(0, len(values), step):
        yield values[place], 100 * (place + 1) / len(values)


def describe(plan: Plan) -> Report:
    """Simulate all of it."""
    report = Report(f"SIMULATED, not built: {plan.viewers:,} viewers of one stream on a tree of nodes")
    costs = plan.costs
    report.add("assumed: a packet to a viewer", costs.packet_us, "us of a core")
    report.add("assumed: a join", costs.join_ms, "ms of a core")
    report.add("assumed: cores of a node that forward", plan.machine.cores)
    report.add("assumed: network of a node", plan.machine.network_bps / GIGA, "Gbit/s")
    report.add("assumed: share of both that is planned with", 100 * plan.machine.use, "%")
    report.add("assumed: a lease", plan.rules.lease_ms, "ms")
    describe_tree(report, plan)
    describe_cuts(report, plan)
    describe_crowd(report, plan)
    return report


@click.command()
@click.option("--viewers", default=1_000_000, show_default=True)
@click.option("--results", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Of `bench all`.")
@click.option("--packet-us", default=2.7, show_default=True, help="Of a core, by `bench.fanout`.")
@click.option("--join-ms", default=4.0, show_default=True, help="Of a core, by `bench.join`.")
@click.option("--viewer-kb", default=100.0, show_default=True, help="Of memory, by `bench compare`.")
@click.option("--video-bps", default=1_000_000, show_default=True, help="What a viewer gets, besides sound.")
@click.option("--source-bps", default=1_800_000, show_default=True, help="All layers, which a link carries.")
@click.option("--cores", default=8, show_default=True, help="Of a node, that forward.")
@click.option("--network-gbps", default=25.0, show_default=True, help="Of a node.")
@click.option("--use", default=0.6, show_default=True, help="Share of cores and network that is planned with.")
@click.option("--fanout", default=10, show_default=True, help="Nodes below a node, at most.")
@click.option("--lease-ms", default=1_000.0, show_default=True, help="How long a node goes on without its parent.")
@click.option("--cuts", default=50, show_default=True, help="Simulated in each kind of network.")
@click.option("--seed", default=1, show_default=True)
@with_outputs
def main(
    viewers: int,
    results: Path | None,
    packet_us: float,
    join_ms: float,
    viewer_kb: float,
    video_bps: int,
    source_bps: int,
    cores: int,
    network_gbps: float,
    use: float,
    fanout: int,
    lease_ms: float,
    cuts: int,
    seed: int,
    outputs: Outputs,
) -> None:
    """Simulate a tree of nodes that carries so many viewers of one stream."""
    packets_per_s, viewer_bps = on_the_wire(video_bps)
    costs = Costs(packet_us, packets_per_s, viewer_bps, source_bps, viewer_kb, join_ms)
    if results is not None:
        costs = read_measured(results, costs)
    plan = Plan(viewers, costs, Machine(cores, network_gbps * GIGA, use), fanout, Rules(lease_ms), cuts, seed)
    try:
        report = describe(plan)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    outputs.deliver(report)


PACKET_BITS = 8 * 1_100  # of payload in a packet of video
SOUND_PER_S, SOUND_BITS = 50, 8 * 160
HEADER_BITS = 8 * (20 + 8 + 12 + 8 + 16)  # IP, UDP, RTP with an extension, and the tag


def on_the_wire(video_bps: int) -> tuple[float, float]:
    """Return the packets and the bits a second of one viewer's video and sound."""
    packets_per_s = video_bps / PACKET_BITS + SOUND_PER_S
    return packets_per_s, video_bps + SOUND_PER_S * SOUND_BITS + packets_per_s * HEADER_BITS


if __name__ == "__main__":
    main()

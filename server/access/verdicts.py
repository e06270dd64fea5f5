"""Says what a room is told of a judgement."""

from __future__ import annotations

from media.forwarding.admission import FOREVER
from server.access.judging import Judgement
from server.access.rules import NEVER
from signalling.policy.showing import Now
from signalling.policy.verdicts import Verdict


def verdict_of(judgement: Judgement, now: Now) -> Verdict:
    """Return the verdict of a judgement: its times on the monotonic clock."""

    def monotonic(at: int) -> int:
        return FOREVER if at >= NEVER else now.monotonic_of(at)

    rule = judgement.rule
    help: dict[str, object] = {}
    if judgement.denied == "kyf_required":
        help = {"missing": judgement.unproven}
    elif not rule.met:
        help = {"ways": rule.missing}
    return Verdict(
        via=rule.via if rule.met else None,
        via_until_ns=monotonic(rule.until),
        denied=judgement.denied,
        welcome_until_ns=monotonic(judgement.welcome_until),
        help=help,
    )

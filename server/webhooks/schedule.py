"""How far an endpoint was told, and when it is tried again: pure, with the time and the jitter given.

Events go out one after the other. What an endpoint does not take holds back what follows, so that it hears everything
in order; after the last retry it is disabled, keeps its place, and goes on from there when it is enabled again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

# Standard Webhooks, "Deliverability and reliability": its example schedule, some three days in all.
RETRIES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2  # of a pause is added at most, so that what failed together does not come back together
LONGEST_PAUSE_S = 86_400  # whatever an endpoint asks for
MAX_FAILURE = 300  # characters kept of what went wrong


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an endpoint was told: up to the event `position`; times in epoch ms.

    `attempts` failed since, and before `next_at` there is none. `disabled` says why there will be none at all.
    """

    position: int
    attempts: int = 0
    next_at: int = 0
    disabled: str | None = None
    failure: str | None = None
    failed_at: int | None = None
    delivered_at: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The endpoint took an event."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not; `pause_s` is what it asked for, `gone` that it wants no more."""

    reason: str
    pause_s: float = 0
    gone: bool = False


Outcome = Taken | Failed


def after(progress: Progress, event: int, outcome: Outcome, now_ms: int, chance: float) -> Progress:
    """Return the progress after an attempt to tell an event; `chance` is evenly from [0, 1)."""
    match outcome:
        case Taken():
            return dataclasses.replace(progress, position=event, attempts=0, next_at=0, delivered_at=now_ms)
        case Failed(reason, pause_s, gone):
            failed = dataclasses.replace(
                progress, attempts=progress.attempts + 1, failure=reason[:MAX_FAILURE], failed_at=now_ms
            )
            if gone:
                return dataclasses.replace(failed, disabled="gone")
            if progress.attempts == len(RETRIES_S):
                return dataclasses.replace(failed, disabled="exhausted")
            own_s = RETRIES_S[progress.attempts] * (1 + JITTER * chance)
            wait_s = max(own_s, min(pause_s, LONGEST_PAUSE_S))
            return dataclasses.replace(failed, next_at=now_ms + int(wait_s * 1000))


def enabled(progress: Progress) -> Progress:
    """Return the progress with every try ahead, from now on."""
    return dataclasses.replace(progress, attempts=0, next_at=0, disabled=None)


def wants(patterns: tuple[str, ...], type: str) -> bool:
    """Whether an endpoint is told of events of a type: "*" are all, "ticket.*" those whose type begins so."""
    return any(
        pattern in ("*", type) or (pattern.endswith(".*") and type.startswith(pattern[:-1])) for pattern in patterns
    )

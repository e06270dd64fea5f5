"""What is known outside a room about an account, as far as it decides whether that account may watch there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from media.forwarding.admission import FOREVER


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one account in one room; times are monotonic ns.

    `via` names what entitles it to watch while the stream is private, until `via_until_ns`; None: nothing does.
    `denied` is the code of what keeps it out in every mode, None for nothing, and then it is welcome until
    `welcome_until_ns`. `help` holds what would change a refusal, by name, as it is shown.
    """

    via: str | None = None
    via_until_ns: int = FOREVER
    denied: str | None = None
    welcome_until_ns: int = FOREVER
    help: Mapping[str, object] = field(default_factory=dict)

    @property
    def until_ns(self) -> int:
        """When it lapses by itself, wholly or in part."""
        return min(FOREVER if self.via is None else self.via_until_ns, self.welcome_until_ns)


@dataclass(frozen=True, slots=True)
class Demands:
    """What everybody must have proven in one room, by the `version` of its rules; the gate knows what they mean."""

    version: int = 0
    clauses: tuple[object, ...] = ()


Sight = Callable[[Demands], bool]  # whether an account could meet what a stream demands, as far as is known of it


def sees_all(demands: Demands) -> bool:
    """See every stream, whatever it demands."""
    return True


NO_DEMANDS = Demands()
UNKNOWN = Verdict()  # welcome where everybody is, entitled to nothing

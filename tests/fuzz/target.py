"""What is fuzzed: a reader of bytes, and what it begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

DATAGRAM, TEXT = 1500, 8192  # bytes of the largest input


@dataclass(frozen=True, slots=True)
class Target:
    """`read` takes any bytes; `seeds` are honest inputs to begin with, `largest` the size up to which they grow."""

    read: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    largest: int = DATAGRAM

"""Compiled: memory barriers, by which one thread's stores are seen in order by another that reads the same tables."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def release(typingctx: Any) -> Any:
    """Let what was written before be seen by whoever sees what is written from here on. Free on x86."""
    return _fence("release")


@intrinsic
def acquire(typingctx: Any) -> Any:
    """Read from here on what was written before that which was just read. Free on x86."""
    return _fence("acquire")


@intrinsic
def full(typingctx: Any) -> Any:
    """Read from here on only when what was written before is seen by all."""
    return _fence("seq_cst")


def _fence(ordering: str) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence(ordering)
        return context.get_dummy_value()

    return types.void(), generate

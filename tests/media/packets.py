"""Excerpts of recorded RTP and RTCP (decrypted) of real clients."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.media.offers import FIXTURES

RECORDINGS = tuple(sorted(path.stem.removeprefix("packets-") for path in FIXTURES.glob("packets-*.jsonl")))


def recorded(name: str, kind: str) -> Iterator[bytes]:
    """Yield the datagrams of a recording, `kind` being rtp or rtcp."""
    with (FIXTURES / f"packets-{name}.jsonl").open() as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["kind"] == kind:
                yield bytes.fromhex(entry["hex"])

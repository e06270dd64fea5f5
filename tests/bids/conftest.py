"""Fixtures: each test that takes `place` or `store` runs on both databases."""

from __future__ import annotations

from tests.money.conftest import cluster, place, store

__all__ = ["cluster", "place", "store"]

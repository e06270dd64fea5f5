"""Attributes that are cells of a row of the table."""

from __future__ import annotations

import math
from typing import Protocol

from media.moq.kernel.columns import NONE
from media.moq.quic.table import Row


class HasRow(Protocol):
    """Whose attributes these are."""

    row: Row


class Whole:
    """A whole number."""

    def __init__(self, column: int) -> None:
        self._column = column

    def __get__(self, owner: HasRow, kind: type) -> int:
        return int(owner.row.ints[self._column])

    def __set__(self, owner: HasRow, value: int) -> None:
        owner.row.ints[self._column] = value


class OptionalWhole(Whole):
    """A whole number that may be none."""

    def __get__(self, owner: HasRow, kind: type) -> int | None:  # type: ignore[override]
        value = owner.row.ints[self._column]
        return None if value == NONE else int(value)

    def __set__(self, owner: HasRow, value: int | None) -> None:
        owner.row.ints[self._column] = NONE if value is None else value


class Flag(Whole):
    """What is so or not."""

    def __get__(self, owner: HasRow, kind: type) -> bool:
        return bool(owner.row.ints[self._column])


class Real:
    """A time in s, or what is reckoned of times."""

    def __init__(self, column: int) -> None:
        self._column = column

    def __get__(self, owner: HasRow, kind: type) -> float:
        return float(owner.row.reals[self._column])

    def __set__(self, owner: HasRow, value: float) -> None:
        owner.row.reals[self._column] = value


class OptionalReal(Real):
    """A time that may be none."""

    def __get__(self, owner: HasRow, kind: type) -> float | None:  # type: ignore[override]
        value = owner.row.reals[self._column]
        return None if math.isnan(value) else float(value)

    def __set__(self, owner: HasRow, value: float | None) -> None:
        owner.row.reals[self._column] = math.nan if value is None else value

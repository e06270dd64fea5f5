"""Goals and menus of tips in the database: what somebody collects for, and what tips are suggested for what.

A goal counts tips in its own asset, and others by the rate at which they arrived in it, from when it was set until it
is taken down. What is taken back is taken off again; a goal that was reached stays so.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from server.database.prepared import Prepared
from server.events import eventlog
from server.events.eventlog import Happened
from server.money.amounts import Amount, WireAmount, wire_amount
from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused

MAX_GOALS = 5  # of one account at a time: each is looked at with every tip
MAX_ITEMS = 50  # of a menu: more than anybody reads

_COLUMNS = "id, owner, stream, title, asset, units, collected, created_at, reached_at"
_ADD = Prepared(
    f"INSERT INTO tip_goals ({_COLUMNS}) VALUES (:id, :owner, :stream, :title, :asset, :units, '0', :now, NULL)"
)
_RUNNING = Prepared(
    f"SELECT {_COLUMNS} FROM tip_goals WHERE owner = :owner AND ended_at IS NULL ORDER BY created_at, id"
)
_LOCK_RUNNING = Prepared(
    f"SELECT {_COLUMNS} FROM tip_goals WHERE owner = :owner AND ended_at IS NULL ORDER BY created_at, id", locks=True
)
_COLLECT = Prepared("UPDATE tip_goals SET collected = :collected, reached_at = :reached_at WHERE id = :id")
_END = Prepared("UPDATE tip_goals SET ended_at = :now WHERE id = :id AND owner = :owner AND ended_at IS NULL")
_REVIVE = Prepared("UPDATE tip_goals SET ended_at = NULL WHERE id = :id AND owner = :owner")
_FIND_STREAM = Prepared("SELECT owner FROM streams WHERE id = :id AND ended IS NULL")
_CLEAR_MENU = Prepared("DELETE FROM tip_menu WHERE owner = :owner")
_ADD_ITEM = Prepared(
    "INSERT INTO tip_menu (id, owner, position, label, asset, units)"
    " VALUES (:id, :owner, :position, :label, :asset, :units)"
)
_MENU = Prepared("SELECT id, label, asset, units FROM tip_menu WHERE owner = :owner ORDER BY position")
_FIND_ITEM = Prepared("SELECT id, label, asset, units FROM tip_menu WHERE owner = :owner AND id = :id")


class GoalView(msgspec.Struct, frozen=True):
    """What somebody collects for, in one `stream` or anywhere (null); `reached_at` is epoch ms, null until then."""

    id: str
    stream: StreamId | None
    title: str
    amount: WireAmount
    collected: str
    created_at: int
    reached_at: int | None


class MenuItem(msgspec.Struct, frozen=True):
    """A suggestion: what a tip of at least so much is for."""

    id: str
    label: str
    amount: WireAmount


@dataclass(frozen=True, slots=True)
class Counted:
    """A tip as goals count it: to whom, where, when, and how much in which assets; below 0 for one taken back."""

    recipient: AccountId
    stream: StreamId | None
    at: int
    units: dict[str, int]


def create(
    connection: sa.Connection, owner: AccountId, stream: StreamId | None, title: str, amount: Amount, now_ms: int
) -> GoalView:
    """Set a goal; raises Refused (too_many_goals, stream_unknown)."""
    if len(running(connection, owner)) >= MAX_GOALS:
        raise Refused("too_many_goals")
    if stream is not None:
        row = _FIND_STREAM(connection, id=stream).fetchone()
        if row is None or row[0] != owner:
            raise Refused("stream_unknown")
    goal = GoalView(f"goal.{secrets.token_hex(12)}", stream, title, wire_amount(amount), "0", now_ms, None)
    _ADD(
        connection,
        id=goal.id,
        owner=owner,
        stream=stream,
        title=title,
        asset=amount.asset,
        units=str(amount.units),
        now=now_ms,
    )
    return goal


def running(connection: sa.Connection, owner: AccountId) -> list[GoalView]:
    """Return the goals that somebody collects for."""
    return [_goal(row) for row in _RUNNING(connection, owner=owner)]


def end(connection: sa.Connection, goal: str, owner: AccountId, now_ms: int) -> None:
    """Take a goal down; raises Refused("goal_unknown")."""
    if _END(connection, id=goal, owner=owner, now=now_ms).rowcount != 1:
        raise Refused("goal_unknown")


def count(connection: sa.Connection, counted: Counted, now_ms: int) -> list[GoalView]:
    """Add a tip, or what is taken back, to each goal that it counts for; returns those that are reached by it."""
    reached = []
    for row in _LOCK_RUNNING(connection, owner=counted.recipient).fetchall():
        goal = _goal(row)
        units = counted.units.get(goal.amount.asset, 0)
        if not units or goal.stream not in (None, counted.stream) or goal.created_at > counted.at:
            continue
        collected, reached_at = max(0, int(goal.collected) + units), goal.reached_at
        if reached_at is None and collected >= int(goal.amount.units):
            reached_at = now_ms
            reached.append(msgspec.structs.replace(goal, collected=str(collected), reached_at=now_ms))
        _COLLECT(connection, id=goal.id, collected=str(collected), reached_at=reached_at)
    return reached


def tell_reached(connection: sa.Connection, owner: AccountId, reached: Sequence[GoalView], now_ms: int) -> None:
    """Write into the event log which goals were reached."""
    for goal in reached:
        eventlog.append(connection, Happened(owner, "goal.reached", now_ms, msgspec.to_builtins(goal)))


def set_menu(connection: sa.Connection, owner: AccountId, items: Sequence[tuple[str, Amount]]) -> list[MenuItem]:
    """Replace somebody's menu by (label, amount)s, which get new ids."""
    assert len(items) <= MAX_ITEMS
    _CLEAR_MENU(connection, owner=owner)
    made = [MenuItem(f"item.{secrets.token_hex(12)}", label, wire_amount(amount)) for label, amount in items]
    rows = [
        {
            "id": item.id,
            "owner": owner,
            "position": position,
            "label": item.label,
            "asset": item.amount.asset,
            "units": item.amount.units,
        }
        for position, item in enumerate(made)
    ]
    _ADD_ITEM.many(connection, rows)
    return made


def menu(connection: sa.Connection, owner: AccountId) -> list[MenuItem]:
    """Return somebody's menu, in its order."""
    return [_item(row) for row in _MENU(connection, owner=owner)]


def withdraw(
    connection: sa.Connection, owner: str, now_ms: int
) -> tuple[tuple[str, ...], tuple[tuple[str, str, str, str], ...]]:
    """Take down all goals and the menu of an account; returns the goals' ids and the items, for `bring_back`."""
    ended = tuple(row[0] for row in _LOCK_RUNNING(connection, owner=owner).fetchall())
    for id in ended:
        _END(connection, id=id, owner=owner, now=now_ms)
    items = tuple(tuple(row) for row in _MENU(connection, owner=owner).fetchall())
    _CLEAR_MENU(connection, owner=owner)
    return ended, items


def bring_back(
    connection: sa.Connection, owner: str, ended: Sequence[str], items: Sequence[tuple[str, str, str, str]]
) -> None:
    """Bring back what was withdrawn, as far as nothing has taken its place."""
    room = MAX_GOALS - len(_RUNNING(connection, owner=owner).fetchall())
    for id in ended[:room]:
        _REVIVE(connection, id=id, owner=owner)
    if _MENU(connection, owner=owner).fetchone() is not None:
        return
    for position, (id, label, asset, units) in enumerate(items):
        _ADD_ITEM(connection, id=id, owner=owner, position=position, label=label, asset=asset, units=units)


def label_of(connection: sa.Connection, owner: AccountId, item: str, given: Amount) -> str:
    """Return what a tip is for; raises Refused (menu_item_unknown, price_changed when it is too little by now)."""
    row = _FIND_ITEM(connection, owner=owner, id=item).fetchone()
    if row is None:
        raise Refused("menu_item_unknown")
    found = _item(row)
    if given.asset != found.amount.asset or given.units < int(found.amount.units):
        raise Refused("price_changed", f"{found.label!r} is for more", price=found.amount)
    return found.label


def _goal(row: Sequence[object]) -> GoalView:
    identifier, _, stream, title, asset, units, collected, created_at, reached_at = row
    values = {"id": identifier, "stream": stream, "title": title, "amount": {"asset": asset, "units": units}}
    return msgspec.convert(
        {**values, "collected": collected, "created_at": created_at, "reached_at": reached_at}, GoalView
    )


def _item(row: Sequence[str]) -> MenuItem:
    return MenuItem(row[0], row[1], WireAmount(row[2], row[3]))

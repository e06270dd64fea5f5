"""The API of goals and menus of tips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from server.access.relations import find_visible
from server.database.store import Database
from server.money import goals
from server.money.amounts import WireAmount, read_amount_untrusted
from server.money.assets import Assets
from server.money.goals import MAX_ITEMS, GoalView, MenuItem
from server.money.tips import tidy_message_untrusted
from server.web import schemas as s
from server.web.api import ROOT
from server.web.money import AMOUNT
from server.web.routes import Answer, Asked, Route
from signalling.identifiers import StreamId
from signalling.refusals import Refused

Label = Annotated[str, Meta(min_length=1, max_length=100)]


class NewGoal(s.Taken, frozen=True):
    """What to collect for: in one running stream of mine, or anywhere (null)."""

    title: Label
    amount: WireAmount
    stream: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class NewItem(s.Taken, frozen=True):
    """A suggestion."""

    label: Label
    amount: WireAmount


class NewMenu(s.Taken, frozen=True):
    """A whole menu, in its order."""

    items: Annotated[tuple[NewItem, ...], Meta(max_length=MAX_ITEMS)]


class GoalList(msgspec.Struct, frozen=True):
    """All goals that somebody collects for."""

    goals: tuple[GoalView, ...]


class Menu(msgspec.Struct, frozen=True):
    """A menu; a tip names the `id` of its item."""

    items: tuple[MenuItem, ...]


def goal_routes(store: Database, assets: Assets, wall_ms: Callable[[], int]) -> list[Route]:
    """Return the routes of goals and menus."""

    async def create(asked: Asked) -> Answer:
        new: NewGoal = asked.body
        amount, title = read_amount_untrusted(new.amount, assets), _label(new.title)
        stream = None if new.stream is None else StreamId(new.stream)
        return Answer(await store.write(goals.create, asked.actor.account, stream, title, amount, wall_ms()))

    async def listed(asked: Asked) -> Answer:
        owner = await store.read(find_visible, asked.actor.account, asked.path["name"])
        return Answer(GoalList(tuple(await store.read(goals.running, owner))))

    async def end(asked: Asked) -> Answer:
        await store.write(goals.end, asked.path["goal"], asked.actor.account, wall_ms())
        return Answer()

    async def write_menu(asked: Asked) -> Answer:
        items = [(_label(item.label), read_amount_untrusted(item.amount, assets)) for item in asked.body.items]
        return Answer(Menu(tuple(await store.write(goals.set_menu, asked.actor.account, items))))

    async def menu(asked: Asked) -> Answer:
        owner = await store.read(find_visible, asked.actor.account, asked.path["name"])
        return Answer(Menu(tuple(await store.read(goals.menu, owner))))

    setting = ("no_session", *AMOUNT, "invalid_message", "invalid_request", "not_stored", "rate_limited")
    seeing = ("no_session", "account_unknown", "rate_limited")
    return [
        Route(
            "POST",
            f"{ROOT}/goals",
            "Collect for something",
            create,
            body=NewGoal,
            result=GoalView,
            status=201,
            problems=(*setting, "too_many_goals", "stream_unknown"),
        ),
        Route(
            "DELETE",
            f"{ROOT}/goals/{{goal}}",
            "Take a goal of mine down",
            end,
            status=204,
            problems=("no_session", "goal_unknown", "not_stored"),
        ),
        Route(
            "GET",
            f"{ROOT}/accounts/{{name}}/goals",
            "What somebody collects for",
            listed,
            result=GoalList,
            problems=seeing,
        ),
        Route(
            "PUT", f"{ROOT}/me/tip_menu", "Write my menu anew", write_menu, body=NewMenu, result=Menu, problems=setting
        ),
        Route(
            "GET", f"{ROOT}/accounts/{{name}}/tip_menu", "What tips are for what", menu, result=Menu, problems=seeing
        ),
    ]


def _label(text: str) -> str:
    label = tidy_message_untrusted(text)
    if not label or "\n" in label:
        raise Refused("invalid_message", "it is empty, or has more than one line")
    return label

"""Webhooks of a whole node: from what happens to what is told, and what administrators see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from server.config import Events, WebhookSettings
from server.database.store import Store
from server.events import eventlog
from server.events.eventlog import Happened
from tests.events.receiver import SECRET, Answer, Receiver, receiving
from tests.events.waiting import until
from tests.server.nodes import Site, open_site, small_config
from tests.server.test_node import wait_until


@asynccontextmanager
async def open_telling_site(folder: Path, receiver: Receiver) -> AsyncIterator[tuple[Site, dict[str, str]]]:
    """Give a node that tells the receiver of streams, and its administrator's rights."""
    webhook = WebhookSettings("shop", receiver.url + "?key=1", (SECRET,), ("stream.*",), private=True)
    config = msgspec.structs.replace(small_config(folder), webhooks=(webhook,), events=Events(keep_days=1))
    async with open_site(folder, config) as site:
        yield site, {"Authorization": f"Bearer {await site.running.auth.admin_token()}"}


async def shop(site: Site, admin: dict[str, str]) -> dict[str, Any]:
    (state,) = (await site.http.get("/api/v1/admin/webhooks", headers=admin)).json()["webhooks"]
    return dict(state)


async def test_a_stream_s_end_is_told_with_the_id_and_the_data_that_the_api_shows(tmp_path: Path) -> None:
    async with receiving() as receiver, open_telling_site(tmp_path / "node", receiver) as (site, admin):
        ann = await site.person("ann")
        stream = await site.stream(ann)
        await ann.ask("POST", f"/streams/{stream}/end")
        await wait_until(lambda: receiver.taken)
        (event,) = (await ann.ask("GET", f"/events?subject={stream}"))["events"]
        (told,) = receiver.taken
        assert (told["id"], told["type"], told["subject"]) == (event["id"], "stream.ended", stream)
        assert told["data"] == event["data"]
        assert receiver.paths == ["/told?key=1"]
        state = await shop(site, admin)
        assert (state["name"], state["url"], state["state"], state["lag"]) == ("shop", receiver.url, "active", 0)
        assert "mesi_webhooks_delivered_total 1.0" in (await site.http.get("/metrics")).text


async def test_administrators_see_what_failed_and_have_it_tried_again(tmp_path: Path) -> None:
    async with (
        receiving(answers=[Answer(410)]) as receiver,
        open_telling_site(tmp_path / "node", receiver) as (site, admin),
    ):
        ann = await site.person("ann")
        await ann.ask("POST", f"/streams/{await site.stream(ann)}/end")

        async def is_disabled() -> bool:
            return (await shop(site, admin))["state"] == "disabled"

        await until(is_disabled)
        state = await shop(site, admin)
        assert (state["disabled"], state["failure"], state["lag"]) == ("gone", "answered 410", 1)
        path = "/api/v1/admin/webhooks/shop/enable"
        assert (await ann.ask("POST", path.removeprefix("/api/v1"), status=403))["code"] == "admin_only"
        assert (await site.http.post(path, headers=admin)).json()["state"] == "active"
        await wait_until(lambda: receiver.taken)
        other = await site.http.post(path.replace("shop", "none"), headers=admin)
        assert (other.status_code, other.json()["code"]) == (404, "webhook_unknown")


async def test_what_is_older_than_the_configuration_says_is_dropped_and_told_to_be(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    async with trio.open_nursery() as nursery:
        store = Store(folder / "mesi.sqlite")
        await nursery.start(store.run)
        for number in range(3):
            await store.write(eventlog.append, Happened("a_gone", "payment.settled", number, {}))
        nursery.cancel_scope.cancel()
    async with receiving() as receiver, open_telling_site(folder, receiver) as (site, admin):

        async def are_dropped() -> bool:
            page = (await site.http.get("/api/v1/events", headers=admin)).json()
            return not page["events"] and page["gap"] == 3

        await until(are_dropped)
        ann = await site.person("ann")
        await ann.ask("POST", f"/streams/{await site.stream(ann)}/end")
        await wait_until(lambda: receiver.taken)
        assert [told["id"] for told in receiver.taken] == [4]

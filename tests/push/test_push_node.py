"""Notices of a whole node: who is told of what, in which words, and what becomes of devices that are gone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from server.client import publish
from server.push import devices
from server.push.settings import Push
from server.talk.posting import Batch, Draft, Written
from signalling.identifiers import AccountId
from signalling.messenger.quotas import Quotas
from tests.events.receiver import Answer
from tests.events.waiting import until
from tests.money.databases import running
from tests.push.services import Browser, PushService, push_service
from tests.server.nodes import Person, Site, open_site, open_socket, small_config
from tests.server.test_node import send_frames, wait_until

CONTACT = "mailto:admin@example.org"
SUSPENDED = {"sanction": "suspension", "suspend_s": 60}
SECRET_WORDS = "meet me at the harbour"


@asynccontextmanager
async def open_pushing_site(folder: Path, *, private: bool = True) -> AsyncIterator[tuple[Site, PushService]]:
    config = msgspec.structs.replace(small_config(folder), push=Push(CONTACT, private))
    async with push_service() as service, open_site(folder, config) as site:
        yield site, service


def ring(connection: sa.Connection, talk: str, caller: str) -> None:
    """Put a call into a conversation."""
    batch = Batch(connection)
    grown = dataclasses.replace(batch.conversation(talk), head=2)
    at = time.time_ns() // 1_000_000
    batch.add(grown, Draft(grown.id, AccountId(caller), "", "ring", at, Quotas()), Written("", kind="call"))
    batch.write()


async def place(person: Person, service: PushService, name: str = "") -> str:
    device = await person.ask("POST", "/me/push/devices", service.browser(name or person.name), 201)
    return str(device["id"])


async def write(person: Person, other: str, text: str = SECRET_WORDS) -> str:
    talk = (await person.ask("PUT", f"/conversations/direct/{other}"))["id"]
    body = {"text": text, "client_txn": text[:60]}
    await person.ask("POST", f"/conversations/{talk}/messages", body, 201)
    return str(talk)


async def count(site: Site, name: str) -> int:
    lines = (await site.http.get("/metrics")).text.splitlines()
    return int(float(next(line for line in lines if line.startswith(f"mesi_push_{name} ")).split()[1]))


async def counted(site: Site, name: str, least: int) -> None:
    async def is_so() -> bool:
        return await count(site, name) >= least

    await until(is_so, 20)


async def on_air(site: Site, owner: Person, **values: str) -> str:
    """Begin a stream, and publish until its first picture came."""
    stream = await site.stream(owner, **values)
    async with publish(site.http, site.url("whip", stream), owner.token, ("video",)) as publisher:
        await send_frames(publisher, 5)

        async def is_live() -> bool:
            return (await owner.ask("GET", f"/streams/{stream}"))["card"]["state"] == "live"

        await until(is_live)
    return stream


async def test_a_message_is_told_to_every_device_with_who_and_where_and_not_with_what(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob = await site.person("ann"), await site.person("bob")
        await place(bob, service, "phone")
        await place(bob, service, "desk")
        talk = await write(ann, "bob")
        await wait_until(lambda: len(service.pushed) == 2)
        (words,) = service.words("phone")
        assert words == service.words("desk")[0]
        assert words | {"at": 0} == {
            "kind": "message",
            "tag": f"talk.{talk}",
            "url": f"/messages?c={talk}",
            "who": "ann",
            "at": 0,
        }
        shown = await bob.ask("GET", "/me/push")
        pushed = service.pushed[0]
        assert (pushed.key, pushed.claims["sub"]) == (shown["public_key"], CONTACT)
        assert (pushed.headers["urgency"], 0 < int(pushed.headers["ttl"]) <= 3 * 86_400) == ("high", True)
        assert len(shown["devices"]) == 2
        await counted(site, "sent_total", 2)
        assert await count(site, "devices") == 2


async def test_nothing_is_pushed_while_a_page_is_looked_at_and_again_when_it_is_not(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob = await site.person("ann"), await site.person("bob")
        await place(bob, service)
        async with open_socket(site, bob) as socket:
            await socket.wait_for("welcome")
            assert (await socket.ask("page.in_sight", in_sight=True))["type"] == "ok"
            await write(ann, "bob", "seen")
            await counted(site, "quiet_total", 1)
            assert (await socket.ask("page.in_sight", in_sight=False))["type"] == "ok"
            await write(ann, "bob", "unseen")
            await wait_until(lambda: len(service.pushed) == 1)
            await socket.ask("page.in_sight", in_sight=True)
        await write(ann, "bob", "gone")
        await wait_until(lambda: len(service.pushed) == 2)


async def test_who_muted_or_turned_off_is_told_of_mentions_alone_and_who_blocked_of_nothing(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, mia, odo, bea, eli = [await site.person(name) for name in ("ann", "mia", "odo", "bea", "eli")]
        talks = {name: await write(ann, name, "before") for name in ("mia", "odo", "bea", "eli")}
        for person in (mia, odo, bea, eli):
            await place(person, service)
        await mia.ask("PUT", f"/conversations/{talks['mia']}/mine", {"muted_until": -1})
        await odo.ask("PUT", "/me/push/kinds", {"message": False})
        await bea.ask("PUT", "/blocks/ann")
        for name, talk in talks.items():
            for text in ("hello", f"for you, @{name}"):
                body = {"text": text, "client_txn": text}
                await ann.ask("POST", f"/conversations/{talk}/messages", body, 201)
        await wait_until(lambda: service.words("eli"))
        await wait_until(lambda: service.words("odo") and service.words("mia"))
        assert {each.path for each in service.pushed} == {"/push/eli", "/push/odo", "/push/mia"}
        for name in ("odo", "mia"):
            assert [words["kind"] for words in service.words(name)] == ["mention"]


async def test_a_call_is_told_as_one_and_for_as_long_as_it_may_ring(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob = await site.person("ann"), await site.person("bob")
        await place(bob, service)
        talk = await write(ann, "bob")
        await wait_until(lambda: len(service.pushed) == 1)
        async with running(tmp_path / "mesi.sqlite") as store:
            await store.write(ring, talk, ann.id)
        await wait_until(lambda: len(service.pushed) == 2)
        assert service.words("bob")[1]["kind"] == "call"
        assert 0 < int(service.pushed[1].headers["ttl"]) <= 90


async def test_who_follows_is_told_of_a_stream_that_is_for_them_and_of_its_title_if_it_is_public(
    tmp_path: Path,
) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        for person in (bob, eve):
            await person.ask("PUT", "/follows/ann")
            await place(person, service)
        await place(ann, service)
        await ann.ask("PUT", "/blocks/eve")
        first = await on_air(site, ann, title="Songs at dusk")
        await wait_until(lambda: service.pushed)
        assert service.words("bob")[0]["title"] == "Songs at dusk"
        await ann.ask("POST", f"/streams/{first}/end")
        second = await on_air(site, ann, title="For friends", mode="private")
        await wait_until(lambda: len(service.pushed) == 2)
        words = service.words("bob")[1]
        assert (words["kind"], words["who"], words["url"]) == ("live", "ann", f"/watch?stream={second}")
        assert "title" not in words
        await ann.ask("POST", f"/streams/{second}/end")
        await bob.ask("DELETE", "/follows/ann")
        await eve.ask("POST", "/me/push/devices", service.browser("eve"), 201)
        await on_air(site, ann, title="Unfollowed")
        await write(ann, "bob")
        await wait_until(lambda: len(service.pushed) == 3)
        assert [words["kind"] for words in service.words("bob")] == ["live", "live", "message"]
        assert service.words("eve") == []


async def test_a_tip_a_bid_and_a_case_are_told_without_what_was_given_or_decided(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob, mia = [await site.person(name) for name in ("ann", "bob", "mia")]
        root = Person("admin", "admin", await site.running.auth.admin_token(), site.http)
        await root.ask("PUT", "/admin/moderators/mia")
        await root.ask("POST", "/admin/ledger/deposits", {"name": "ann", "asset": "USD", "amount": "20"})
        for person in (ann, bob):
            await place(person, service)
        tip = {"to": "bob", "amount": {"asset": "USD", "units": "500"}, "message": SECRET_WORDS}
        headers = {"Authorization": f"Bearer {ann.token}", "Idempotency-Key": "k"}
        assert (await site.http.post("/api/v1/tips", json=tip, headers=headers)).status_code == 201
        await wait_until(lambda: service.words("bob"))
        assert service.words("bob")[0] | {"at": 0} == {"kind": "tip", "tag": "tip", "url": "/wallet", "at": 0}
        talk = (await ann.ask("PUT", "/conversations/direct/bob"))["id"]
        bid = {"amount": tip["amount"], "words": SECRET_WORDS}
        asked = await site.http.post(f"/api/v1/conversations/{talk}/bids", json=bid, headers=headers)
        assert asked.status_code == 201
        await wait_until(lambda: service.words("bob")[-1]["kind"] == "message")
        wrote = {"kind": "message", "tag": f"talk.{talk}", "url": f"/messages?c={talk}", "who": "ann", "at": 0}
        assert service.words("bob")[-1] | {"at": 0} == wrote
        about = {"kind": "account", "name": "bob"}
        report = {"about": about, "reason": "fraud", "words": SECRET_WORDS}
        for finding, sanction, told in (("not_upheld", {}, ["ann"]), ("upheld", SUSPENDED, ["ann", "bob"])):
            case = (await ann.ask("POST", "/reports", report, 201))["id"]
            await mia.ask("POST", f"/mod/cases/{case}/take")
            words = {"to_reporter": SECRET_WORDS, "to_respondent": SECRET_WORDS}
            await mia.ask("POST", f"/mod/cases/{case}/decide", {"finding": finding, **words, **sanction})
            for name in told:
                await told_of_case(service, name, case)
        assert {words["tag"] for words in service.words("bob")} == {"tip", f"talk.{talk}", f"case.{case}"}, (
            "of what came to nothing, nothing"
        )


async def told_of_case(service: PushService, name: str, case: str) -> None:
    """Wait until somebody is told of a case, and of nothing in it."""
    expected = {"kind": "case", "tag": f"case.{case}", "url": "/cases", "at": 0}
    await wait_until(lambda: [words | {"at": 0} for words in service.words(name)][-1:] == [expected])


async def test_who_sells_and_who_gets_their_money_back_are_told_of_a_ticket(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob = await site.person("ann"), await site.person("bob")
        root = Person("admin", "admin", await site.running.auth.admin_token(), site.http)
        await root.ask("POST", "/admin/ledger/deposits", {"name": "bob", "asset": "USD", "amount": "20"})
        for person in (ann, bob):
            await place(person, service)
        price = {"asset": "USD", "units": "500"}
        stream = await site.stream(ann)
        sale = (await ann.ask("POST", f"/streams/{stream}/sales", {"price": price, "quantity": 5}, 201))["sale"]
        headers = {"Authorization": f"Bearer {bob.token}", "Idempotency-Key": "k"}
        bought = await site.http.post(f"/api/v1/sales/{sale}/tickets", json={"price_seen": price}, headers=headers)
        assert bought.status_code == 201, bought.text
        expected = {"kind": "ticket", "tag": f"ticket.{stream}", "url": f"/watch?stream={stream}", "at": 0}
        await wait_until(lambda: service.words("ann"))
        assert service.words("ann")[0] | {"at": 0} == expected
        await ann.ask("POST", f"/sales/{sale}/cancel")
        await wait_until(lambda: service.words("bob"))
        assert service.words("bob")[0] | {"at": 0} == expected


async def test_a_device_that_is_gone_is_forgotten_and_one_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "PAUSES_S", (0.05, 86_400))
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob = await site.person("ann"), await site.person("bob")
        await place(bob, service)
        service.answers = [Answer(500), Answer(201)]
        await write(ann, "bob", "one")
        await wait_until(lambda: service.heard == 1)
        await wait_until(lambda: len(service.pushed) == 1)
        service.answers = [Answer(410)]
        await write(ann, "bob", "two")

        await counted(site, "gone_total", 1)
        assert (await bob.ask("GET", "/me/push"))["devices"] == []
        assert [await count(site, name) for name in ("failed_total", "devices")] == [1, 0]


async def test_a_device_belongs_to_who_used_it_last_and_only_they_remove_it(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path) as (site, service):
        ann, bob = await site.person("ann"), await site.person("bob")
        given = service.browser("tablet")
        first = await ann.ask("POST", "/me/push/devices", given, 201)
        assert (await ann.ask("POST", "/me/push/devices", given, 201))["id"] == first["id"]
        await bob.ask("POST", "/me/push/devices", given, 201)
        assert (await ann.ask("GET", "/me/push"))["devices"] == []
        path = f"/me/push/devices/{first['id']}"
        assert (await ann.ask("DELETE", path, status=404))["code"] == "push_device_unknown"
        await bob.ask("DELETE", path, status=204)
        assert (await bob.ask("GET", "/me/push"))["devices"] == []
        bad: dict[str, Any] = Browser().subscription("http://127.0.0.1/x") | {"keys": {"p256dh": "AAAA", "auth": "AA"}}
        assert (await bob.ask("POST", "/me/push/devices", bad, 422))["code"] == "invalid_push_subscription"


async def test_a_push_service_on_this_machine_is_never_asked_unless_that_is_allowed(tmp_path: Path) -> None:
    async with open_pushing_site(tmp_path, private=False) as (site, service):
        ann, bob = await site.person("ann"), await site.person("bob")
        plain = service.browser("bob")
        assert (await bob.ask("POST", "/me/push/devices", plain, 422))["code"] == "invalid_push_subscription"
        port = service.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1"):
            inside = plain | {"endpoint": f"https://{host}:{port}/push/bob"}
            await bob.ask("POST", "/me/push/devices", inside, 201)
        await write(ann, "bob")
        await counted(site, "failed_total", 4)
        assert service.heard == 0


async def test_what_was_not_pushed_before_a_restart_is_pushed_after_it_and_nothing_twice(tmp_path: Path) -> None:
    config = msgspec.structs.replace(small_config(tmp_path), push=Push(CONTACT, private=True))
    async with push_service() as service:
        async with open_site(tmp_path, config) as site:
            ann, bob = await site.person("ann"), await site.person("bob")
            await place(bob, service)
            await write(ann, "bob", "first")
            await counted(site, "sent_total", 1)
            key = (await bob.ask("GET", "/me/push"))["public_key"]
            service.answers = [Answer(503)]
            await write(ann, "bob", "second")
            await counted(site, "failed_total", 1)
        async with open_site(tmp_path, config) as site:
            assert (await (await site.person("bob")).ask("GET", "/me/push"))["public_key"] == key
            await counted(site, "sent_total", 1)
        assert len(service.pushed) == 2

"""Tickets over HTTP and with real media, on a whole node: who paid sees the show, who did not gets not one packet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from server.events import eventlog
from server.events.eventlog import Happened
from server.money import box_office, shows
from tests.access.test_access_node import Show, admin, open_show
from tests.access.test_kyf_node import demand
from tests.money.databases import running
from tests.money.test_money_api import Bank, with_money
from tests.server.nodes import Person, open_site
from tests.server.test_node import switch

USD_5 = {"asset": "USD", "units": "500"}


class Market:
    """A stream of Ann's that is on, whose tickets are sold."""

    def __init__(self, show: Show) -> None:
        self.show, self.site, self.ann, self.stream = show, show.site, show.ann, show.stream
        self.sale = ""
        self._keys = 0

    async def open(self, quantity: int = 10, **values: Any) -> None:
        body = {"price": USD_5, "quantity": quantity, **values}
        self.sale = (await self.ann.ask("POST", f"/streams/{self.stream}/sales", body, status=201))["sale"]

    async def buyer(self, name: str, money: str = "12.00") -> Person:
        person = await self.site.person(name)
        if money != "0":
            await admin(self.site, "POST", "/ledger/deposits", {"name": name, "asset": "USD", "amount": money})
        return person

    async def send(self, person: Person, method: str, path: str, body: object = None, key: str = "") -> httpx2.Response:
        self._keys += 1
        headers = {"Authorization": f"Bearer {person.token}", "Idempotency-Key": key or f"k{self._keys}"}
        return await self.site.http.request(method, f"/api/v1{path}", json=body, headers=headers)

    async def buy(self, person: Person, units: str = "500", key: str = "") -> httpx2.Response:
        body = {"price_seen": {"asset": "USD", "units": units}}
        return await self.send(person, "POST", f"/sales/{self.sale}/tickets", body, key)

    async def reserve(self, person: Person) -> str:
        answer = await self.send(person, "POST", f"/sales/{self.sale}/reservations", {"price_seen": USD_5})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["ticket"])

    async def seen(self, person: Person) -> dict[str, Any]:
        return dict(await person.ask("GET", f"/streams/{self.stream}/sale"))

    async def report(self) -> dict[str, Any]:
        return dict(await self.ann.ask("GET", f"/sales/{self.sale}/report"))

    async def has(self, person: Person, asset: str = "USD") -> int:
        root = Person("admin", "admin", await self.site.running.auth.admin_token(), self.site.http)
        found = await root.ask("GET", f"/admin/ledger/balances/{person.name}")
        return int(next(each["available"] for each in found["balances"] if each["asset"] == asset))

    async def books_are_right(self) -> None:
        root = Person("admin", "admin", await self.site.running.auth.admin_token(), self.site.http)
        assert await root.ask("GET", "/admin/ledger/check") == {"flaws": []}


@asynccontextmanager
async def open_market(folder: Path, place: Path | str = "", **values: Any) -> AsyncIterator[Market]:
    config = with_money(folder / "node", place)
    async with open_show(folder / "node", "public", config=config) as show:
        market = Market(show)
        await market.open(**values)
        yield market
        await market.books_are_right()


def code(answer: httpx2.Response) -> str:
    return str(answer.json().get("code", answer.status_code))


async def eventually(condition: Any) -> None:
    """Wait for what the clerk does within a second or two."""
    with trio.fail_after(10):
        while not await condition():  # noqa: ASYNC110
            await trio.sleep(0.05)


async def test_who_buys_a_ticket_sees_the_show_from_then_on_and_who_does_not_sees_nothing(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_market(tmp_path, place) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        bobs, eves, eve_hears = (
            await market.show.watch(bob),
            await market.show.watch(eve),
            await market.show.socket(eve),
        )
        assert (await market.buy(bob)).json()["state"] == "sold"
        await switch(market.ann, market.stream, "paid")
        await market.show.sees(bobs)
        revoked = await eve_hears.wait_for("access.revoked")
        assert (revoked["reason"], revoked["readmit"]) == ("ticket_required", ["ticket"])
        assert revoked["offer"] == {"sale": market.sale, "price": USD_5, "left": 9}
        before = len(eves.frames)
        assert await market.show.refused(eve) == "ticket_required"
        bought = await market.buy(eve)
        assert (bought.status_code, await market.has(eve)) == (201, 700)
        await market.show.sees(await market.show.watch(eve))
        assert len(eves.frames) == before
        assert bobs.frames == sorted(bobs.frames)
        mine = await eve.ask("GET", "/me/tickets")
        assert [(each["stream"], each["ticket"]["state"]) for each in mine["tickets"]] == [(market.stream, "sold")]
        assert (await market.seen(eve))["mine"] == bought.json()


async def test_of_twenty_buyers_of_three_seats_three_pay_and_nobody_else_is_charged(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_market(tmp_path, place, quantity=3) as market:
        buyers = [await market.buyer(f"b{number}") for number in range(20)]
        outcomes: Counter[str] = Counter()

        async def attempt(buyer: Person) -> None:
            outcomes[code(await market.buy(buyer))] += 1

        async with trio.open_nursery() as nursery:
            for buyer in buyers:
                nursery.start_soon(attempt, buyer)
        assert outcomes == {"201": 3, "sold_out": 17}
        assert Counter([await market.has(buyer) for buyer in buyers]) == {700: 3, 1200: 17}
        report = await market.report()
        assert (report["sold"], report["sale"]["left"], report["money"]["gross"]) == (3, 0, "1500")
        assert (report["money"]["fee"], report["money"]["net"], report["money"]["earned"]) == ("150", "1350", False)
        assert {holder["name"] for holder in report["tickets"]} <= {buyer.name for buyer in buyers}


async def test_a_purchase_that_is_sent_twice_is_one(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob = await market.buyer("bob")
        first, again = await market.buy(bob, key="k"), await market.buy(bob, key="k")
        assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
        assert again.headers["Idempotent-Replayed"] == "true"
        assert code(await market.buy(bob, units="501", key="k")) == "idempotency_mismatch"
        assert code(await market.buy(bob)) == "ticket_exists"
        assert await market.has(bob) == 700
        without_key = await bob.ask("POST", f"/sales/{market.sale}/tickets", {"price_seen": USD_5}, status=400)
        assert without_key["code"] == "idempotency_key_required"


async def test_who_saw_a_lower_price_is_not_charged_the_higher_one(tmp_path: Path) -> None:
    async with open_market(tmp_path, late_price={"asset": "USD", "units": "900"}) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        await market.ann.ask("PATCH", f"/sales/{market.sale}", {"price": {"asset": "USD", "units": "600"}})
        refused = await market.buy(bob)
        assert (code(refused), refused.json()["price"]) == ("price_changed", {"asset": "USD", "units": "600"})
        assert (await market.buy(bob, units="600")).status_code == 201
        await switch(market.ann, market.stream, "paid")
        assert (await market.seen(eve))["price_now"] == {"asset": "USD", "units": "900"}
        late = await market.buy(eve, units="600")
        assert (code(late), late.json()["price"]["units"]) == ("price_changed", "900")
        assert [await market.has(person) for person in (bob, eve)] == [600, 1200]


async def test_a_blocked_viewer_can_t_tell_a_sale_from_none(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob = await market.buyer("bob")
        await market.ann.ask("PUT", "/blocks/bob")
        real, sale = await market.buy(bob), market.sale
        for method, path in (
            ("POST", "/sales/{}/tickets"),
            ("POST", "/sales/{}/reservations"),
            ("PUT", "/sales/{}/waiting"),
            ("GET", "/sales/{}/report"),
        ):
            body = {"price_seen": USD_5} if method == "POST" else None
            answers = [await market.send(bob, method, path.format(each), body) for each in (sale, "sale_none")]
            shown = [(each.status_code, each.content.replace(sale.encode(), b"sale_none")) for each in answers]
            assert shown[0] == shown[1]
        assert code(real) == "sale_unknown"
        hidden = await bob.ask("GET", f"/streams/{market.stream}/sale", status=404)
        none = await bob.ask("GET", "/streams/s_none/sale", status=404)
        assert {**hidden, "instance": ""} == {**none, "instance": ""}
        assert await market.has(bob) == 1200


async def test_who_may_not_come_in_is_sold_nothing(tmp_path: Path) -> None:
    async with open_market(tmp_path, opens_at=2**52) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve", "0")
        assert code(await market.buy(bob)) == "sale_not_open"
        await market.ann.ask("POST", f"/sales/{market.sale}/cancel")
        await market.open(quantity=1)
        assert code(await market.buy(eve)) == "insufficient_funds"
        assert code(await market.buy(market.ann)) == "own_ticket"
        await market.ann.ask("PUT", f"/streams/{market.stream}/ejected/bob")
        assert code(await market.buy(bob)) == "ejected"
        await demand(market.show, {"type": "kyf:verified"})
        refused = await market.buy(await market.buyer("joe"))
        assert (code(refused), refused.json()["missing"][0]["clause"]) == ("kyf_required", {"type": "kyf:verified"})
        assert (await market.report())["sold"] == 0


async def test_a_ticket_that_is_paid_back_lets_in_no_more(tmp_path: Path) -> None:
    async with open_market(tmp_path, quantity=1) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        ticket = (await market.buy(bob)).json()["ticket"]
        assert (await market.send(eve, "PUT", f"/sales/{market.sale}/waiting")).json() == {"position": 1}
        await switch(market.ann, market.stream, "paid")
        bobs, hears, eve_hears = (
            await market.show.watch(bob),
            await market.show.socket(bob),
            await market.show.socket(eve),
        )
        await market.show.sees(bobs)
        taken = await market.send(market.ann, "DELETE", f"/streams/{market.stream}/tickets/bob")
        assert code(taken) == "ticket_bought"
        assert (await market.send(eve, "DELETE", f"/sales/{market.sale}/tickets/{ticket}")).status_code == 403
        answer = await market.send(market.ann, "DELETE", f"/sales/{market.sale}/tickets/{ticket}")
        assert answer.status_code == 204
        await market.show.sees_nothing_more(bobs)
        assert (await hears.wait_for("access.revoked"))["reason"] == "ticket_revoked"
        assert (await hears.wait_for("ticket.refunded"))["ticket"] == ticket
        assert await market.has(bob) == 1200
        offered = await eve_hears.wait_for("ticket.offered")
        assert (await market.seen(eve))["mine"]["ticket"] == offered["ticket"]
        paid = await market.send(eve, "POST", f"/reservations/{offered['ticket']}/pay")
        assert paid.json()["state"] == "sold"
        await market.show.sees(await market.show.watch(eve))


async def test_who_pays_while_the_switch_is_confirmed_waits_in_the_lobby_and_is_let_in(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        bobs, eves = await market.show.watch(bob), await market.show.watch(eve)
        hears, eve_hears = await market.show.socket(bob), await market.show.socket(eve)
        tickets = [await market.reserve(person) for person in (bob, eve)]
        prepared = await market.ann.ask("POST", f"/streams/{market.stream}/mode/prepare", {"mode": "paid"})
        assert (sorted(prepared["paying"]), prepared["would_remove"], prepared["holders"]) == (["bob", "eve"], [], [])
        assert prepared["offer"] == {"sale": market.sale, "price": USD_5, "left": 8}
        await switch(market.ann, market.stream, "paid")
        revoked = await hears.wait_for("access.revoked")
        assert (revoked["reason"], revoked["readmit"]) == ("payment_pending", ["ticket"])
        await market.show.sees_nothing_more(bobs)
        paid = await market.send(bob, "POST", f"/reservations/{tickets[0]}/pay")
        assert paid.json()["state"] == "sold"
        assert (await hears.wait_for("access.granted"))["via"] == "ticket"
        await market.show.sees(bobs)  # on the connection that waited
        assert (await market.send(eve, "DELETE", f"/reservations/{tickets[1]}")).status_code == 204
        reasons = [(await eve_hears.wait_for("access.revoked"))["reason"] for _ in range(2)]
        assert reasons == ["payment_pending", "ticket_required"]
        assert (await eve_hears.wait_for("ticket.expired"))["ticket"] == tickets[1]
        await market.show.sees_nothing_more(eves)
        assert [await market.has(person) for person in (bob, eve)] == [700, 1200]


async def test_a_countdown_warns_the_viewers_and_then_cuts_who_bought_nothing(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        bobs, eves, hears = await market.show.watch(bob), await market.show.watch(eve), await market.show.socket(eve)
        prepared = await market.ann.ask("POST", f"/streams/{market.stream}/mode/prepare", {"mode": "paid"})
        body = {"confirm_token": prepared["confirm_token"], "allow_empty": True, "after_s": 2}
        announced = await market.ann.ask("POST", f"/streams/{market.stream}/mode/confirm", body)
        told = await hears.wait_for("stream.mode_pending")
        assert told["mode"] == "paid"
        assert abs(told["at"] - announced["switches_at"]) < 100  # one moment, read twice off two clocks
        assert told["at"] - told["server_now"] <= 2000
        await market.show.sees(eves)
        await market.buy(bob)
        assert (await hears.wait_for("access.revoked"))["reason"] == "ticket_required"
        await market.show.sees(bobs)
        await market.show.sees_nothing_more(eves)
        off = await market.ann.ask("POST", f"/streams/{market.stream}/mode/call_off", status=409)
        assert off["code"] == "no_switch_announced"


async def test_who_is_put_out_or_blocked_or_paid_with_money_that_was_taken_back_is_paid_back(
    tmp_path: Path, place: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shows, "FORFEITS_EVERY_MS", 0)
    async with open_market(tmp_path, place) as market:
        bob, eve, zoe = [await market.buyer(name) for name in ("bob", "eve", "zoe")]
        joe = await market.buyer("joe", "0")
        bank = Bank(market.site, tmp_path / "node", await market.site.running.auth.admin_token())
        deposit = {"transaction": "t1", "account": joe.id, "amount": USD_5}
        assert (await bank.webhook({"type": "deposit.settled", **deposit})).json() == {"outcome": "done"}
        for person in (bob, eve, zoe, joe):
            assert (await market.buy(person)).status_code == 201
        await switch(market.ann, market.stream, "paid")
        joes = await market.show.watch(joe)
        await market.show.sees(joes)
        await market.ann.ask("PUT", f"/streams/{market.stream}/ejected/bob")
        await market.ann.ask("PUT", "/blocks/eve")
        await zoe.ask("PUT", "/blocks/ann")
        assert (await bank.webhook({"type": "deposit.reversed", "transaction": "t1"})).json() == {"outcome": "done"}

        async def paid_back() -> bool:
            return [await market.has(person) for person in (bob, eve)] == [1200, 1200]

        async def is_cut() -> bool:
            return bool((await joe.ask("GET", f"/streams/{market.stream}"))["you"]["reason"] == "ticket_required")

        await eventually(paid_back)
        await eventually(is_cut)
        await market.show.sees_nothing_more(joes)
        assert await market.has(zoe) == 700
        assert (await market.report())["refunded"] == 3


async def test_news_that_can_t_be_told_keeps_no_others_from_being_told(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob = await market.buyer("bob")
        hears = await market.show.socket(bob)
        async with running(tmp_path / "node" / "mesi.sqlite") as store:
            await store.write(
                eventlog.append, Happened(market.stream, "sale.changed", 0, {"sale": "of another version"})
            )
        bought = await market.buy(bob)
        assert (await hears.wait_for("ticket.sold"))["ticket"] == bought.json()["ticket"]
        assert "mesi_ticket_failures_total 1.0" in (await market.site.http.get("/metrics")).text


async def test_a_show_that_ends_too_early_is_paid_back_whole(tmp_path: Path, place: Path | str) -> None:
    async with open_market(tmp_path, place) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        for person in (bob, eve):
            await market.buy(person)
        await switch(market.ann, market.stream, "paid")
        await market.ann.ask("POST", f"/streams/{market.stream}/end")

        async def paid_back() -> bool:
            return [await market.has(person) for person in (bob, eve)] == [1200, 1200]

        await eventually(paid_back)
        report = await market.report()
        assert (report["sale"]["state"], report["refunded"], report["money"]["gross"]) == ("cancelled", 2, "0")
        assert await market.has(market.ann, "MESI") == 0


async def test_a_show_that_was_delivered_pays_its_streamer_and_late_comers_too(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_market(tmp_path, place, delivered_after_s=1) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        await market.buy(bob)
        await switch(market.ann, market.stream, "paid")

        async def earned() -> bool:
            return await market.has(market.ann, "MESI") == 45_000_000

        await eventually(earned)  # 4.50 USD at 10 MESI
        await market.buy(eve)
        late = await market.send(market.ann, "DELETE", f"/sales/{market.sale}/tickets/none")
        assert code(late) == "ticket_unknown"

        async def earned_twice() -> bool:
            return await market.has(market.ann, "MESI") == 90_000_000

        await eventually(earned_twice)
        await market.ann.ask("POST", f"/streams/{market.stream}/end")

        async def settled() -> bool:
            return bool((await market.report())["sale"]["state"] == "delivered")

        await eventually(settled)
        assert (await market.report())["delivered_s"] >= 1
        assert [await market.has(person) for person in (bob, eve)] == [700, 700]


async def test_a_restart_lets_in_who_paid_and_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    config = with_money(folder, "")
    async with open_show(folder, "public", config=config) as show:
        market = Market(show)
        await market.open()
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        await market.buy(bob)
        ticket = await market.reserve(eve)
        await switch(market.ann, market.stream, "paid")
    # What a crash leaves between the payment and the admission: the first is written, the room never heard of it.
    async with running(folder / "mesi.sqlite") as store:
        await store.write(box_office.pay_for, ticket, eve.id, time.time_ns() // 1_000_000)
    async with open_site(folder, config) as site:
        for person, admitted in ((bob, True), (eve, True), (await site.person("joe"), False)):
            person.http = site.http
            you = (await person.ask("GET", f"/streams/{market.stream}"))["you"]
            assert (person.name, you["admitted"]) == (person.name, admitted)

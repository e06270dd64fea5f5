"""Tips and wallets on a whole node: over HTTP, in the room, and as what lets people into a private stream."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from server.config import ProviderSettings
from server.money import tips
from server.money.goals import MAX_GOALS
from server.money.tip_links import MAX_LINKS
from server.web.tip_links import qr_svg
from tests.access.test_access_node import Show, open_show
from tests.money.databases import running
from tests.money.provider_service import SECRET, ProviderService, provider_service
from tests.money.test_money_api import Bank, with_money
from tests.server.nodes import Person, Site, open_site, open_socket, small_config
from tests.server.test_node import wait_until

TIP = {"to": "ann", "amount": {"asset": "USD", "units": "100"}}


class Street:
    """A node with Ann, Bob and Eve; Bob has 1,000 dollars."""

    def __init__(self, site: Site, people: dict[str, Person], bank: Bank) -> None:
        self.site, self.bank = site, bank
        self.ann, self.bob, self.eve = people["ann"], people["bob"], people["eve"]
        self._keys = 0

    async def post(self, person: Person, path: str, body: object, key: str | None = "") -> httpx2.Response:
        self._keys += 1
        headers = {"Authorization": f"Bearer {person.token}"}
        if key is not None:
            headers["Idempotency-Key"] = key or f"key {self._keys}"
        return await self.site.http.post(f"/api/v1{path}", json=body, headers=headers)

    async def tip(self, person: Person | None = None, key: str | None = "", **change: Any) -> Any:
        answer = await self.post(person or self.bob, "/tips", {**TIP, **change}, key)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def refused(self, person: Person, path: str, body: object, status: int, code: str) -> Any:
        answer = await self.post(person, path, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        return answer.json()

    async def balance(self, person: Person, asset: str) -> Any:
        view = await person.ask("GET", "/me/wallet")
        return next(each for each in (*view["balances"], *view["bonus"]) if each["asset"] == asset)

    async def reverse(self, tip: str) -> None:
        answer = await self.site.http.post(f"/api/v1/admin/tips/{tip}/reverse", headers=self.bank.admin)
        assert answer.status_code == 200, answer.text


async def people_of(site: Site, folder: Path) -> Street:
    people = {name: await site.person(name) for name in ("ann", "bob", "eve")}
    bank = Bank(site, folder, await site.running.auth.admin_token())
    await bank.deposit({"name": "bob", "asset": "USD", "amount": "1000"})
    return Street(site, people, bank)


@asynccontextmanager
async def open_street(tmp_path: Path, place: Path | str | None = None) -> AsyncIterator[Street]:
    folder = tmp_path / "node"
    async with open_site(folder, with_money(folder, place or tmp_path)) as site:
        yield await people_of(site, folder)


async def test_a_tip_by_double_click_is_given_once(tmp_path: Path, place: Path | str) -> None:
    async with open_street(tmp_path, place) as street:
        answers: list[httpx2.Response] = []

        async def click() -> None:
            answers.append(await street.post(street.bob, "/tips", TIP, "one"))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(click)
        given = [answer.json() for answer in answers if answer.status_code == 201]
        assert given
        assert all(tip == given[0] for tip in given)
        assert {answer.json()["code"] for answer in answers if answer.status_code != 201} <= {"idempotency_in_flight"}
        again = await street.post(street.bob, "/tips", TIP, "one")
        assert (again.json(), again.headers["Idempotent-Replayed"]) == (given[0], "true")
        other = await street.post(street.bob, "/tips", {**TIP, "message": "more"}, "one")
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
        none = await street.post(street.bob, "/tips", TIP, None)
        assert (none.status_code, none.json()["code"]) == (400, "idempotency_key_required")
        assert (await street.balance(street.bob, "USD"))["available"] == "99900"
        assert await street.bob.ask("GET", f"/tips/{given[0]['id']}") == given[0]
        assert (await street.eve.ask("GET", f"/tips/{given[0]['id']}", status=404))["code"] == "tip_unknown"


async def test_a_wallet_shows_what_happened_and_with_whom(tmp_path: Path, place: Path | str) -> None:
    async with open_street(tmp_path, place) as street:
        tip = await street.tip(message="for you")
        await street.tip(amount={"asset": "USD", "units": "50"})
        page = await street.bob.ask("GET", "/me/wallet/entries?limit=2")
        _, first = page["entries"]
        assert first == {
            "id": first["id"],
            "transfer": tip["id"],
            "of": None,
            "what": "tip",
            "direction": "out",
            "amount": {"asset": "USD", "units": "100"},
            "fee": {"asset": "USD", "units": "10"},
            "with": {"id": street.ann.id, "name": "ann"},
            "at": tip["at"],
            "state": "done",
        }
        rest = await street.bob.ask("GET", f"/me/wallet/entries?limit=2&cursor={page['cursor']}")
        assert [(line["what"], line["direction"], line["with"]) for line in rest["entries"]] == [
            ("deposit", "in", None)
        ]
        assert rest["cursor"] is None
        (got, _) = reversed((await street.ann.ask("GET", "/me/wallet/entries"))["entries"])
        assert (got["amount"], got["with"]["name"]) == ({"asset": "MESI", "units": "9000000"}, "bob")
        assert (await street.bob.ask("GET", "/me/wallet/entries?cursor=x", status=422))["code"] == "invalid_cursor"
        anns = await street.balance(street.ann, "MESI")
        assert (anns["available"], anns["withdrawable"], anns["scale"]) == ("13500000", "0", 6)
        await street.reverse(tip["id"])
        lines = (await street.bob.ask("GET", "/me/wallet/entries"))["entries"]
        assert [line["state"] for line in lines if line["transfer"] == tip["id"]] == ["reversed"]
        assert (lines[0]["of"], lines[0]["direction"], lines[0]["amount"]) == (tip["id"], "in", tip["amount"])
        assert {each["asset"] for each in (await street.bob.ask("GET", "/me/wallet"))["bonus"]} == {"BONUS"}


async def test_a_session_of_a_mobile_app_can_t_spend_what_is_for_the_page(tmp_path: Path) -> None:
    async with open_street(tmp_path) as street:
        await street.bank.deposit({"name": "bob", "asset": "MESI", "amount": "5"})
        body = {"name": "bob", "surface": "mobile"}
        made = await street.site.http.post("/api/v1/admin/tokens", json=body, headers=street.bank.admin)
        phone = Person("bob", street.bob.id, made.json()["token"], street.site.http)
        mesi = {**TIP, "amount": {"asset": "MESI", "units": "100"}}
        await street.refused(phone, "/tips", mesi, 403, "asset_not_allowed_on_surface")
        await street.tip(phone)
        assert (await street.tip(street.bob, amount=mesi["amount"]))["arrives"] == {"asset": "MESI", "units": "90"}
        listed = (await street.site.http.get("/api/v1/assets")).json()["assets"]
        assert {asset["asset"]: asset["surfaces"] for asset in listed}["MESI"] == ["web"]


async def test_a_quote_says_what_will_arrive_and_a_late_one_comes_with_a_new_one(tmp_path: Path) -> None:
    async with open_street(tmp_path) as street:
        asked = await street.post(street.bob, "/quotes", {"amount": TIP["amount"]}, None)
        quote = asked.json()
        assert (asked.status_code, quote["arrives"]) == (201, {"asset": "MESI", "units": "9000000"})
        assert (await street.tip(quote=quote["quote"]))["arrives"] == quote["arrives"]
        late = await street.refused(street.bob, "/tips", {**TIP, "quote": "none"}, 409, "quote_expired")
        assert (await street.tip(quote=late["quote"]["quote"]))["arrives"] == quote["arrives"]
        mesi = {"amount": {"asset": "MESI", "units": "1"}}
        await street.refused(street.bob, "/quotes", mesi, 422, "nothing_to_convert")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"to": "bob"}, 422, "self_tip"),
        ({"to": "nobody"}, 404, "account_unknown"),
        ({"context": {"kind": "stream"}}, 422, "bad_context"),
        ({"context": {"kind": "stream", "id": "none"}}, 422, "bad_context"),
        ({"context": {"kind": "profile", "id": "none"}}, 422, "bad_context"),
        ({"message": "a\u0000"}, 422, "invalid_message"),
        ({"amount": {"asset": "USD", "units": "0"}}, 422, "invalid_amount"),
        ({"amount": {"asset": "USD", "units": "1.5"}}, 422, "invalid_amount"),
        ({"amount": {"asset": "USD", "units": "9" * 60}}, 422, "amount_exceeds_supply"),
        ({"amount": {"asset": "GOLD", "units": "1"}}, 422, "asset_unknown"),
        ({"amount": {"asset": "USD", "units": "100001"}}, 402, "insufficient_funds"),
    ],
)
async def test_a_tip_that_makes_no_sense_is_a_problem_and_charges_nobody(
    tmp_path: Path, change: dict[str, Any], status: int, code: str
) -> None:
    async with open_street(tmp_path) as street:
        await street.refused(street.bob, "/tips", {**TIP, **change}, status, code)
        assert (await street.balance(street.bob, "USD"))["available"] == "100000"


@asynccontextmanager
async def open_stage(tmp_path: Path, rules: object) -> AsyncIterator[tuple[Show, Street]]:
    """Give a private stream of Ann's with rules about tips."""
    async with open_show(tmp_path) as show:
        headers = {"Authorization": f"Bearer {show.ann.token}", "If-Match": '"0"'}
        path = f"/api/v1/streams/{show.stream}/rules"
        answer = await show.site.http.put(path, json={"watch": rules}, headers=headers)
        assert answer.status_code == 200, answer.text
        yield show, await people_of(show.site, tmp_path)


async def test_three_small_tips_let_in_where_the_total_counts_and_a_reversal_cuts(tmp_path: Path) -> None:
    rules = {"type": "tips_total", "at_least": TIP["amount"]}
    async with open_stage(tmp_path, rules) as (show, street):
        context = {"kind": "stream", "id": show.stream}
        socket = await show.socket(street.bob)
        for units in ("25", "25"):
            await street.tip(amount={"asset": "USD", "units": units}, context=context)
        assert await show.refused(street.bob) == "not_entitled"
        last = await street.tip(amount={"asset": "USD", "units": "50"}, context=context)
        assert (await socket.wait_for("access.granted"))["via"] == "tips_total"
        bobs = await show.watch(street.bob)
        await show.sees(bobs)
        await street.reverse(last["id"])
        await show.sees_nothing_more(bobs)
        assert (await socket.wait_for("access.revoked"))["reason"] == "not_entitled"
        assert (await socket.wait_for("tip.reversed"))["tip"] == last["id"]


async def test_a_reversal_whose_request_died_after_it_was_written_cuts_all_the_same(tmp_path: Path) -> None:
    rules = {"type": "tips_total", "at_least": TIP["amount"]}
    async with open_stage(tmp_path, rules) as (show, street):
        tip = await street.tip()
        bobs, hears = await show.watch(street.bob), await show.socket(street.bob)
        await show.sees(bobs)
        async with running(tmp_path / "mesi.sqlite") as store:
            await store.write(tips.reverse, tip["id"], time.time_ns() // 1_000_000)
        assert (await hears.wait_for("access.revoked"))["reason"] == "not_entitled"
        await show.sees_nothing_more(bobs)


async def test_three_small_tips_do_not_let_in_where_a_single_one_counts(tmp_path: Path) -> None:
    rules = {"type": "single_tip", "at_least": TIP["amount"]}
    async with open_stage(tmp_path, rules) as (show, street):
        for units in ("25", "25", "50"):
            await street.tip(amount={"asset": "USD", "units": units})
        assert await show.refused(street.bob) == "not_entitled"
        await street.tip()
        await show.sees(await show.watch(street.bob))


async def test_a_tip_is_shown_to_who_may_see_it_and_only_the_two_know_by_whom_an_anonymous_one_is(
    tmp_path: Path,
) -> None:
    async with open_street(tmp_path) as street, AsyncExitStack() as stack:
        stream = await street.site.stream(street.ann, mode="private")
        await street.eve.ask("PUT", "/follows/ann")
        sockets = {}
        for person in (street.ann, street.bob, street.eve):
            socket = await stack.enter_async_context(open_socket(street.site, person))
            await socket.ask("join", stream=stream)
            sockets[person.name] = socket
        context = {"kind": "stream", "id": stream}
        tip = await street.tip(message="hello", anonymous=True, context=context)
        full = {
            "tip": tip["id"],
            "stream": stream,
            "from": {"id": street.bob.id, "name": "bob"},
            "to": {"id": street.ann.id, "name": "ann"},
            "amount": TIP["amount"],
            "menu_item": None,
            "message": "hello",
            "anonymous": True,
            "at": tip["at"],
        }
        for name in ("ann", "bob"):
            told = await sockets[name].wait_for("tip")
            assert full.items() <= told.items()
        told = await sockets["eve"].wait_for("tip")
        # Bob follows nobody: he can't chat in this stream, and not by way of a tip either.
        assert told["from"] is None
        assert told["message"] == ""
        assert told["amount"] == TIP["amount"]
        await street.bob.ask("PUT", "/follows/ann")
        await street.tip(message="hello again", context=context)
        told = await sockets["eve"].wait_for("tip")
        assert (told["from"]["name"], told["message"]) == ("bob", "hello again")
        await street.eve.ask("DELETE", "/follows/ann")
        await street.tip(message="not for eve", context=context)
        assert (await sockets["ann"].wait_for("tip"))["message"] == "hello again"
        await sockets["eve"].ask("ping")
        assert "tip" not in [event["type"] for event in sockets["eve"].events]


@asynccontextmanager
async def open_counter(tmp_path: Path) -> AsyncIterator[tuple[Street, ProviderService]]:
    """Give a node that reaches a provider which takes money in and pays it out."""
    folder = tmp_path / "node"

    async def hear(headers: dict[str, str], body: bytes) -> httpx2.Response:
        sent = {**headers, "Content-Type": "application/json"}
        return await street.site.http.post("/api/v1/webhooks/payments/pay", content=body, headers=sent)

    async with provider_service(hear) as (service, _):
        provider = ProviderSettings("pay", service.url, SECRET)
        config = small_config(folder)
        money = msgspec.structs.replace(config.money, withdraw_after_s=3600)
        config = msgspec.structs.replace(config, payment_providers=(provider,), money=money)
        async with open_site(folder, config) as site:
            street = await people_of(site, folder)
            yield street, service


async def test_people_pay_in_through_a_provider_once_for_each_key(tmp_path: Path) -> None:
    async with open_counter(tmp_path) as (street, service):
        wish = {"amount": {"asset": "EUR", "units": "700"}}
        first = await street.post(street.eve, "/me/wallet/deposits", wish, "one")
        again = await street.post(street.eve, "/me/wallet/deposits", wish, "one")
        assert (first.status_code, first.json()) == (201, again.json())
        started = first.json()
        assert started["url"].startswith(service.url)
        asked = service.requests[started["reference"]]
        assert (asked["account"], asked["amount"]) == (street.eve.id, wish["amount"])
        assert (await street.balance(street.eve, "EUR"))["available"] == "0"
        assert (await street.eve.ask("GET", "/me/wallet"))["providers"] == ["pay"]
        settled = {"type": "deposit.settled", "transaction": "t", "account": street.eve.id, **wish}
        await service.say(settled)
        await service.say(settled)
        assert (await street.balance(street.eve, "EUR"))["available"] == "700"
        service.broken = True
        await street.refused(street.eve, "/me/wallet/deposits", wish, 503, "provider_unavailable")
        bonus = {"amount": {"asset": "BONUS", "units": "700"}}
        await street.refused(street.eve, "/me/wallet/deposits", bonus, 422, "bonus_asset")
        other = {**wish, "provider": "other"}
        await street.refused(street.eve, "/me/wallet/deposits", other, 404, "provider_unknown")


async def test_what_was_tipped_lately_is_not_paid_out_and_the_rest_is(tmp_path: Path) -> None:
    async with open_counter(tmp_path) as (street, service):
        await street.bank.deposit({"name": "ann", "asset": "MESI", "amount": "2"})
        await street.tip()
        all_of_it = {"amount": {"asset": "MESI", "units": "11000000"}}
        refusal = await street.refused(street.ann, "/me/wallet/withdrawals", all_of_it, 409, "not_withdrawable_yet")
        assert refusal["withdrawable"] == {"asset": "MESI", "units": "2000000"}
        part = {"amount": refusal["withdrawable"]}
        asked = (await street.post(street.ann, "/me/wallet/withdrawals", part)).json()
        anns = await street.balance(street.ann, "MESI")
        assert (anns["available"], anns["withdrawable"], anns["held"]) == ("9000000", "0", "2000000")
        with trio.fail_after(20):
            await wait_until(lambda: asked["withdrawal"] in service.requests)
        await service.say({"type": "withdrawal.paid", "withdrawal": asked["withdrawal"]})
        assert (await street.balance(street.ann, "MESI"))["held"] == "0"
        lines = (await street.ann.ask("GET", "/me/wallet/entries"))["entries"]
        assert [line["state"] for line in lines if line["transfer"] == asked["withdrawal"]] == ["posted"]
        await street.tip(street.ann, to="bob", amount={"asset": "MESI", "units": "9000000"})
        assert (await street.balance(street.ann, "MESI"))["available"] == "0"


async def test_a_tip_link_leads_to_a_suggestion_and_counts_people_and_what_they_gave(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_street(tmp_path, place) as street:
        wish = {"suggested": TIP["amount"], "note": "for the band", "expires_s": 3600}
        link = await street.ann.ask("POST", "/tip_links", wish, status=201)
        assert len(link["code"]) >= 22
        for _ in range(2):
            shown = await street.site.http.get(f"/api/v1/tip_links/{link['code']}")
        assert shown.json() == link
        assert (link["to"], link["suggested"], link["note"]) == ("ann", TIP["amount"], "for the band")
        for person in (street.bob, street.bob, street.ann):
            await person.ask("POST", f"/tip_links/{link['code']}/visits", status=204)
        await street.tip(link=link["code"])
        back = await street.tip(link=link["code"])
        await street.reverse(back["id"])
        await street.tip()
        (stats,) = (await street.ann.ask("GET", "/tip_links"))["links"]
        assert (stats["visits"], stats["tips"], stats["tipped"]) == (1, 1, [TIP["amount"]])
        assert (await street.bob.ask("GET", "/tip_links"))["links"] == []
        await street.bank.deposit({"name": "ann", "asset": "USD", "amount": "1"})
        body = {**TIP, "to": "eve", "link": link["code"]}
        await street.refused(street.bob, "/tips", body, 422, "bad_context")


async def test_a_link_that_leads_nowhere_is_one_answer_whatever_the_reason(tmp_path: Path) -> None:
    async with open_street(tmp_path) as street:
        codes = {}
        for reason in ("revoked", "expired", "suspended"):
            owner = street.eve if reason == "suspended" else street.ann
            codes[reason] = (await owner.ask("POST", "/tip_links", {"expires_s": 3600}))["code"]
        assert (await street.bob.ask("DELETE", f"/tip_links/{codes['revoked']}", status=404))[
            "code"
        ] == "tip_link_unknown"
        await street.ann.ask("DELETE", f"/tip_links/{codes['revoked']}", status=204)
        root = Person("admin", "admin", await street.site.running.auth.admin_token(), street.site.http)
        await root.ask("PUT", "/admin/accounts/eve", {"suspended": True})
        connection = sqlite3.connect(street.bank.folder / "mesi.sqlite")
        connection.execute("UPDATE tip_links SET expires_at = 1 WHERE code = ?", [codes["expired"]])
        connection.commit()
        connection.close()
        answers = set()
        for code in (*codes.values(), "x" * 22):
            for path in (code, f"{code}/qr.svg"):
                answer = await street.site.http.get(f"/api/v1/tip_links/{path}")
                answers.add((answer.status_code, answer.text))
            await street.refused(street.bob, "/tips", {**TIP, "link": code}, 404, "tip_link_unknown")
        assert len(answers) == 1
        assert answers.pop()[0] == 404


async def test_guesses_of_links_are_slowed_down_and_visitors_behind_one_address_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    config = small_config(folder)
    rates = msgspec.structs.replace(config.rates, guess_per_s=0.001, guess_burst=5)
    async with open_site(folder, msgspec.structs.replace(config, rates=rates)) as site:
        ann = await site.person("ann")
        path = f"/api/v1/tip_links/{(await ann.ask('POST', '/tip_links', {}))['code']}"
        assert {(await site.http.get(path)).status_code for _ in range(20)} == {200}
        guesses = [(await site.http.get(f"/api/v1/tip_links/guess{number}")).status_code for number in range(8)]
        assert guesses == [404] * 5 + [429] * 3
        assert (await site.http.get(path)).status_code == 429


async def test_the_picture_of_a_link_is_read_as_its_address(tmp_path: Path) -> None:
    async with open_street(tmp_path) as street:
        code = (await street.ann.ask("POST", "/tip_links", {}))["code"]
        answer = await street.site.http.get(f"/api/v1/tip_links/{code}/qr.svg")
        assert answer.headers["Content-Type"].startswith("image/svg+xml")
        assert answer.content == qr_svg(f"{street.site.running.url}/t/{code}")
        far = {"Host": "streams.example.org"}
        elsewhere = await street.site.http.get(f"/api/v1/tip_links/{code}/qr.svg", headers=far)
        assert elsewhere.content == qr_svg(f"https://streams.example.org/t/{code}")
        for spoilt in ("a b", "x/y", "x@y"):
            spoilt_answer = await street.site.http.get(f"/api/v1/tip_links/{code}/qr.svg", headers={"Host": spoilt})
            assert spoilt_answer.status_code in (400, 404)


async def test_one_account_has_so_many_links_at_most(tmp_path: Path) -> None:
    async with open_street(tmp_path) as street:
        for _ in range(MAX_LINKS):
            code = (await street.ann.ask("POST", "/tip_links", {}))["code"]
        assert (await street.ann.ask("POST", "/tip_links", {}, status=422))["code"] == "too_many_tip_links"
        await street.ann.ask("DELETE", f"/tip_links/{code}")
        await street.ann.ask("POST", "/tip_links", {}, status=201)


async def test_a_goal_counts_tips_tells_when_it_is_reached_and_takes_off_what_is_taken_back(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_street(tmp_path, place) as street, AsyncExitStack() as stack:
        before = await street.tip()
        stream = await street.site.stream(street.ann)
        sockets = [
            await stack.enter_async_context(open_socket(street.site, person)) for person in (street.ann, street.eve)
        ]
        for socket in sockets:
            await socket.ask("join", stream=stream)
        goal = await street.ann.ask("POST", "/goals", {"title": "A new lamp", "amount": TIP["amount"]}, status=201)
        here = await street.ann.ask(
            "POST",
            "/goals",
            {"title": "A song", "amount": {"asset": "MESI", "units": "1"}, "stream": stream},
            status=201,
        )
        await street.tip(amount={"asset": "USD", "units": "60"})
        for socket in sockets:
            told = [await socket.wait_for("goal") for _ in range(2)]
            assert {each["goal"]: (each["collected"], each["reached_at"]) for each in told} == {
                goal["id"]: ("60", None),
                here["id"]: ("0", None),
            }
        last = await street.tip(context={"kind": "stream", "id": stream})
        shown = {each["id"]: each for each in (await street.bob.ask("GET", "/accounts/ann/goals"))["goals"]}
        assert (shown[goal["id"]]["collected"], shown[goal["id"]]["reached_at"]) == ("160", last["at"])
        assert shown[here["id"]]["collected"] == "10000000"
        await street.reverse(last["id"])
        await street.reverse(before["id"])  # was given before the goal was set
        shown = {each["id"]: each for each in (await street.bob.ask("GET", "/accounts/ann/goals"))["goals"]}
        assert (shown[goal["id"]]["collected"], shown[goal["id"]]["reached_at"]) == ("60", last["at"])
        assert shown[here["id"]]["collected"] == "0"
        await street.bob.ask("DELETE", f"/goals/{goal['id']}", status=404)
        await street.ann.ask("DELETE", f"/goals/{goal['id']}", status=204)
        for _ in range(MAX_GOALS - 1):
            await street.ann.ask("POST", "/goals", {"title": "More", "amount": TIP["amount"]}, status=201)
        full = await street.ann.ask("POST", "/goals", {"title": "More", "amount": TIP["amount"]}, status=422)
        assert full["code"] == "too_many_goals"


async def test_a_menu_suggests_and_a_tip_says_what_it_is_for(tmp_path: Path) -> None:
    async with open_street(tmp_path) as street:
        items = [{"label": "A song", "amount": TIP["amount"]}, {"label": "A dance", "amount": TIP["amount"]}]
        written = await street.ann.ask("PUT", "/me/tip_menu", {"items": items})
        assert await street.bob.ask("GET", "/accounts/ann/tip_menu") == written
        song = written["items"][0]["id"]
        assert (await street.tip(menu_item=song))["menu_item"] == "A song"
        less = {**TIP, "amount": {"asset": "USD", "units": "99"}, "menu_item": song}
        refusal = await street.refused(street.bob, "/tips", less, 409, "price_changed")
        assert refusal["price"] == TIP["amount"]
        await street.ann.ask("PUT", "/me/tip_menu", {"items": items[1:]})
        await street.refused(street.bob, "/tips", {**TIP, "menu_item": song}, 404, "menu_item_unknown")
        spoilt = {"items": [{"label": "a\nb", "amount": TIP["amount"]}]}
        assert (await street.ann.ask("PUT", "/me/tip_menu", spoilt, status=422))["code"] == "invalid_message"
        await street.ann.ask("PUT", "/blocks/bob")
        assert (await street.bob.ask("GET", "/accounts/ann/tip_menu", status=404))["code"] == "account_unknown"

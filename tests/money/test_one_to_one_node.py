"""One-to-ones for money on a whole node: held when asked, paid by what was delivered, given back otherwise."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from server.client import publish, watch
from server.config import Config, OneToOnes
from server.money.amounts import WireAmount, split
from server.money.idempotency import read_request_untrusted
from server.money.one_to_one_desk import OneToOneDesk, Wish
from signalling.identifiers import AccountId, Actor, StreamId
from tests.server.nodes import Person, Site, Socket, open_site, open_socket, small_config
from tests.server.test_node import send_frames

PRICE = {"asset": "USD", "units": "3000"}
OFFER = {"choices": [{"seconds": 300, "price": PRICE}, {"seconds": 600, "price": {"asset": "USD", "units": "5000"}}]}


def on(folder: Path, place: Path | str) -> Config:
    config = small_config(folder)
    data = msgspec.structs.replace(config.data, database=place if isinstance(place, str) else "")
    return msgspec.structs.replace(config, data=data)


class Salon:
    """A streamer with an offer, and a viewer with money who is present."""

    def __init__(self, site: Site, ann: Person, bob: Person, stream: str) -> None:
        self.site, self.ann, self.bob, self.stream = site, ann, bob, stream
        self.path = f"/streams/{stream}/one_to_one"

    async def ask(self, who: Person, body: dict[str, Any], key: str | None = None) -> tuple[int, dict[str, Any]]:
        return await self._post("requests", who, body, key)

    async def ask_more(self, who: Person, body: dict[str, Any], key: str | None = None) -> tuple[int, dict[str, Any]]:
        return await self._post("extension", who, body, key)

    async def _post(self, what: str, who: Person, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {who.token}", "Idempotency-Key": key or secrets.token_hex(8)}
        answer = await self.site.http.post(f"/api/v1{self.path}/{what}", json=body, headers=headers)
        return answer.status_code, answer.json()

    @asynccontextmanager
    async def call(self, anns: Socket, bobs: Socket, *, streamer_watches: bool = True) -> AsyncIterator[None]:
        """Accept the viewer, and let both send and watch for as long as the body runs."""
        http, whip, whep = self.site.http, self.site.url("whip", self.stream), self.site.url("whep", self.stream)
        kinds: tuple[Any, ...] = ("video",)
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            stack.callback(nursery.cancel_scope.cancel)  # called last, with all sessions closed
            streamer = await stack.enter_async_context(publish(http, whip, self.ann.token, kinds))
            nursery.start_soon(send_frames, streamer, 3000)
            await trio.sleep(0.2)
            refused = await anns.ask("accept_one_to_one", stream=self.stream, account=self.bob.id, seconds=600)
            assert refused["code"] == "duration_out_of_range"
            await anns.ask("accept_one_to_one", stream=self.stream, account=self.bob.id, seconds=300)
            await bobs.wait_for("one_to_one.offered")
            guest = await stack.enter_async_context(publish(http, whip, self.bob.token, kinds))
            await bobs.wait_for("one_to_one.accepted")
            nursery.start_soon(send_frames, guest, 3000)
            watching = [self.bob, self.ann] if streamer_watches else [self.bob]
            got: dict[str, list[bytes]] = {who.name: [] for who in watching}
            for who in watching:
                take = lambda packet, at_ns, name=who.name: got[name].append(packet)  # noqa: E731
                await stack.enter_async_context(watch(http, whep, who.token, kinds, take))
            await anns.wait_for("one_to_one.started")
            yield
            assert all(got.values())

    async def has(self, who: Person) -> tuple[int, int]:
        return await has(self.site, who)


async def admin(site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {await site.running.auth.admin_token()}"}


async def deposit(site: Site, who: Person, amount: str) -> None:
    body = {"name": who.name, "asset": "USD", "amount": amount}
    answer = await site.http.post("/api/v1/admin/ledger/deposits", json=body, headers=await admin(site))
    assert answer.status_code == 201, answer.text


async def has(site: Site, who: Person) -> tuple[int, int]:
    """Return what somebody may spend, and what is held, in cents."""
    answer = await site.http.get(f"/api/v1/admin/ledger/balances/{who.name}", headers=await admin(site))
    usd = next(each for each in answer.json()["balances"] if each["asset"] == "USD")
    return int(usd["available"]), int(usd["held"])


async def books_are_right(site: Site) -> None:
    answer = await site.http.get("/api/v1/admin/ledger/check", headers=await admin(site))
    assert answer.json() == {"flaws": []}


@asynccontextmanager
async def open_salon(
    folder: Path, place: Path | str, offer: dict[str, Any] = OFFER
) -> AsyncIterator[tuple[Salon, Socket, Socket]]:
    async with open_site(folder, on(folder, place)) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        await deposit(site, bob, "100.00")
        stream = await site.stream(ann)
        await ann.ask("PUT", f"/streams/{stream}/one_to_one/offer", offer)
        async with open_socket(site, ann) as anns, open_socket(site, bob) as bobs:
            await anns.ask("join", stream=stream)
            await bobs.ask("join", stream=stream)
            yield Salon(site, ann, bob, stream), anns, bobs
            await books_are_right(site)


async def test_a_request_holds_its_price_and_every_way_out_of_the_queue_gives_it_back(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_salon(tmp_path / "node", place, {**OFFER, "cooldown_s": 0}) as (salon, _, bobs):
        body = {"seconds": 300, "max_price": PRICE}
        status, asked = await salon.ask(salon.bob, body, "k1")
        assert status == 201, asked
        assert (asked["held"], asked["seconds"]) == (PRICE, 300)
        assert await salon.ask(salon.bob, body, "k1") == (201, asked)
        assert await salon.has(salon.bob) == (7000, 3000)
        queued = await bobs.wait_for("one_to_one.queued")
        assert (queued["position"], queued["waiting"]) == (1, 1)
        place_in_line = await salon.bob.ask("GET", f"{salon.path}/place")
        assert (place_in_line["request"], place_in_line["held"]) == (asked["request"], PRICE)
        assert (await salon.ask(salon.bob, body))[1]["code"] == "request_exists"
        waiting = (await salon.ann.ask("GET", f"{salon.path}/requests"))["one_to_ones"]
        assert [(line["viewer"], line["held"]) for line in waiting] == [(salon.bob.id, PRICE)]
        assert (await salon.bob.ask("GET", f"{salon.path}/requests", status=403))["code"] == "not_the_owner"

        await salon.ann.ask("POST", f"{salon.path}/decline", {"account": salon.bob.id})
        settled = await bobs.wait_for("one_to_one.settled")
        assert (settled["reason"], settled["captured"], settled["refunded"]) == ("declined", "0", "3000")
        assert await salon.has(salon.bob) == (10_000, 0)

        ways = (
            ("cancelled", lambda: salon.bob.ask("DELETE", f"{salon.path}/requests")),
            ("left", lambda: bobs.ask("leave", stream=salon.stream)),
            ("stream_ended", lambda: salon.ann.ask("POST", f"/streams/{salon.stream}/end")),
        )
        for reason, leave in ways:
            await bobs.ask("join", stream=salon.stream)
            assert (await salon.ask(salon.bob, body))[0] == 201
            assert await salon.has(salon.bob) == (7000, 3000)
            await leave()
            assert (await bobs.wait_for("one_to_one.settled"))["reason"] == reason
            assert await salon.has(salon.bob) == (10_000, 0)
        lines = (await salon.bob.ask("GET", "/me/one_to_ones"))["one_to_ones"]
        assert [line["reason"] for line in lines] == ["stream_ended", "left", "cancelled", "declined"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"seconds": 300}, 402, "payment_required"),
        ({"seconds": 300, "max_price": {"asset": "USD", "units": "2999"}}, 409, "price_changed"),
        ({"seconds": 300, "max_price": {"asset": "EUR", "units": "3000"}}, 409, "price_changed"),
        ({"seconds": 300, "max_price": PRICE, "tip": {"asset": "USD", "units": "2999"}}, 422, "invalid_price"),
        ({"seconds": 300, "max_price": PRICE, "tip": {"asset": "USD", "units": "10001"}}, 402, "insufficient_funds"),
        ({"seconds": 301, "max_price": PRICE}, 422, "duration_out_of_range"),
        ({"seconds": 299, "max_price": PRICE}, 422, "duration_out_of_range"),
        ({"max_price": PRICE}, 422, "duration_out_of_range"),
        ({"seconds": 300, "max_price": {"asset": "USD", "units": "1.5"}}, 422, "invalid_amount"),
    ],
)
async def test_what_can_t_be_held_as_it_was_agreed_is_refused_and_nothing_is_held(
    tmp_path: Path, body: dict[str, Any], status: int, code: str
) -> None:
    async with open_salon(tmp_path / "node", tmp_path) as (salon, _, bobs):
        answered, problem = await salon.ask(salon.bob, body)
        assert (answered, problem["code"]) == (status, code)
        if code == "price_changed":
            assert problem["price"] == PRICE
        assert await salon.has(salon.bob) == (10_000, 0)
        refused = await bobs.ask("request_one_to_one", stream=salon.stream, seconds=300)
        assert refused["code"] == "payment_required"
        assert (await salon.bob.ask("GET", "/me/one_to_ones")) == {"one_to_ones": []}


async def test_who_asked_keeps_the_price_when_it_rises_and_a_bigger_tip_jumps_no_queue(tmp_path: Path) -> None:
    async with open_salon(tmp_path / "node", tmp_path) as (salon, _, _bobs):
        cat = await salon.site.person("cat")
        await deposit(salon.site, cat, "100.00")
        assert (await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE}))[0] == 201
        dearer = {"asset": "USD", "units": "4000"}
        await salon.ann.ask("PUT", f"{salon.path}/offer", {"choices": [{"seconds": 300, "price": dearer}]})
        assert await salon.has(salon.bob) == (7000, 3000)
        async with open_socket(salon.site, cat) as cats:
            await cats.ask("join", stream=salon.stream)
            status, problem = await salon.ask(cat, {"seconds": 300, "max_price": PRICE})
            assert (status, problem["price"]) == (409, dearer)
            status, asked = await salon.ask(cat, {"max_price": dearer, "tip": {"asset": "USD", "units": "9000"}})
            assert (status, asked["held"]["units"]) == (201, "9000")
            queued = await cats.wait_for("one_to_one.queued")
            assert (queued["position"], queued["waiting"]) == (2, 2)
            assert abs(queued["estimated_start"] - queued["server_now"] - 300_000) < 1000
            lines = (await salon.ann.ask("GET", f"{salon.path}/requests"))["one_to_ones"]
            assert [line["viewer"] for line in lines] == [salon.bob.id, cat.id]


async def test_conditions_may_be_asked_instead_of_money_or_besides_it(tmp_path: Path) -> None:
    offer = {**OFFER, "conditions": [{"type": "follows"}], "needs": "all"}
    async with open_salon(tmp_path / "node", tmp_path, offer) as (salon, _, _bobs):
        body = {"seconds": 300, "max_price": PRICE}
        status, problem = await salon.ask(salon.bob, body)
        assert (status, problem["code"]) == (403, "conditions_not_met")
        assert problem["missing"]["of"][0]["clause"]["type"] == "follows"
        await salon.bob.ask("PUT", f"/follows/{salon.ann.name}")
        assert (await salon.ask(salon.bob, body))[0] == 201
        await salon.bob.ask("DELETE", f"{salon.path}/requests")
        await salon.ann.ask("PUT", f"{salon.path}/offer", {**offer, "needs": "any", "cooldown_s": 3600})
        status, problem = await salon.ask(salon.bob, body)
        assert (status, problem["code"]) == (429, "request_too_soon")
        await salon.ann.ask("PUT", f"{salon.path}/offer", {**offer, "needs": "any", "cooldown_s": 0})
        status, asked = await salon.ask(salon.bob, {"seconds": 300})
        assert (status, asked["held"]) == (201, None)
        assert await salon.has(salon.bob) == (10_000, 0)


async def test_both_see_each_other_and_the_streamer_gets_the_share_that_was_delivered(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_salon(tmp_path / "node", place) as (salon, anns, bobs):
        await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE})
        async with salon.call(anns, bobs):
            await trio.sleep(4.5)
            await bobs.ask("end_one_to_one", stream=salon.stream)
            settled = await bobs.wait_for("one_to_one.settled")
        captured, refunded = int(settled["captured"]), int(settled["refunded"])
        assert captured + refunded == 3000
        assert 20 <= captured <= 80  # two to eight seconds, at 10 cents a second
        assert await salon.has(salon.bob) == (10_000 - captured, 0)
        assert (await salon.has(salon.ann))[0] == split(captured, [9000, 1000])[0]
        assert (await anns.wait_for("one_to_one.settled"))["captured"] == settled["captured"]


async def test_what_does_not_pass_both_ways_is_not_paid_for(tmp_path: Path) -> None:
    async with open_salon(tmp_path / "node", tmp_path) as (salon, anns, bobs):
        await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE})
        async with salon.call(anns, bobs, streamer_watches=False):
            await trio.sleep(3.5)
            await anns.ask("end_one_to_one", stream=salon.stream)
            settled = await bobs.wait_for("one_to_one.settled")
        assert settled["reason"] == "ended_by_streamer"
        assert int(settled["captured"]) <= 10  # the second that began after the last look
        assert sum(await salon.has(salon.bob)) >= 9990


async def test_a_node_that_dies_in_a_one_to_one_pays_what_it_wrote_down_and_gives_back_the_rest(
    tmp_path: Path, place: Path | str
) -> None:
    folder = tmp_path / "node"
    with trio.CancelScope() as dies:
        async with open_salon(folder, place) as (salon, anns, bobs):
            await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE})
            async with salon.call(anns, bobs):
                await trio.sleep(7)
                # Nothing ends the one-to-one: what stops the node stops its rooms without a word.
                dies.cancel()
    async with open_site(folder, on(folder, place)) as site:
        available, held = await has(site, salon.bob)
        assert held == 0
        assert 10_000 - 70 <= available <= 10_000 - 20
        paid = 10_000 - available
        assert (await has(site, salon.ann))[0] == split(paid, [9000, 1000])[0]
        await books_are_right(site)


async def test_a_node_that_starts_anew_gives_back_what_waited_and_what_was_not_delivered(
    tmp_path: Path, place: Path | str
) -> None:
    folder = tmp_path / "node"
    async with open_site(folder, on(folder, place)) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        await deposit(site, bob, "100.00")
        stream = await site.stream(ann)
        path = f"/streams/{stream}/one_to_one"
        await ann.ask("PUT", f"{path}/offer", OFFER)
        async with open_socket(site, bob) as bobs:
            await bobs.ask("join", stream=stream)
            salon = Salon(site, ann, bob, stream)
            await salon.ask(bob, {"seconds": 300, "max_price": PRICE})
            assert await has(site, bob) == (7000, 3000)
    async with open_site(folder, on(folder, place)) as site:
        assert await has(site, bob) == (10_000, 0)
        await books_are_right(site)


async def test_a_block_gives_what_is_held_back_and_looks_like_a_stream_that_never_was(tmp_path: Path) -> None:
    async with open_salon(tmp_path / "node", tmp_path) as (salon, _, bobs):
        body = {"seconds": 300, "max_price": PRICE}
        await salon.ask(salon.bob, body)
        await salon.ann.ask("PUT", f"/blocks/{salon.bob.name}")
        assert (await bobs.wait_for("one_to_one.settled"))["refunded"] == "3000"
        assert await salon.has(salon.bob) == (10_000, 0)
        blocked = await salon.ask(salon.bob, body)
        for method, path in (("GET", "offer"), ("GET", "place"), ("GET", "requests")):
            assert (await salon.bob.ask(method, f"{salon.path}/{path}", status=404))["code"] == "stream_unknown"
        salon.path = "/streams/none/one_to_one"
        assert blocked == await salon.ask(salon.bob, body)


async def test_who_does_not_disclose_what_was_asked_gets_his_money_back(tmp_path: Path, place: Path | str) -> None:
    async with open_salon(tmp_path / "node", place) as (salon, _, bobs):
        await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE})
        wanted = {"name": salon.bob.name, "fields": ["age_over"], "purpose": "meeting in person"}
        asked = await salon.ann.ask("POST", "/disclosures", wanted)
        await salon.bob.ask("POST", f"/disclosures/{asked['id']}/refuse")
        settled = await bobs.wait_for("one_to_one.settled")
        assert (settled["reason"], settled["refunded"]) == ("kyf_denied", "3000")
        assert await salon.has(salon.bob) == (10_000, 0)
        assert (await salon.ann.ask("GET", f"{salon.path}/requests"))["one_to_ones"] == []


async def test_one_key_is_one_request_and_money_is_held_only_under_one(tmp_path: Path) -> None:
    async with open_salon(tmp_path / "node", tmp_path) as (salon, _, _bobs):
        body = {"seconds": 300, "max_price": PRICE}
        refused = await salon.bob.ask("POST", f"{salon.path}/requests", body, status=400)
        assert refused["code"] == "idempotency_key_required"
        answers: list[tuple[int, dict[str, Any]]] = []

        async def ask(key: str) -> None:
            answers.append(await salon.ask(salon.bob, body, key))

        async with trio.open_nursery() as nursery:
            for key in ("k1", "k1", "k2", "k3"):
                nursery.start_soon(ask, key)
        assert len({answer["request"] for status, answer in answers if status == 201}) == 1
        codes = {answer["code"] for status, answer in answers if status != 201}
        assert codes <= {"request_exists", "idempotency_in_flight"}
        assert await salon.has(salon.bob) == (7000, 3000)
        other = await salon.ask(salon.bob, {**body, "expires_s": 600}, "k1" if answers[0][0] == 201 else "k9")
        assert other[1]["code"] in ("idempotency_mismatch", "request_exists")


async def test_who_does_not_come_in_time_gets_the_money_back_and_the_next_is_called(
    tmp_path: Path, place: Path | str
) -> None:
    folder = tmp_path / "node"
    quick = msgspec.structs.replace(on(folder, place), one_to_one=OneToOnes(confirm_s=1))
    async with open_site(folder, quick) as site:
        ann, bob, cat = [await site.person(name) for name in ("ann", "bob", "cat")]
        for viewer in (bob, cat):
            await deposit(site, viewer, "100.00")
        salon = Salon(site, ann, bob, await site.stream(ann))
        offer = await ann.ask("PUT", f"{salon.path}/offer", OFFER)
        assert offer["offer"]["calls_next"], "nobody said otherwise"
        async with open_socket(site, ann) as anns, open_socket(site, bob) as bobs, open_socket(site, cat) as cats:
            for socket, viewer in ((bobs, bob), (cats, cat)):
                await socket.ask("join", stream=salon.stream)
                assert (await salon.ask(viewer, {"seconds": 300, "max_price": PRICE}))[0] == 201
            await anns.ask("join", stream=salon.stream)
            body = {"account": bob.id, "seconds": 300}
            accepted = await ann.ask("POST", f"{salon.path}/accept", body)
            assert accepted["setup_ends_at"] is None
            assert (await bobs.wait_for("one_to_one.offered"))["confirm_by"] == pytest.approx(
                accepted["confirm_by"], abs=5
            )
            assert (await bob.ask("GET", f"{salon.path}/place"))["confirm_by"] is not None
            assert (await cat.ask("POST", f"{salon.path}/confirm", status=404))["code"] == "request_unknown"
            waits = (await ann.ask("GET", f"/streams/{salon.stream}/room"))["requests"]
            assert [line["confirm_by"] is not None for line in waits] == [True, False]

            offered = await cats.wait_for("one_to_one.offered")
            assert (offered["account"], offered["seconds"]) == (cat.id, 300)
            assert (await bobs.wait_for("one_to_one.settled"))["reason"] == "missed"
            assert (await anns.wait_for("one_to_one.cancelled"))["account"] == bob.id
            assert (await has(site, bob), await has(site, cat)) == ((10_000, 0), (7000, 3000))
            answer = await cat.ask("POST", f"{salon.path}/confirm")
            assert answer["confirm_by"] is None
            assert (await anns.wait_for("one_to_one.accepted"))["setup_ends_at"] == pytest.approx(
                answer["setup_ends_at"], abs=5
            )
    async with open_site(folder, on(folder, place)) as site:
        assert await has(site, cat) == (10_000, 0), "what was being set up when the node ended delivered nothing"
        await books_are_right(site)


async def test_more_time_is_held_at_the_same_price_and_paid_together_with_the_first_as_far_as_it_was_delivered(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_salon(tmp_path / "node", place) as (salon, anns, bobs):
        path = f"{salon.path}/extension"
        await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE, "tip": {"asset": "USD", "units": "4000"}})
        async with salon.call(anns, bobs):
            more = {"seconds": 120, "max_price": {"asset": "USD", "units": "1200"}}
            assert await salon.bob.ask("GET", f"{path}?seconds=120") == {
                "seconds": 120,
                "price": more["max_price"],
                "longest_s": 1500,
            }
            cheap = {"seconds": 120, "max_price": {"asset": "USD", "units": "1199"}}
            assert (await salon.ask_more(salon.bob, cheap))[1]["price"] == more["max_price"]
            assert (await salon.ask_more(salon.ann, more))[1]["code"] == "mode_conflict"
            status, asked = await salon.ask_more(salon.bob, more, "m1")
            assert (status, asked["number"], asked["held"], asked["state"]) == (201, 1, more["max_price"], "asked")
            assert await salon.has(salon.bob) == (4800, 5200)
            assert (await salon.ask_more(salon.bob, more))[1]["code"] == "extension_exists"
            told = await anns.wait_for("one_to_one.extension_asked")
            assert (told["account"], told["seconds"]) == (salon.bob.id, 120)
            for person in (salon.ann, salon.bob):  # who reloads the page finds it in the state
                assert (await person.ask("GET", salon.path.partition("/one_to_one")[0]))["you"]["extension_s"] == 120
            await salon.ann.ask("POST", f"{path}/decline")
            assert (await bobs.wait_for("one_to_one.extension_ended"))["reason"] == "declined"
            assert (await salon.bob.ask("GET", salon.path.partition("/one_to_one")[0]))["you"]["extension_s"] == 0
            await until(salon.bob, 6000, salon)

            assert (await salon.ask_more(salon.bob, more, "m1"))[1]["state"] == "dropped", "what became of it"
            assert (await salon.ask_more(salon.bob, more))[1]["number"] == 2
            await salon.ann.ask("POST", f"{path}/accept", {"seconds": 120})
            extended = await bobs.wait_for("one_to_one.extended")
            assert 410_000 < extended["ends_at"] - extended["server_now"] <= 420_000
            assert (await salon.ask_more(salon.bob, more, "last"))[0] == 201
            assert await salon.has(salon.bob) == (3600, 6400)
            await trio.sleep(2)
            await bobs.ask("end_one_to_one", stream=salon.stream)
            settled = await bobs.wait_for("one_to_one.settled")
        captured = int(settled["captured"])
        assert captured + int(settled["refunded"]) == 5200, "the first and the one that was granted"
        assert 20 <= captured <= 120
        assert await salon.has(salon.bob) == (10_000 - captured, 0)
        line = (await salon.bob.ask("GET", "/me/one_to_ones"))["one_to_ones"][0]
        assert (line["seconds"], line["held"]["units"], line["captured"]["units"]) == (420, "5200", str(captured))
        events = (await salon.bob.ask("GET", "/events?limit=100"))["events"]
        words = [event["type"] for event in events if "exten" in event["type"]]
        assert words == [
            *("one2one.extension_asked", "one2one.extension_ended", "one2one.extension_asked", "one2one.extended"),
            "one2one.extension_asked",
        ]


async def until(who: Person, available: int, salon: Salon) -> None:
    """Wait until somebody may spend so much: what a room says is written down a moment later."""
    with trio.fail_after(5):
        while (await salon.has(who))[0] != available:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_node_that_dies_while_more_time_is_asked_for_gives_it_back_and_says_so_under_the_same_key(
    tmp_path: Path, place: Path | str
) -> None:
    folder, body = tmp_path / "node", {"seconds": 300, "max_price": PRICE}
    more = {"seconds": 120, "max_price": {"asset": "USD", "units": "1200"}}
    with trio.CancelScope() as dies:
        async with open_salon(folder, place) as (salon, anns, bobs):
            status, first = await salon.ask(salon.bob, body, "k1")
            assert (status, first["state"]) == (201, "queued")
            async with salon.call(anns, bobs):
                assert (await salon.ask_more(salon.bob, more, "m1"))[0] == 201
                dies.cancel()
    async with open_site(folder, on(folder, place)) as site:
        salon.site = site
        available, held = await has(site, salon.bob)
        assert held == 0
        assert available >= 10_000 - 50
        status, again = await salon.ask(salon.bob, body, "k1")
        assert (status, again["request"]) == (201, first["request"])
        assert (again["state"], again["reason"]) == ("ended", "server_restarted")
        status, again = await salon.ask_more(salon.bob, more, "m1")
        assert (status, again["state"]) == (201, "dropped")
        await books_are_right(site)


@pytest.mark.parametrize("more", [False, True], ids=["a request", "more time"])
async def test_who_gives_up_while_the_room_is_slow_is_not_in_it_for_nothing(tmp_path: Path, more: bool) -> None:
    async with open_salon(tmp_path / "node", tmp_path) as (salon, anns, bobs), AsyncExitStack() as stack:
        rooms, stream = salon.site.running.rooms, StreamId(salon.stream)
        desk, room, bob = rooms._desk, rooms._registry._running[stream].room, Actor(AccountId(salon.bob.id), "bob")
        assert isinstance(desk, OneToOneDesk)
        price = WireAmount("USD", "3000")
        if more:
            await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE})
            await stack.enter_async_context(salon.call(anns, bobs))
        before = (await salon.has(salon.bob))[0]

        async def ask() -> None:
            request = read_request_untrusted(bob.account, "a route", "k1", b"")
            if more:
                await desk.extensions.ask(stream, bob, 300, price, request)
            else:
                await desk.ask(stream, bob, Wish(300, price), request)

        async with trio.open_nursery() as nursery, room._turn:
            nursery.start_soon(ask)
            await until(salon.bob, before - 3000, salon)
            nursery.cancel_scope.cancel()
        await until(salon.bob, before, salon)
        state = room.state
        assert not state.requests
        assert state.one_to_one is None or state.one_to_one.extension is None

"""Requests that make sense, and not now or not by these: over a whole node each is refused with its code."""

from __future__ import annotations

from pathlib import Path

import httpx2
import msgspec

from signalling.policy.switching import MAX_SWITCHES
from tests.access.test_access_node import open_show
from tests.money.test_money_api import with_money
from tests.money.test_ticket_node import USD_5, Market, code, open_market
from tests.server.nodes import Person
from tests.server.test_node import switch

SECONDS = {"seconds": 300}


class OneToOne:
    """Orders about one-to-ones of a market's stream, and the codes with which they are refused."""

    def __init__(self, market: Market) -> None:
        self._market = market

    async def __call__(self, person: Person, what: str, body: object = None) -> str:
        path = f"/streams/{self._market.stream}/one_to_one/{what}"
        return code(await self._market.send(person, "POST", path, body))


async def answered(market: Market, person: Person, mode: str) -> httpx2.Response:
    """Prepare and confirm a switch; return the answer to the confirmation."""
    prepared = await person.ask("POST", f"/streams/{market.stream}/mode/prepare", {"mode": mode})
    body = {"confirm_token": prepared["confirm_token"], "allow_empty": True}
    return await market.send(person, "POST", f"/streams/{market.stream}/mode/confirm", body)


async def test_a_one_to_one_runs_alone_and_not_beside_a_paid_show(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        ann, bob, eve = market.ann, await market.buyer("bob"), await market.buyer("eve")
        order = OneToOne(market)
        assert await order(bob, "requests", SECONDS) == "not_present"
        hears = [await market.show.socket(person) for person in (bob, eve)]
        for person in (bob, eve):
            assert await order(person, "requests", SECONDS) == "201"
        assert await order(bob, "requests", SECONDS) == "request_exists"
        assert await order(ann, "accept", {"account": bob.id, **SECONDS}) == "200"
        assert await order(ann, "accept", {"account": eve.id, **SECONDS}) == "one_to_one_offered"
        assert await order(eve, "confirm") == "request_unknown"
        assert await order(bob, "confirm") == "200"
        assert await order(ann, "accept", {"account": eve.id, **SECONDS}) == "already_in_one_to_one"
        assert await market.show.refused(eve) == "one_to_one_running"
        assert code(await market.send(ann, "POST", f"/streams/{market.stream}/mode/prepare", {"mode": "paid"})) == (
            "mode_conflict"
        )
        assert await order(ann, "end") == "200"
        await switch(ann, market.stream, "paid")
        assert await order(bob, "requests", SECONDS) == "mode_conflict"
        assert await order(ann, "accept", {"account": eve.id, **SECONDS}) == "mode_conflict"
        del hears


async def test_who_was_not_asked_to_sends_nothing(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob = await market.buyer("bob")
        bobs = await market.show.watch(bob)
        whip = market.site.url("whip", market.stream)
        offer = (Path(__file__).parents[1] / "fixtures" / "offer-firefox153-pub.sdp").read_text()
        headers = {"Authorization": f"Bearer {bob.token}", "Content-Type": "application/sdp"}
        for _ in range(3):
            answer = await market.site.http.post(whip, content=offer, headers=headers)
            assert (answer.status_code, code(answer)) == (403, "not_the_owner")
        await market.show.sees(bobs)
        metrics = (await market.site.http.get("/metrics")).text
        assert 'mesi_requests_refused_total{code="not_the_owner"} 3.0' in metrics


async def test_a_streamer_who_switches_to_and_fro_has_to_wait_before_the_door_opens_again(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        for _ in range(MAX_SWITCHES):
            assert (await answered(market, market.ann, "paid")).status_code == 200
            assert (await answered(market, market.ann, "public")).status_code == 200
        assert (await answered(market, market.ann, "paid")).status_code == 200
        refused = await answered(market, market.ann, "public")
        assert (refused.status_code, code(refused)) == (429, "switched_too_often")
        assert 0 < int(refused.headers["Retry-After"]) == refused.json()["wait_s"] <= 300


async def test_whoever_reads_the_directory_too_fast_is_told_when_to_come_back(tmp_path: Path) -> None:
    config = with_money(tmp_path, "")
    rates = msgspec.structs.replace(config.rates, account_per_s=0.5, account_burst=20)
    async with open_show(tmp_path, "public", config=msgspec.structs.replace(config, rates=rates)) as show:
        bob = await show.site.person("bob")
        headers = {"Authorization": f"Bearer {bob.token}"}
        answers = [await show.site.http.get("/api/v1/streams", headers=headers) for _ in range(25)]
        assert [answer.status_code for answer in answers[:20]] == [200] * 20
        assert (answers[-1].status_code, code(answers[-1])) == (429, "rate_limited")
        assert int(answers[-1].headers["Retry-After"]) >= 1


async def test_once_the_switch_is_confirmed_not_a_word_of_the_chat_reaches_who_has_no_ticket(tmp_path: Path) -> None:
    async with open_market(tmp_path) as market:
        bob, eve = await market.buyer("bob"), await market.buyer("eve")
        await market.buy(bob)
        bobs, eves = await market.show.socket(bob), await market.show.socket(eve)
        chat = f"/streams/{market.stream}/chat"
        await market.ann.ask("POST", chat, {"text": "for all", "client_txn": "1"})
        assert (await eves.wait_for("chat.message"))["text"] == "for all"
        await switch(market.ann, market.stream, "paid")
        await market.ann.ask("POST", chat, {"text": "for holders", "client_txn": "2"})
        tip = {"to": "ann", "amount": USD_5, "context": {"kind": "stream", "id": market.stream}, "message": "for Ann"}
        assert (await market.send(bob, "POST", "/tips", tip)).status_code == 201
        texts = [(await bobs.wait_for("chat.message"))["text"] for _ in range(2)]
        assert texts == ["for all", "for holders"]
        assert (await bobs.wait_for("tip"))["message"] == "for Ann"
        word = {"text": "let me in", "client_txn": "3"}
        assert (await eve.ask("POST", chat, word, status=403))["code"] == "ticket_required"
        assert (await eves.ask("chat", stream=market.stream, **word))["code"] == "ticket_required"
        anew = await market.show.socket(eve)
        await anew.wait_for("stream.state")
        await anew.ask("ping")
        heard = str([*eves.events, *anew.events, await eve.ask("GET", f"/streams/{market.stream}")])
        assert not [text for text in ("for all", "for holders", "for Ann", "let me in") if text in heard]
        assert (await market.buy(eve, units="500")).status_code == 201
        await market.ann.ask("POST", chat, {"text": "welcome back", "client_txn": "4"})
        assert (await eves.wait_for("chat.message"))["text"] == "welcome back"

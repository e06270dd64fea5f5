"""Paid chats on a whole node: asked for once for each key, answered by whom they concern, and counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from tests.money.test_one_to_one_node import books_are_right, deposit, on
from tests.server.nodes import Person, open_site, open_socket

BID = {"amount": {"asset": "USD", "units": "500"}, "words": "may I?"}


async def ask(who: Person, talk: str, body: dict[str, Any], key: str = "k1") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {who.token}", "Idempotency-Key": key}
    return await who.http.post(f"/api/v1/conversations/{talk}/bids", json=body, headers=headers)


async def test_a_paid_chat_is_asked_for_once_and_both_are_told_what_becomes_of_it(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_site(tmp_path / "node", on(tmp_path / "node", place)) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        await deposit(site, bob, "10.00")
        talk = (await bob.ask("PUT", "/conversations/direct/ann"))["id"]
        async with open_socket(site, ann) as anns:
            first = await ask(bob, talk, BID)
            again = await ask(bob, talk, BID)
            assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
            assert again.headers["Idempotent-Replayed"] == "true"
            bid = first.json()["id"]
            await anns.wait_for("welcome")
            shown = (await ann.ask("GET", f"/conversations/{talk}/messages"))["messages"][-1]
            assert (shown["kind"], shown["card"]["state"], shown["text"]) == ("bid", "asked", "may I?")
        other = await ask(bob, talk, BID, "k2")
        assert (other.status_code, other.json()["code"]) == (409, "bid_exists")
        assert (await eve.ask("GET", f"/bids/{bid}", status=404))["code"] == "bid_unknown"
        assert (await eve.ask("POST", f"/bids/{bid}/accept", status=404))["code"] == "bid_unknown"
        assert (await bob.ask("POST", f"/bids/{bid}/accept", status=409))["code"] == "bid_closed"
        assert (await ann.ask("POST", f"/bids/{bid}/accept"))["state"] == "accepted"
        assert (await bob.ask("POST", f"/bids/{bid}/confirm"))["state"] == "paid"
        assert (await ann.ask("GET", f"/bids/{bid}"))["until"] is None
        wallet = (await ann.ask("GET", "/me/wallet"))["balances"]
        assert ("USD", "450") in [(each["asset"], each["available"]) for each in wallet]
        await books_are_right(site)
        counted = (await site.http.get("/metrics")).text
        for line in ("mesi_bids_asked_total 1.0", "mesi_bids_refused_total 1.0", "mesi_bids_answered_total 2.0"):
            assert line in counted

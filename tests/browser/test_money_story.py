"""Money on the page: what is held for a one-to-one, what of it is paid, and that it is right to the unit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from server.money.amounts import split
from tests.browser.browsers import Browser
from tests.browser.servers import Server
from tests.browser.test_looks import look
from tests.browser.test_stories import on_air, watching
from tests.browser.visitors import PHONE, Theatre, Visitor, comes_true, open_theatre
from tests.server.nodes import Person

ACCEPT = "#requests .accept"


@pytest.fixture
async def theatre(server: Server, chromium: Browser) -> AsyncIterator[Theatre]:
    async with open_theatre(server, chromium) as theatre:
        yield theatre


class Books:
    """What the server's books say, as its operator reads them."""

    def __init__(self, theatre: Theatre) -> None:
        token = (theatre.server.folder / "admin.token").read_text().strip()
        self.operator = Person("admin", "", token, theatre.http)

    async def deposit(self, name: str, amount: str) -> None:
        body = {"name": name, "asset": "USD", "amount": amount}
        await self.operator.ask("POST", "/admin/ledger/deposits", body)

    async def has(self, name: str, asset: str = "USD") -> tuple[int, int]:
        """Return what somebody may spend, and what is held, in an asset's least units."""
        balances = (await self.operator.ask("GET", f"/admin/ledger/balances/{name}"))["balances"]
        found = next(each for each in balances if each["asset"] == asset)
        return int(found["available"]), int(found["held"])

    async def are_right(self) -> None:
        assert await self.operator.ask("GET", "/admin/ledger/check") == {"flaws": []}


async def offer_two_lengths(streamer: Visitor) -> None:
    await streamer.press("#offer summary")
    await streamer.fill("#offer-choices .price", "30.00")
    await streamer.fill("#offer-choices .minutes", "5")
    await streamer.press("#offer-add")
    await streamer.fill("#offer-choices li:nth-child(2) .minutes", "10")
    await streamer.fill("#offer-choices li:nth-child(2) .price", "50")
    await streamer.press("[name=offer_follows]")
    await streamer.fill("[name=cooldown]", "0")
    await streamer.press("#offer-save")
    await streamer.sees("#offer-now", "5 minutes for 30.00 USD, 10 minutes for 50.00 USD, only to whoever follows you")


async def test_a_one_to_one_is_held_delivered_and_paid_to_the_unit(theatre: Theatre) -> None:
    books = Books(theatre)
    streamer, stream = await on_air(theatre, "chromium", "priced-ann", source="test")
    await offer_two_lengths(streamer)
    guest = await watching(theatre, "chromium", "priced-bob", stream)
    third = await watching(theatre, "chromium", "priced-eve", stream)
    await books.deposit("priced-bob", "42.00")

    await guest.press("#ask")
    await guest.sees("#ask-choices", "10 minutes")
    await guest.sees("#ask-conditions", "Only for whoever follows priced-ann")
    await guest.sees("#ask-send", "Ask, and hold 30.00 USD")
    await guest.press("#ask-send")
    await guest.sees("#ask-help", "Follow priced-ann")
    await guest.press("#ask-help button")
    await guest.sees("#ask-help", "You follow priced-ann now")
    await guest.press("#ask-choices [value='600']")
    await guest.sees("#ask-send", "Ask, and hold 50.00 USD")
    await guest.press("#ask-send")
    await guest.sees("#ask-fault", "You have 42.00 USD: 8.00 USD more are needed")
    await guest.sees("#ask-help a[href='/wallet']", "Open the wallet")
    assert await books.has("priced-bob") == (4200, 0)

    await guest.press("#ask-choices [value='300']")
    await guest.fill("[name=more]", "2,50")
    await guest.sees("#ask-send", "Ask, and hold 32.50 USD")
    assert not await look(guest, "ask-terms")
    await guest.page.run("const send = document.querySelector('#ask-send'); send.click(); send.click();")
    await guest.sees("#asked", "number 1 in line")
    await guest.sees("#asked", "32.50 USD are held")
    assert await books.has("priced-bob") == (950, 3250)
    await guest.page.reload()
    await guest.sees("#asked", "32.50 USD are held")
    await guest.press("#take-back")
    await guest.sees(
        "#settled", "Nothing was charged for the one-to-one, 32.50 USD went back. The request was taken back."
    )
    assert await books.has("priced-bob") == (4200, 0)

    await guest.press("#ask")
    await guest.sees("#ask-choices", "5 minutes")
    await guest.sees_moving_picture("#ask-preview")
    await guest.press("#ask-send")
    await streamer.sees("#requests", "30.00 USD held")
    await streamer.shoot("requests-held", (PHONE,))
    await streamer.press(ACCEPT)
    await guest.press("#turn-come")
    for side in (guest, streamer):
        await side.sees("#call-bar", "It ends at")
        assert 285 < await side.seconds_left("#call-time") <= 300
    await third.sees("#slate", "It ends at about")
    await trio.sleep(3)
    await guest.press("#call-end")
    await guest.sees("#settled", "USD charged")
    await streamer.sees("#settled", "USD charged")
    said = await guest.reads("#settled-text")
    assert said == await streamer.reads("#settled")
    await guest.shoot("settled", (PHONE,))
    available, held = await books.has("priced-bob")
    paid = 4200 - available
    assert held == 0
    assert 0 < paid < 600  # a minute costs 6.00
    assert (
        f"{paid // 100}.{paid % 100:02} USD charged, {(3000 - paid) // 100}.{(3000 - paid) % 100:02} USD went back"
        in said
    )
    assert (await books.has("priced-ann"))[0] == split(paid, [9000, 1000])[0]
    await books.are_right()
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_a_price_that_rises_is_asked_for_anew_and_a_no_gives_all_back(theatre: Theatre) -> None:
    books = Books(theatre)
    streamer, stream = await on_air(theatre, "chromium", "riser-ann", source="test")
    owner = await theatre.person("riser-ann")
    offer = f"/streams/{stream}/one_to_one/offer"
    await owner.ask("PUT", offer, {"choices": [{"seconds": 300, "price": {"asset": "USD", "units": "3000"}}]})
    guest = await watching(theatre, "chromium", "riser-bob", stream)
    await books.deposit("riser-bob", "50.00")
    await guest.press("#ask")
    await guest.sees("#ask-send", "Ask, and hold 30.00 USD")
    await owner.ask("PUT", offer, {"choices": [{"seconds": 300, "price": {"asset": "USD", "units": "4000"}}]})
    await guest.sees("#ask-send", "Ask, and hold 40.00 USD")  # the open dialog follows
    assert await books.has("riser-bob") == (5000, 0)
    await guest.sees_moving_picture("#ask-preview")
    await guest.press("#ask-send")
    await guest.sees("#asked", "40.00 USD are held")
    await streamer.sees("#requests", "40.00 USD held")
    await streamer.press("#requests .quiet")
    await guest.sees("#settled", "Nothing was charged for the one-to-one, 40.00 USD went back. The streamer said no.")
    await streamer.sees("#settled", "40.00 USD went back")

    async def all_is_back() -> bool:
        return await books.has("riser-bob") == (5000, 0)

    assert await comes_true(all_is_back, 5)
    await books.are_right()
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")

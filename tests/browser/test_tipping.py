"""Tips on the page: by one tap or by a link, once each, shown to the others, and in the wallet to the unit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.browser.browsers import Browser
from tests.browser.servers import Server, running
from tests.browser.test_looks import focus, look, tab_to
from tests.browser.test_stories import on_air
from tests.browser.visitors import Theatre, open_theatre
from tests.money.provider_service import SECRET, provider_service
from tests.server.nodes import Person

CHOICE = "#tips .tip-choice"
GIVE = "dialog[open] .yes"
# The last click comes when the answer is there, and meets a button that was made anew.
TRIPLE_CLICK = """
  const tap = () => document.querySelector(values[0]).click();
  tap(); tap();
  while (!document.querySelector('#tips').innerText.includes('You gave')) await new Promise(go => setTimeout(go, 5));
  tap();
"""


@pytest.fixture
async def theatre(server: Server, chromium: Browser) -> AsyncIterator[Theatre]:
    async with open_theatre(server, chromium) as theatre:
        yield theatre


async def rich(theatre: Theatre, name: str, dollars: str) -> Person:
    await theatre.fill_wallet(name, "USD", dollars)
    return await theatre.person(name)


async def cents(person: Person) -> int:
    balances = (await person.ask("GET", "/me/wallet"))["balances"]
    return int(next(each["available"] for each in balances if each["asset"] == "USD"))


async def test_tips_in_a_stream_are_given_once_shown_to_all_and_grow_its_goals(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "tipped-ann", source="test")
    owner = await theatre.person("tipped-ann")
    desk = await theatre.visitor("chromium", owner)
    await desk.page.open(f"{desk.url}/u/tipped-ann")
    await desk.fill("#menu-lines [name=label]", "A song")
    await desk.fill("#menu-lines [name=amount]", "2.50")
    await desk.press("#menu-save")
    await desk.sees("#menu-saved", "Saved.")
    await desk.fill("#goal-form [name=title]", "A new lamp")
    await desk.fill("#goal-form [name=amount]", "10")
    await desk.press("#goal-form [type=submit]")
    await desk.sees("#goals", "0.00 USD of 10.00 USD")

    bob, eve = await rich(theatre, "tipped-bob", "100"), await theatre.person("tipped-eve")
    giver = await theatre.visitor("chromium", bob)
    await giver.watch(stream)
    other = await theatre.visitor("chromium", eve)
    await other.watch(stream)
    await other.sees(CHOICE, "A song")
    await giver.sees(CHOICE, "A song")
    await giver.page.run(TRIPLE_CLICK, CHOICE)
    await giver.sees("#tips", "You gave 2.50 USD to tipped-ann")
    for person in (streamer, other):
        await person.sees("#chat-list", "tipped-bob tipped 2.50 USD for “A song”")
        await person.sees("#goals", "2.50 USD of 10.00 USD")

    await giver.press("#tip")
    await giver.sees("dialog[open]", "You have 97.50 USD")  # however often it was clicked
    await giver.fill("[name=amount]", "7,50")
    await giver.fill("[name=message]", "Lovely!")
    await giver.press("[name=anonymous]")
    await giver.sees("dialog[open]", "this site keeps 0.75 USD")
    await giver.sees(GIVE, "Give 7.50 USD")
    await giver.press(GIVE)
    await giver.sees("#tips", "You gave 7.50 USD to tipped-ann, anonymously")
    await streamer.sees("#chat-list", "tipped-bob tipped 7.50 USD: Lovely! not shown to others")
    await other.sees("#chat-list", "Somebody tipped 7.50 USD: Lovely!")
    await other.sees("#goals", "10.00 USD of 10.00 USD: reached!")
    assert await cents(bob) == 9000

    await other.press(CHOICE)
    await other.sees("#tips .fault", "You have 0.00 USD: 2.50 USD more are needed. Nothing was given.")
    await other.sees("#tips .fault a", "Go to your wallet")
    assert not [*await look(other, "tip-refused"), *await look(desk, "tip-desk")]
    await streamer.shoot("tips-studio")
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_a_large_tip_is_asked_about_first_and_a_lost_answer_costs_nothing_twice(theatre: Theatre) -> None:
    ann = await theatre.person("large-ann")
    menu = [{"label": "A whole concert", "amount": {"asset": "USD", "units": "6000"}}]
    await ann.ask("PUT", "/me/tip_menu", {"items": menu})
    bob = await rich(theatre, "large-bob", "200")
    giver = await theatre.visitor("chromium", bob)
    await giver.page.open(f"{giver.url}/u/large-ann")
    await giver.press(CHOICE)
    await giver.sees("dialog[open]", "For “A whole concert”.")
    await giver.sees("dialog[open]", "this site keeps 6.00 USD")
    assert await cents(bob) == 20000
    assert not await look(giver, "tip-dialog")
    # Its answers are lost: the server has done it, and the page does not know.
    await giver.page.run(
        "const wait = window.setTimeout; window.setTimeout = (run, ms) => wait(run, Math.min(ms, 50));"
        "const real = window.fetch; window.lost = 0; window.fetch = async (address, how) => {"
        "  const answer = await real(address, how);"
        "  if (String(address).endsWith('/tips') && window.lost++ < 5) throw new TypeError('lost');"
        "  return answer; };"
    )
    await giver.press(GIVE)
    await giver.sees("dialog[open] .fault", "Press again: it is given only once")
    await giver.press(GIVE)
    await giver.sees("#tips", "You gave 60.00 USD to large-ann")
    assert await giver.page.run("return window.lost") == 6
    assert await cents(bob) == 14000


async def test_a_door_that_a_tip_opens_leads_to_that_tip(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "toll-ann", source="test", mode="private")
    owner, bob = await theatre.person("toll-ann"), await rich(theatre, "toll-bob", "20")
    rules = {"watch": {"type": "single_tip", "at_least": {"asset": "USD", "units": "300"}}}
    headers = {"Authorization": f"Bearer {owner.token}", "If-Match": '"0"'}
    answer = await theatre.http.put(f"/api/v1/streams/{stream}/rules", json=rules, headers=headers)
    assert answer.status_code == 200, answer.text
    viewer = await theatre.visitor("chromium", bob)
    await viewer.watch(stream)
    await viewer.press("#door [data-act=tip]")
    await viewer.sees(GIVE, "Give 3.00 USD")
    await viewer.press(GIVE)
    await viewer.sees_moving_picture()
    await viewer.sees_no("#door")
    assert await cents(bob) == 1700
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_a_tip_link_charges_nobody_before_a_yes_and_counts_who_came(theatre: Theatre) -> None:
    ann, bob = await theatre.person("link-ann"), await rich(theatre, "link-bob", "20")
    maker = await theatre.visitor("chromium", ann)
    await maker.page.open(f"{maker.url}/u/link-ann")
    await maker.fill("#link-form [name=amount]", "5")
    await maker.fill("#link-form [name=note]", "For the band")
    await maker.press("#link-form [type=submit]")
    await maker.sees("#links", "5.00 USD: For the band")
    link = str(await maker.page.run("return document.querySelector('#links input').value"))
    assert link.startswith(f"{maker.url}/t/")
    await maker.press("#links [aria-label^='QR code']")
    await maker.sees("dialog[open] img")
    drawn = "const image = document.querySelector('dialog img'); await image.decode(); return image.naturalWidth;"
    assert int(await maker.page.run(drawn)) > 100
    await maker.shoot("tip-qr")
    await maker.press("dialog[open] .yes")

    stranger = await theatre.stranger("chromium")
    await stranger.page.open(link)
    await stranger.sees("#title", "link-ann is glad about tips")
    await stranger.press("#lead a:nth-child(2)")
    await stranger.sees("#submit", "Create account")
    await stranger.fill("[name=name]", "link-guest")
    await stranger.fill("[name=password]", "a long enough password")
    await stranger.press("#submit")
    await stranger.sees("#note", "For the band")  # back at the link
    giver = await theatre.visitor("chromium", bob)
    await giver.page.open(link)
    await giver.sees("#note", "For the band")
    await giver.sees(CHOICE, "5.00 USD")
    wrong = await look(giver, "tip-link")
    await giver.press(CHOICE)
    await giver.sees(GIVE, "Give 5.00 USD")
    assert await cents(bob) == 2000
    await giver.press(GIVE)
    await giver.sees("#tips", "You gave 5.00 USD to link-ann")
    assert await cents(bob) == 1500

    await maker.page.reload()
    await maker.sees("#links", "opened by 2 people · 1 tip: 5.00 USD")
    await maker.press("#links [aria-label^='Take back']")
    await maker.press("dialog[open] .yes")
    await maker.sees_no("#links li")
    await stranger.page.reload()
    await stranger.sees("#title", "This link leads nowhere")
    assert not wrong


async def test_a_wallet_shows_its_history_page_by_page_and_tips_go_by_keyboard(theatre: Theatre) -> None:
    ann, bob = await theatre.person("pages-ann"), await rich(theatre, "pages-bob", "100")
    keyed = {"Authorization": f"Bearer {bob.token}"}
    for number in range(22):
        body = {"to": "pages-ann", "amount": {"asset": "USD", "units": "100"}}
        answer = await theatre.http.post("/api/v1/tips", json=body, headers={**keyed, "Idempotency-Key": f"t {number}"})
        assert answer.status_code == 201
    giver = await theatre.visitor("chromium", bob)
    await giver.page.open(f"{giver.url}/u/pages-ann")
    await giver.sees(f"{CHOICE}:nth-child(2)", "3.00 USD")
    await giver.page.front()
    await tab_to(giver, "3.00 USD")
    await giver.page.press("Enter")
    await giver.sees("#tips", "You gave 3.00 USD to pages-ann")
    assert await focus(giver) == "3.00 USD"

    await giver.page.open(f"{giver.url}/wallet")
    await giver.sees("#balances", "75.00 USD")
    await giver.sees("#no-provider", "mesi ledger deposit pages-bob USD 20.00")
    await giver.sees("#entries", "Tip to pages-ann")
    assert await giver.page.run("return document.querySelectorAll('#entries li').length") == 20
    await giver.press("#earlier")
    await giver.sees("#entries", "Paid in")
    await giver.sees_no("#earlier")
    assert await giver.page.run("return document.querySelectorAll('#entries li').length") == 24
    await giver.shoot("wallet")
    receiver = await theatre.visitor("chromium", ann)
    await receiver.page.open(f"{receiver.url}/wallet")
    await receiver.sees("#balances", "0.00 MESI of it can be paid out now")
    await receiver.shoot("wallet-received")


async def test_money_comes_in_and_goes_out_through_a_provider(tmp_path: Path, chromium: Browser) -> None:
    server = Server(tmp_path)

    async def hear(headers: dict[str, str], body: bytes) -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            typed = {**headers, "Content-Type": "application/json"}
            return await http.post("/api/v1/webhooks/payments/pay", content=body, headers=typed)

    async with provider_service(hear) as (service, _):
        settings = f'[[payment_providers]]\nname = "pay"\nurl = "{service.url}"\nsecret = "{SECRET}"\n'
        (tmp_path / "config.toml").write_text(settings)
        with running(server):
            async with open_theatre(server, chromium) as theatre:
                await pay_in_and_out(theatre, service)


async def pay_in_and_out(theatre: Theatre, service: Any) -> None:
    bob = await theatre.person("bob")
    payer = await theatre.visitor("chromium", bob)
    await payer.page.open(f"{payer.url}/wallet")
    await payer.fill("#deposit-form [name=amount]", "1.234")
    await payer.press("#deposit-form [type=submit]")
    await payer.sees("#deposit-form .fault", "USD has 2 decimals at most")
    service.broken = True
    await payer.fill("#deposit-form [name=amount]", "20")
    await payer.press("#deposit-form [type=submit]")
    await payer.sees("#deposit-form .fault", "The payment provider does not answer now, so nothing was done")
    service.broken = False
    await payer.press("#deposit-form [type=submit]")
    await payer.sees("body", "Pay here")
    (asked,) = service.requests.values()
    assert (asked["account"], asked["amount"]) == (bob.id, {"asset": "USD", "units": "2000"})
    settled = {"type": "deposit.settled", "transaction": "t", "account": bob.id, "amount": asked["amount"]}
    assert (await service.say(settled)).status_code == 200

    await payer.page.open(f"{payer.url}/wallet")
    await payer.sees("#balances", "20.00 USD")
    await payer.fill("#withdraw-form [name=amount]", "25")
    await payer.press("#withdraw-form [type=submit]")
    await payer.press("dialog[open] .yes")
    await payer.sees("dialog[open] .fault", "There is not so much in your wallet")
    await payer.press("dialog[open] .no")
    await payer.fill("#withdraw-form [name=amount]", "15")
    wrong = await look(payer, "wallet-provider")
    await payer.press("#withdraw-form [type=submit]")
    await payer.press("dialog[open] .yes")
    await payer.sees("#withdrawn", "15.00 USD are on their way")
    await payer.sees("#balances", "15.00 USD held")
    assert await cents(bob) == 500
    assert not wrong


async def test_a_profile_shows_who_is_live_and_nothing_to_whom_its_owner_blocked(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "page-ann", source="test")
    ann, bob = await theatre.person("page-ann"), await theatre.person("page-bob")
    await ann.ask("PUT", "/subscribers/page-bob", {"tier": 2})
    visitor = await theatre.visitor("chromium", bob)
    await visitor.watch(stream)
    await visitor.sees("#streamer", "page-ann")
    await visitor.press("#streamer")
    await visitor.sees("#on-air", "page-ann's evening")
    await visitor.sees("#subscription", "You are subscribed, tier 2.")
    await visitor.press("#follow")
    await visitor.sees("#follow", "Following")
    assert not await look(visitor, "profile")
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")
    await visitor.sees("#off-air", "Not live now")

    await ann.ask("PUT", "/blocks/page-bob")
    told = []
    for name in ("page-ann", "page-nobody"):
        await visitor.page.open(f"{visitor.url}/u/{name}")
        await visitor.sees("#shut", f"Nobody is called {name} here")
        told.append((await visitor.reads("body")).replace(name, "NAME"))
    assert told[0] == told[1]
    link = await ann.ask("POST", "/tip_links", {"note": "For friends"})
    await visitor.page.open(f"{visitor.url}/t/{link['code']}")
    await visitor.sees("#title", "This link leads nowhere")
    for rest in ("#tips", "#note"):
        await visitor.sees_no(rest)

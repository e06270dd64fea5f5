"""Money on the page: tickets sold while the stream runs, tips, and who has neither put out and led back in."""

from __future__ import annotations

from tests.browser.test_looks import look
from tests.browser.test_stories import on_air, watching
from tests.browser.visitors import Theatre, comes_true


async def test_tickets_are_sold_and_let_in_and_a_late_buyer_comes_back_for_more(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "sale-ann", source="test")
    await theatre.fill_wallet("sale-bob", "USD", "20")
    await theatre.fill_wallet("sale-eve", "USD", "8")
    early = await watching(theatre, "firefox", "sale-bob", stream)
    late = await watching(theatre, "chromium", "sale-eve", stream)

    await streamer.fill("#sale-form [name=quantity]", "2")
    await streamer.fill("#sale-form [name=price]", "5,00")
    await streamer.fill("#sale-form [name=late_price]", "7.50")
    await streamer.press("#sale-open")
    await streamer.sees("#sale-now", "5.00 USD each. 2 seats of 2 left.")
    await early.sees("#tickets", "2 seats left")
    await early.press("#tickets-buy")
    await early.sees("dialog[open]", "You have 20.00 USD")
    await early.shoot("buy")
    await early.press("dialog[open] .yes")
    await early.sees("#tickets", "You have a ticket")
    await late.sees("#tickets", "1 seat left")
    await streamer.sees("#sale-facts", "1 ticket sold")

    before = await early.received()
    await streamer.press("#modes [value=paid]")
    await streamer.sees("#mode-what", "1 viewer would have to leave: sale-eve")
    await streamer.press("#mode-confirm")
    await late.sees("#slate", "For ticket holders")
    await late.sees("#tickets", "7.50 USD each. 1 seat left.")
    await late.shoot("late")
    await late.press("#door [data-act=buy]")
    await late.sees("dialog[open]", "7.50 USD from your wallet")
    await late.press("dialog[open] .yes")
    await late.sees("#tickets", "You have a ticket")
    await late.sees_moving_picture()
    assert (await early.received())["framesDecoded"] > before["framesDecoded"]
    await streamer.sees("#sale-now", "0 seats of 2 left")
    await streamer.sees("#sale-money", "12.50 USD in all; after the fee of 1.25 USD, 11.25 USD will be yours")
    await streamer.shoot("sale")

    await theatre.fill_wallet("sale-joe", "USD", "10")
    third = await theatre.visitor("firefox", await theatre.person("sale-joe"))
    await third.watch(stream)
    await third.press("#tickets-wait")
    await third.sees("#tickets", "You are number 1 in line")
    await third.press("#tickets-leave")
    await third.sees("#tickets", "All tickets are sold.")
    await third.sees("#tickets", "nothing is charged until you say so")
    await third.press("#tickets-wait")
    await third.sees("#tickets", "You are number 1 in line")
    await streamer.press(".sale summary")
    await streamer.press("[aria-label='Pay back: sale-bob']")
    await streamer.press("dialog[open] .yes")
    await early.sees("#notices", "paid back into your wallet")
    await early.sees("#slate", "Your ticket was taken back")
    await third.sees("#tickets", "A seat is kept for you for")
    await third.shoot("offered")
    await third.press("#tickets-buy")
    await third.press("dialog[open] .yes")
    await third.sees("#tickets", "You have a ticket")
    await third.sees_moving_picture()
    await streamer.sees("#sale-facts", "2 tickets sold, 1 paid back")

    await streamer.press("#sale-cancel")
    await streamer.press("dialog[open] .yes")
    await third.sees("#slate", "Your ticket was taken back")
    await late.sees("#slate", "Your ticket was taken back")
    for name, units in (("sale-bob", "2000"), ("sale-eve", "800"), ("sale-joe", "1000")):
        person = await theatre.person(name)
        balances = (await person.ask("GET", "/me/wallet"))["balances"]
        assert [each["available"] for each in balances if each["asset"] == "USD"] == [units]
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_a_switch_that_is_announced_is_counted_down_can_be_called_off_and_comes(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "count-ann", source="test")
    owner = await theatre.person("count-ann")
    await theatre.fill_wallet("count-bob", "USD", "20")
    bob = await watching(theatre, "firefox", "count-bob", stream)
    eve = await watching(theatre, "chromium", "count-eve", stream)
    await owner.ask("POST", f"/streams/{stream}/sales", {"quantity": 1, "price": {"asset": "USD", "units": "500"}})

    await streamer.press("#modes [value=paid]")
    await streamer.fill("#mode-when", "300")
    await streamer.sees("#mode-confirm", "Switch in 5 minutes")
    assert not await look(streamer, "countdown-choice")
    await streamer.press("#mode-confirm")
    await streamer.sees("#mode-pending", "“Ticket-only” in")
    for viewer in (bob, eve):
        await viewer.sees("#coming", "Without a ticket you will be out then")
        assert 270 < await viewer.seconds_left("#coming-time") <= 300
    await bob.press("#coming-buy")
    await bob.press("dialog[open] .yes")
    await bob.sees("#coming", "You have a ticket: you simply go on watching")
    await eve.sees("#coming", "None are sold just now")
    assert not await look(eve, "countdown")
    await eve.page.reload()
    await eve.sees("#coming", "Only for ticket holders, in")
    assert 0 < await eve.seconds_left("#coming-time") <= 300
    await streamer.press("#mode-call-off")
    await eve.sees("#notices", "The switch was called off. Open to everyone with an account, as before.")
    for page, place in ((bob, "#coming"), (eve, "#coming"), (streamer, "#mode-pending")):
        await page.sees_no(place)

    prepared = await owner.ask("POST", f"/streams/{stream}/mode/prepare", {"mode": "paid"})
    body = {"confirm_token": prepared["confirm_token"], "after_s": 4}
    await owner.ask("POST", f"/streams/{stream}/mode/confirm", body)  # as from another device
    await streamer.sees("#mode-pending", "“Ticket-only” in")
    await eve.sees("#coming", "Only for ticket holders, in")
    await eve.sees_moving_picture()
    await eve.sees("#slate", "For ticket holders")
    await eve.sees_no("#coming")
    await streamer.sees("#mode-now", "Only for ticket holders")
    await streamer.sees_no("#mode-pending")
    await bob.sees_moving_picture()
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")
    await streamer.sees("#over", "The sale was cancelled. Everybody is paid back.")
    buyer = await theatre.person("count-bob")

    async def is_paid_back() -> bool:
        balances = (await buyer.ask("GET", "/me/wallet"))["balances"]
        return [each["available"] for each in balances if each["asset"] == "USD"] == ["2000"]

    assert await comes_true(is_paid_back)


async def test_a_tip_is_given_once_shown_in_the_chat_and_opens_the_door_that_asks_for_it(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "tip-ann", source="test", mode="private")
    owner = await theatre.person("tip-ann")
    rules = {"watch": {"type": "tips_total", "at_least": {"asset": "USD", "units": "700"}}}
    headers = {"Authorization": f"Bearer {owner.token}", "If-Match": '"0"'}
    answer = await theatre.http.put(f"/api/v1/streams/{stream}/rules", json=rules, headers=headers)
    assert answer.is_success, answer.text
    await theatre.fill_wallet("tip-bob", "USD", "20")
    viewer = await theatre.visitor("firefox", await theatre.person("tip-bob"))
    await viewer.watch(stream)
    await viewer.sees("#door", "Tip 7.00 USD more to watch")
    await viewer.press("#tip")
    await viewer.sees("dialog[open]", "You have 20.00 USD")
    await viewer.fill("dialog[open] [name=amount]", "2,50")
    await viewer.fill("dialog[open] [name=message]", "for the band")
    await viewer.press("dialog[open] [name=anonymous]")
    await viewer.shoot("tip")
    await viewer.page.run("const yes = document.querySelector('dialog[open] .yes'); yes.click(); yes.click();")
    await streamer.sees("#chat-list", "tip-bob tipped 2.50 USD: for the band")
    await streamer.sees("#chat-list", "not shown to others")
    await viewer.sees("#door", "Tip 4.50 USD more to watch")
    await viewer.press("#door [data-act=tip]")
    await viewer.press("dialog[open] .yes")
    await viewer.sees_moving_picture()
    await viewer.sees("#chat-list", "You tipped 4.50 USD")
    await streamer.shoot("tips")
    balances = (await (await theatre.person("tip-bob")).ask("GET", "/me/wallet"))["balances"]
    assert [each["available"] for each in balances if each["asset"] == "USD"] == ["1300"]
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")
    await viewer.page.open(f"{viewer.url}/wallet")
    await viewer.sees("#balances", "13.00 USD")
    await viewer.sees("#entries", "Tip to tip-ann")
    await viewer.sees("#entries", "−2.50 USD")
    await viewer.sees("#entries", "+20.00 USD")
    await viewer.shoot("wallet")
    await viewer.sees("#no-provider", "Ask whoever runs it to fill your wallet")

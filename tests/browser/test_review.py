"""A block in the middle of what was paid for, from the button to the appeal, and a report by who is blocked."""

from __future__ import annotations

import trio

from tests.browser.test_looks import look
from tests.browser.test_money_story import ACCEPT, Books
from tests.browser.test_stories import on_air, watching
from tests.browser.visitors import PHONE, Theatre, Visitor, comes_true

WAITING = "#queue li:last-child button"


async def reviewer(theatre: Theatre, books: Books, name: str) -> Visitor:
    person = await theatre.person(name)
    await books.operator.ask("PUT", f"/admin/moderators/{name}")
    visitor = await theatre.visitor("chromium", person)
    await visitor.page.open(f"{visitor.url}/review")
    await visitor.sees("#queue-heading", "What waits")
    return visitor


async def decide(
    visitor: Visitor, refund: str, words: str, *, finding: str = "upheld", takedown: str = "", days: str = ""
) -> None:
    await visitor.press("#take")
    await visitor.fill("[name=finding]", finding)
    await visitor.fill("[name=refund]", refund)
    if takedown:
        await visitor.sees("#takedown-text", takedown)
        await visitor.press("#takedown")
    if days:
        await visitor.fill("[name=sanction]", "suspension")
        await visitor.fill("[name=days]", days)
    await visitor.fill("[name=to_reporter]", words)
    await visitor.fill("[name=to_respondent]", words)
    await visitor.press("#decide-form [type=submit]")
    await visitor.press("dialog[open] .yes")
    await visitor.sees("#notices", "Decided.")


async def test_who_is_blocked_in_a_paid_one_to_one_gets_a_case_a_decision_and_an_appeal(theatre: Theatre) -> None:
    books, wrong = Books(theatre), list[str]()
    streamer, stream = await on_air(theatre, "chromium", "case-ann", source="test")
    ann, bob = await theatre.person("case-ann"), await theatre.person("case-bob")
    choices = [{"seconds": 300, "price": {"asset": "USD", "units": "30000"}}]
    await ann.ask("PUT", f"/streams/{stream}/one_to_one/offer", {"choices": choices})
    await books.deposit("case-bob", "400.00")
    guest = await watching(theatre, "firefox", "case-bob", stream)
    mia, max_ = [await reviewer(theatre, books, name) for name in ("case-mia", "case-max")]
    await guest.press("#tip")
    await guest.fill("[name=amount]", "5")
    await guest.press("dialog[open] .yes")
    await streamer.sees("#chat-list", "case-bob tipped")

    await guest.press("#ask")
    await guest.sees_moving_picture("#ask-preview")
    await guest.press("#ask-send")
    await streamer.press(ACCEPT)
    await guest.press("#turn-come")
    await guest.sees("#call-bar", "It ends at")
    await trio.sleep(2)
    await streamer.press("[aria-label='Block case-bob']")
    await streamer.press("dialog[open] .yes")
    await guest.sees("#notices", "A case of yours is being looked at")
    assert (await books.has("case-ann"))[0] == 0, "what was delivered waits"

    await guest.page.open(f"{guest.url}/cases")
    await guest.sees("#cases", "A one-to-one that was cut short")
    await guest.sees("#cases", "frozen until it is decided")
    assert "block" not in (await guest.reads("#cases")).lower()
    wrong += await look(guest, "cases")
    await mia.press(WAITING)
    await mia.sees("#evidence-parts", "reported blocked reporter")
    await mia.sees("#case-facts", "open")
    await mia.press("#take")
    await mia.sees("#decide-form")
    wrong += await look(mia, "review")
    await mia.press("#release")
    await decide(mia, "25", "A quarter goes back")
    await guest.sees("#cases", "A quarter goes back")
    await streamer.sees("#notices", "A case of yours is decided")

    await guest.press("#cases .appeal")
    await guest.fill("dialog[open] [name=words]", "I was cut off")
    await guest.press("dialog[open] .yes")
    await guest.sees("#cases", "You appealed")
    await max_.press("[name=state][value=appealed]")
    await max_.press(WAITING)
    await max_.sees("#case-course", "I was cut off")
    await decide(max_, "100", "All of it goes back")
    await guest.sees("#cases", "Decided for good")
    await guest.sees("#cases", "given back")
    await guest.shoot("cases-closed", (PHONE,))

    async def all_is_back() -> bool:
        available, held = await books.has("case-bob")
        return (available + 500, held) == (40_000, 0)

    assert await comes_true(all_is_back, 5)
    await guest.fill("#report-form [name=name]", "case-ann")
    await guest.press("#report-form [type=submit]")
    await guest.fill("dialog[open] [name=reason]", "unfair_block")
    await guest.sees("dialog[open]", "can come back to you")
    await guest.fill("dialog[open] [name=words]", "She blocked me after I paid")
    await guest.press("dialog[open] .yes")
    await guest.sees("#cases", "Report of an unfair block by case-ann")
    await guest.sees("#cases", "Tip: 5.00 USD")
    await mia.sees("#queue", "Report of an unfair block by case-ann")
    await books.are_right()
    await bob.ask("GET", "/mod/role", status=404)
    await guest.page.open(f"{guest.url}/review")
    await guest.sees("#shut", "There is nothing here")
    await mia.press(WAITING)
    await decide(mia, "0", "Not like this", takedown="Take goals and tip menu off the profile", days="1")
    await streamer.sees("#connection", "Your account is suspended")
    await streamer.press("#connection a")
    await streamer.sees("#cases", "The block was unfair. It was taken down. The account is suspended for 24 hours.")
    await streamer.sees("#cases", "Not like this")
    await streamer.press("#cases .appeal")
    await streamer.fill("dialog[open] [name=words]", "It was a mistake")
    await streamer.press("dialog[open] .yes")
    await max_.press("[name=state][value=appealed]")
    await max_.press(WAITING)
    await max_.sees("#case-course", "It was a mistake")
    await decide(max_, "0", "It may stand", finding="not_upheld")
    await streamer.sees("#cases .returned", "What was taken down is back.")
    wrong += await look(streamer, "cases-back")
    assert not wrong, "\n".join(wrong)


NO = {"finding": "not_upheld", "to_reporter": "No", "to_respondent": "No"}


async def shows_more_than(visitor: Visitor, selector: str, count: int) -> bool:
    script = "return document.querySelectorAll(values[0]).length > values[1]"
    return await comes_true(lambda: visitor.page.run(script, selector, count))


async def test_older_cases_are_a_click_away(theatre: Theatre) -> None:
    books = Books(theatre)
    mia = await theatre.person("more-mia")
    await books.operator.ask("PUT", "/admin/moderators/more-mia")

    async def report(name: str, number: int) -> str:
        about = {"kind": "account", "name": f"somebody-{number}"}
        person = await theatre.person(name)
        return str((await person.ask("POST", "/reports", {"about": about, "reason": "spam"}))["id"])

    for reporter in range(5):
        for number in range(10):
            await report(f"more-{reporter}", number)
    mine: list[str] = []
    for number in range(21):
        if number >= 10:
            case = f"/mod/cases/{mine[number - 10]}"
            await mia.ask("POST", f"{case}/take")
            await mia.ask("POST", f"{case}/decide", NO)
        mine.append(await report("more-bob", number))

    desk = await theatre.visitor("chromium", mia)
    await desk.page.open(f"{desk.url}/review")
    await desk.press("#more-cases")
    assert await shows_more_than(desk, "#queue > li", 50)
    bob = await theatre.visitor("firefox", await theatre.person("more-bob"))
    await bob.page.open(f"{bob.url}/cases")
    await bob.press("#more")
    assert await shows_more_than(bob, "#cases > li", 20)
    await bob.sees("#cases > li:last-child", "Decided")
    await bob.sees_no("#more")

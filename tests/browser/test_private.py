"""Private streams on the page: the door says what would help, and it is done from there."""

from __future__ import annotations

from tests.browser.test_stories import on_air
from tests.browser.visitors import Theatre


async def test_a_closed_door_says_what_would_help_and_following_opens_it(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "door-ann", source="test", mode="private")
    viewer = await theatre.visitor("firefox", await theatre.person("door-bob"))
    await viewer.watch(stream)
    await viewer.sees("#slate", "A private stream")
    await viewer.sees("#door", "One of these is enough")
    await viewer.sees("#door", "Follow door-ann to watch")
    await viewer.sees("#door", "Subscribe to door-ann")
    await viewer.shoot("door")
    await viewer.press("#door [data-act=follow]")
    await viewer.sees_moving_picture()
    await viewer.sees_no("#door")

    await streamer.sees("#rules-now", "is subscribed to you, follows you or has an invitation")
    await streamer.press("#rules summary")
    await streamer.fill("[name=follows_days]", "7")
    await streamer.sees("#rules-words", "follows you, for 7 days at least")
    await streamer.shoot("rules")
    await streamer.press("#rules-save")
    await viewer.sees("#door", "You follow door-ann. That lets you in after 7 days")
    await viewer.sees("#slate", "A private stream")
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_the_best_picture_is_for_the_streamer_s_people_and_a_viewer_is_told_how_to_get_it(
    theatre: Theatre,
) -> None:
    streamer, stream = await on_air(theatre, "chromium", "best-ann", source="test", best_picture="entitled")
    await streamer.sees("#best-now", "it is for whoever may watch when it is private")
    viewer = await theatre.visitor("firefox", await theatre.person("best-bob"))
    await viewer.watch(stream)
    await viewer.sees_moving_picture()
    await viewer.sees("#door", "keeps the best picture for some people")
    await viewer.sees("#door", "Follow best-ann for the best picture")
    await viewer.shoot("best-picture")
    await viewer.press("#door [data-act=follow]")
    await viewer.sees("#notices", "You have the best picture now")
    await viewer.sees_no("#door")
    await (await theatre.person("best-bob")).ask("DELETE", "/follows/best-ann")
    await viewer.sees("#door", "keeps the best picture for some people")
    await streamer.press("#best [value=everyone]")
    await streamer.sees("#best-now", "Whoever watches has it")
    await streamer.shoot("best-picture-choice")
    await viewer.sees_no("#door")
    await viewer.sees("#notices", "The best picture is for everyone now")
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_an_invitation_link_leads_a_stranger_through_the_log_in_to_the_stream(theatre: Theatre) -> None:
    streamer, _ = await on_air(theatre, "chromium", "invite-ann", source="test", mode="private")
    await streamer.press("#doors summary")
    await streamer.press("#invite-form [name=approval]")
    await streamer.press("#invite-make")
    await streamer.sees("#invite-new")
    link = str(await streamer.page.run("return document.querySelector('#invite-link').value"))
    assert link.startswith(f"{streamer.url}/invite#")
    await streamer.sees("#invites", "0 of 1 use")
    await streamer.shoot("invitations")

    stranger = await theatre.stranger("firefox")
    await stranger.page.open(link)
    await stranger.sees("#title", "You are invited")
    await stranger.press("#lead a")
    await stranger.sees("#account-form")
    assert link.partition("#")[2] not in await stranger.page.run("return location.href")  # no server's log has it
    await stranger.page.run("document.querySelector('[name=way][value=sign_up]').click()")  # its label is what is seen
    await stranger.fill("[name=name]", "invite-bob")
    await stranger.fill("[name=password]", "long enough for anybody")
    await stranger.press("#submit")
    await stranger.sees("#title", "The streamer was asked")
    await stranger.press("#lead a")
    await stranger.sees("#slate", "A private stream")
    await streamer.sees("#notices", "invite-bob has an invitation and waits for your yes")
    await streamer.press("#waiting-list .strong")
    await stranger.sees_moving_picture()
    await streamer.sees_no("#waiting")
    await stranger.page.open(f"{stranger.url}/invite#nonsense")
    await stranger.sees("#title", "This invitation does not work")
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_facts_are_told_only_with_a_yes_and_before_the_deadline(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "facts-ann", source="test")
    viewer = await theatre.visitor("firefox", await theatre.person("facts-bob"))
    await viewer.watch(stream)
    await viewer.sees_moving_picture()
    await streamer.press("[aria-label='Ask for facts: facts-bob']")
    await streamer.press("dialog[open] [value=account_since]")
    await streamer.fill("dialog[open] [name=purpose]", "A draw among old friends")
    await streamer.press("dialog[open] .yes")
    await viewer.sees("dialog[open]", "facts-ann asks about you")
    await viewer.sees("dialog[open]", "since when you have this account")
    await viewer.sees("dialog[open]", "A draw among old friends")
    assert 90 < await viewer.seconds_left("dialog[open] .count") <= 120
    await viewer.shoot("consent")
    await viewer.press("dialog[open] .yes")
    await viewer.sees("#notices", "facts-ann may look at it now")
    await streamer.press("#facts summary")
    await streamer.sees("#facts-list", "facts-bob agreed")
    await streamer.press("#facts-list button")
    await streamer.sees("dialog[open]", "Has the account since")
    await streamer.press("dialog[open] .yes")

    await streamer.press("[aria-label='Ask for facts: facts-bob']")
    await streamer.press("dialog[open] [value=region]")
    await streamer.fill("dialog[open] [name=purpose]", "Curiosity")
    await streamer.press("dialog[open] .yes")
    await viewer.sees("dialog[open]", "the region where you live")
    await viewer.press("dialog[open] .no")
    await streamer.sees("#facts-list", "facts-bob not agreed")
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")

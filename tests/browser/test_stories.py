"""What people live through on the page: tickets, a one-to-one, time limits, lost connections, a restarted server."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.browser.browsers import Browser
from tests.browser.servers import Server, running
from tests.browser.visitors import Theatre, Visitor, comes_true, open_theatre


async def on_air(theatre: Theatre, browser: str, name: str, **how: str) -> tuple[Visitor, str]:
    streamer = await theatre.visitor(browser, await theatre.person(name))
    return streamer, await streamer.go_live(f"{name}'s evening", **how)


async def watching(theatre: Theatre, browser: str, name: str, stream: str) -> Visitor:
    viewer = await theatre.visitor(browser, await theatre.person(name))
    await viewer.watch(stream)
    await viewer.sees_moving_picture()
    return viewer


async def test_ticket_only_leaves_a_holder_alone_and_tells_the_other_what_would_help(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "tickets-ann")
    holder = await watching(theatre, "firefox", "tickets-bob", stream)
    other = await watching(theatre, "chromium", "tickets-eve", stream)
    owner = await theatre.person("tickets-ann")
    await owner.ask("PUT", f"/streams/{stream}/tickets/tickets-bob")
    before = await holder.received()

    await streamer.press("#modes [value=paid]")
    await streamer.sees("#mode-what", "1 viewer would have to leave: tickets-eve")
    await streamer.sees("#mode-what", "1 viewer would stay: tickets-bob")
    await streamer.shoot("mode-switch")
    await streamer.press("#mode-confirm")
    await streamer.sees("#mode-now", "Only for ticket holders")
    await other.sees("#slate", "For ticket holders")
    await other.sees("#slate", "When you have a ticket, it goes on here by itself")
    await other.shoot("ticket-required")
    await other.page.reload()
    await other.sees("#slate", "For ticket holders")
    assert (await other.received())["framesDecoded"] == 0

    await holder.sees_moving_picture()
    assert (await holder.received())["framesDecoded"] > before["framesDecoded"]
    assert await holder.page.run("return window.connections.length") == 1  # it never had to connect anew
    assert not await holder.page.run("return document.querySelector('#slate').checkVisibility()")

    await owner.ask("PUT", f"/streams/{stream}/tickets/tickets-eve")
    await other.sees_no("#slate")
    await other.sees_moving_picture()
    await other.hears()
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_a_one_to_one_from_the_request_to_the_return(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "firefox", "private-ann")
    guest = await watching(theatre, "chromium", "private-bob", stream)
    third = await watching(theatre, "firefox", "private-eve", stream)

    await guest.press("#ask")
    await guest.sees_moving_picture("#ask-preview")
    await guest.fill("#ask-form [name=minutes]", "5")
    await guest.shoot("one-to-one-ask")
    await guest.press("#ask-send")
    await guest.sees("#asked", "You asked for a one-to-one")
    await streamer.sees("#requests", "private-bob asks for 5 minutes")
    await streamer.shoot("one-to-one-request")
    await streamer.press("#requests .accept")
    await guest.press("#turn-come")

    await guest.sees("#call-bar", "only the two of you see and hear this")
    await streamer.sees("#call-bar", "only the two of you see and hear this")
    for side, remote in ((guest, "#video"), (streamer, "#remote")):
        await side.sees_moving_picture(remote)
        await side.hears()
        assert 270 < await side.seconds_left("#call-time") <= 300

    for mute, loud in ((guest, streamer), (streamer, guest)):
        await mute.press("#call-microphone")
        await mute.sees("#call-speaking", "The other one is speaking")
        await loud.sees("#call-speaking", "You are heard")
        await mute.press("#call-microphone")

    await third.sees("#slate", "In a one-to-one")
    left = await third.seconds_left("#slate-time")
    assert abs(left - await guest.seconds_left("#call-time")) <= 2
    silent = await third.received()
    await third.shoot("one-to-one-others")
    await streamer.shoot("one-to-one-streamer")
    await guest.shoot("one-to-one-guest")
    assert (await third.received())["framesDecoded"] == silent["framesDecoded"]

    await third.page.reload()  # who comes in the middle of it is told the same
    await third.sees("#slate", "In a one-to-one")
    assert 0 < await third.seconds_left("#slate-time") <= left

    await guest.press("#call-more")
    await guest.sees("dialog[open] .yes", "Ask")
    await guest.press("dialog[open] .yes")
    await guest.sees("#more", "You asked for 5 minutes more")
    await guest.page.reload()
    await guest.sees("#more", "You asked for 5 minutes more")
    await guest.press("#call-join")
    await guest.sees_moving_picture()
    await guest.press("#more-back")
    await guest.sees_no("#more")

    await guest.press("#call-end")
    await guest.sees_no("#call-bar")
    await streamer.sees("#notices", "The guest ended it")
    for viewer in (third, guest):
        await viewer.sees_no("#slate")
        await viewer.sees_moving_picture()
        await viewer.hears()
    assert await guest.page.run("return document.querySelector('#self').srcObject") is None  # its camera is off
    await streamer.press("#end-stream")
    await streamer.press("#end-confirm")


async def test_a_time_limit_is_counted_down_by_the_servers_clock(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "limit-ann", source="test")
    viewer = await watching(theatre, "firefox", "limit-bob", stream)
    owner = await theatre.person("limit-ann")
    # This device's clock is wrong by an hour; what is shown is right all the same.
    await viewer.page.run("const now = Date.now; Date.now = () => now() + 3_600_000;")
    await streamer.fill("#limit-minutes", "10")
    await streamer.press("#limit-set")
    await streamer.sees("#limit-running", "9:5")
    await viewer.sees("#notices", "The stream ends at")
    assert 580 < await viewer.seconds_left("#time-left-count") <= 600
    await owner.ask("PUT", f"/streams/{stream}/time_limit", {"seconds": 61})
    await viewer.sees("#notices", "The stream ends in")  # the warning, a minute before
    await streamer.sees("#notices", "Your stream ends in")
    await viewer.shoot("time-limit-warning", ((360, 740),))

    async def ends_soon() -> bool:
        return await viewer.seconds_left("#time-left-count") <= 8

    assert await comes_true(ends_soon, 70)
    await viewer.sees("#notices", "The stream ends in")  # the warning, ten seconds before
    await viewer.sees("#slate", "Its time was up")
    await viewer.sees("#slate-action", "See who is live")
    await viewer.sees_no("#ask")  # nothing is offered that can't be had any more
    await viewer.sees_no("#time-left")
    await streamer.sees("#over", "Its time was up")
    await viewer.shoot("stream-over")
    await streamer.shoot("studio-over")


async def test_a_streamer_who_reloads_is_missed_and_comes_back(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "reload-ann")
    viewer = await watching(theatre, "firefox", "reload-bob", stream)
    await streamer.page.reload()
    await viewer.sees("#slate", "The streamer's connection is lost")
    assert await viewer.seconds_left("#slate-time") > 0
    await viewer.shoot("interrupted")
    await streamer.sees("#running", "reload-ann's evening")
    await streamer.shoot("still-on")
    await streamer.press("#go")
    await streamer.sees("#sending", "On air")
    await viewer.sees_no("#slate")
    await viewer.sees_moving_picture()
    await viewer.hears()


async def test_a_second_device_takes_over_and_the_first_can_take_it_back(theatre: Theatre) -> None:
    desk, stream = await on_air(theatre, "chromium", "devices-ann")
    viewer = await watching(theatre, "chromium", "devices-bob", stream)
    phone = await theatre.visitor("firefox", await theatre.person("devices-ann"))
    await phone.page.open(f"{phone.url}/live")
    await phone.sees("#running", "devices-ann's evening")
    await phone.press("#go")
    await phone.sees("#sending", "On air")
    await desk.sees("#sending", "Published from another device")
    await viewer.sees_moving_picture()
    await desk.press("#take-over")
    await desk.sees("#sending", "On air")
    await phone.sees("#sending", "Published from another device")
    await viewer.sees_moving_picture()


async def test_who_logs_out_sees_no_more(theatre: Theatre) -> None:
    _, stream = await on_air(theatre, "chromium", "leaving-ann")
    viewer = await watching(theatre, "firefox", "leaving-bob", stream)
    await viewer.press("#who button:last-child")
    await viewer.sees("#welcome", "Create an account")
    await viewer.watch(stream)
    await viewer.sees("#slate", "Log in, then the stream is here")
    assert set((await viewer.received()).values()) == {0}


async def test_what_is_said_is_read_on_both_sides_and_never_run(theatre: Theatre) -> None:
    streamer, stream = await on_air(theatre, "chromium", "chat-ann", source="test")
    viewer = await watching(theatre, "firefox", "chat-bob", stream)
    await viewer.fill("#chat-input", "<img src=x onerror=alert(1)> hello")
    await viewer.press("#chat-send")
    await streamer.sees("#chat-list", "<img src=x onerror=alert(1)> hello")
    await streamer.fill("#chat-input", "welcome")
    await streamer.press("#chat-send")
    await viewer.sees("#chat-list", "welcome")
    await viewer.page.reload()
    await viewer.sees("#chat-list", "welcome")  # who comes later reads what was said
    await streamer.press("#described summary")
    await streamer.fill("#described-form [name=title]", "Questions & <b>answers</b>")
    await streamer.fill("#described-form [name=description]", "Ask what you like")
    await streamer.press("#described-save")
    await viewer.sees("#title", "Questions & <b>answers</b>")
    await viewer.sees("#description", "Ask what you like")
    await streamer.sees("#studio-title", "Questions & <b>answers</b>")


async def test_pages_outlive_a_restart_of_the_server(tmp_path: Path, chromium: Browser, firefox: Browser) -> None:
    server = Server(tmp_path)
    with running(server):
        async with open_theatre(server, chromium, firefox) as theatre:
            streamer, stream = await on_air(theatre, "firefox", "restart-ann")
            viewer = await watching(theatre, "chromium", "restart-bob", stream)
            server.stop()
            await viewer.sees("#connection", "Connection lost")
            await viewer.shoot("connection-lost")
            await trio.to_thread.run_sync(server.start)
            await viewer.sees_no("#connection")
            await streamer.sees("#sending", "On air")
            await viewer.sees_no("#slate")
            await viewer.sees_moving_picture()
            await viewer.hears()

"""Calls between browsers of two kinds: ringing everywhere, answering once, pictures by consent, declining, a group."""

from __future__ import annotations

from tests.browser.test_looks import focus, look, tab_to
from tests.browser.test_messages import LIST, ROWS, TALK, messenger, write_to
from tests.browser.visitors import Theatre, Visitor

RING = ".ringing"


# What the server answers who calls comes late: after the call is over.
HOLD_THE_ANSWER = """
  const {fetch} = window;
  window.fetch = async (address, how) => {
    const answer = await fetch(address, how);
    if (how.method === 'POST' && address.endsWith('/calls'))
      await new Promise(go => window.letGo = go);
    return answer;
  };
"""
CAMERA_IS_ON = "return document.querySelector('.tile.own.pictured') !== null"


def tile(name: str) -> str:
    return f'.tile[data-account="{name}"]'


async def sees_in_call(visitor: Visitor, name: str) -> None:
    await visitor.sees(f"{tile(name)}.pictured video")
    await visitor.sees_moving_picture(f"{tile(name)} video")


async def test_a_call_its_upgrade_a_decline_and_a_group(theatre: Theatre) -> None:
    ann, bob = await messenger(theatre, "call-ann"), await messenger(theatre, "call-bob", "firefox")
    elsewhere = await theatre.visitor("chromium", await theatre.person("call-bob"))
    await elsewhere.page.open(f"{elsewhere.url}/")
    await elsewhere.sees("#who", "call-bob")
    await write_to(ann, "call-bob")
    await ann.press("#talk-call")
    await ann.sees("#call-title", "Call: call-bob")
    for window in (bob, elsewhere):
        await window.sees(RING, "call-ann is calling")
    wrong = await look(elsewhere, "call-ringing")
    await bob.page.front()
    assert await focus(bob) == "Answer"
    await bob.page.press("Enter")
    await elsewhere.sees_no(RING)
    await bob.sees("#call-title", "Call: call-ann")
    await ann.hears()
    await bob.hears()
    assert not await ann.page.run("return document.querySelector('.tile.pictured') !== null")
    await ann.press("#call-camera")
    await bob.sees("#call-asked-text", "call-ann would like a video call")
    wrong += await look(bob, "call-asked")
    await bob.press("#call-agree")
    await sees_in_call(bob, "call-ann")
    await sees_in_call(ann, "call-bob")
    wrong += await look(ann, "call-video")
    await ann.page.front()
    await tab_to(ann, "call-end")
    await ann.page.press("Enter")
    await bob.sees_no("#call")
    await bob.sees(f"{LIST} li", "Video call: ")
    await bob.page.run(HOLD_THE_ANSWER)
    await bob.press("#talk-video")
    await ann.sees(RING, "call-bob is calling")
    await ann.press(f"{RING} .decline")
    await bob.sees("#notices", "declined")
    await bob.sees(ROWS, "Video call: declined")
    await bob.page.run("window.letGo()")
    await bob.sees("#talk-video:not([aria-disabled])")
    assert not await bob.page.run("return document.querySelector('#call').checkVisibility()")

    eve = await messenger(theatre, "call-eve")
    await ann.press("#new-group")
    await ann.fill("dialog[open] [name=title]", "Trio")
    await ann.fill("dialog[open] [name=names]", "call-bob, call-eve")
    await ann.press("dialog[open] .yes")
    await ann.sees(TALK, "Trio")
    for who in (bob, eve):
        await who.sees(f"{LIST} li", "You are invited")
        await who.press(f"{LIST} li button")
        await who.press("#come-in")
        await who.sees("#talk-facts", "members")
    await ann.press("#talk-video")
    await bob.press(f"{RING} .answer-video")
    await eve.press(f"{RING} .answer-video")
    for who, others in (
        (ann, ("call-bob", "call-eve")),
        (bob, ("call-ann", "call-eve")),
        (eve, ("call-ann", "call-bob")),
    ):
        for other in others:
            await sees_in_call(who, other)
    wrong += await look(eve, "call-group")
    await eve.press("#call-end")
    await ann.sees_no(tile("call-eve"))
    await eve.sees(".message.call", "going on")
    await eve.press(".message.call .come-in")
    await ann.sees(tile("call-eve"))
    await sees_in_call(bob, "call-eve")

    await ann.press("#call-live")
    await bob.sees("#call-live-note", "Your camera and microphone are off")
    for who in (bob, eve):
        await sees_in_call(who, "call-ann")
        assert not await who.page.run(CAMERA_IS_ON)
    await ann.sees(".message.live", "Live now, for the group")
    wrong += await look(bob, "call-live")
    stranger = await messenger(theatre, "call-joe")
    await stranger.page.open(f"{stranger.url}/")
    await stranger.sees("#who", "call-joe")
    assert "call-ann is live" not in await stranger.reads("body")
    await ann.press("#call-live-end")
    await sees_in_call(ann, "call-bob")
    await sees_in_call(bob, "call-ann")
    await ann.sees(".message.live", "Was live for")

    await ann.press("#call-live-with")
    await ann.press(f"dialog[open] [name=named][value='{(await theatre.person('call-bob')).id}']")
    await ann.press("dialog[open] .yes")
    await bob.sees("#call-host-text", "call-ann asks you to be live, too")
    await bob.press("#call-host-yes")
    for name in ("call-ann", "call-bob"):
        await sees_in_call(eve, name)
    await eve.press(".message.live a")
    await eve.sees("#title", "call-ann is live")
    await eve.sees_moving_picture()
    await sees_in_call(eve, "call-bob")
    wrong += await look(eve, "live-hosts")
    await eve.fill("#way-choice", "webtransport")
    await eve.sees(".way", "Plays over WebTransport")
    await eve.sees_moving_picture()
    await sees_in_call(eve, "call-bob")
    assert await eve.page.run("return window.connections.every(one => one.connectionState === 'closed')")
    await ann.press("#call-live-end")
    assert not wrong, "\n".join(wrong)

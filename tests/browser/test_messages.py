"""The messenger's page in two browsers: two people and a group, over a lost connection, a restart, and by keyboard."""

from __future__ import annotations

import base64
from pathlib import Path

import trio

from tests.browser.browsers import Browser
from tests.browser.servers import Server, running
from tests.browser.test_looks import focus, look, tab_to
from tests.browser.visitors import Theatre, Visitor, comes_true, open_theatre
from tests.files import samples

LIST, TALK, ROWS = "#talks", "#talk-title", "#message-list"


async def messenger(theatre: Theatre, name: str, browser: str = "chromium") -> Visitor:
    visitor = await theatre.visitor(browser, await theatre.person(name))
    await visitor.page.open(f"{visitor.url}/messages")
    await visitor.sees("#talks-heading", "Messages")
    return visitor


async def write_to(visitor: Visitor, name: str) -> None:
    await visitor.fill("#start-form [name=name]", name)
    await visitor.press("#start-form [type=submit]")
    await visitor.sees(TALK, name)


async def say(visitor: Visitor, text: str) -> None:
    await visitor.fill("#write-text", text)
    await visitor.press("#write-send")
    await visitor.sees(ROWS, text)


async def act(visitor: Visitor, text: str, what: str) -> None:
    """Choose something from the menu of the last message with a text."""
    script = """
      const row = [...document.querySelectorAll('.message')].filter(each => each.innerText.includes(values[0])).at(-1);
      row.querySelector('details').open = true;
      row.querySelector('.act-' + values[1]).click();
    """
    await visitor.page.run(script, text, what)


async def test_two_people_write_to_each_other(theatre: Theatre) -> None:
    ann, bob = await messenger(theatre, "talk-ann"), await messenger(theatre, "talk-bob", "firefox")
    await write_to(ann, "talk-bob")
    await say(ann, "Hello Bob")
    await ann.sees(".mine .status", "Delivered")
    await bob.sees(f"{LIST} li", "Hello Bob")
    await bob.sees(f"{LIST} .badge", "1")
    await bob.press(f"{LIST} li button")
    await bob.sees(ROWS, "Hello Bob")
    await ann.sees(".mine .status", "Read")
    await bob.sees_no(f"{LIST} .badge")
    await bob.fill("#write-text", "Hi")
    await ann.sees("#typing", "talk-bob is writing")
    await bob.press("#write-send")
    await ann.sees(ROWS, "Hi")
    await act(ann, "Hi", "react")
    await bob.sees(".reactions", "👍 1")
    await act(bob, "Hi", "edit")
    await bob.fill("#write-text", "Hi Ann")
    await bob.press("#write-send")
    await ann.sees(".message", "Hello Bob")
    await ann.sees(f"{ROWS} li:last-child", "Hi Ann")
    await ann.sees(f"{ROWS} li:last-child", "edited")
    await act(ann, "Hi Ann", "reply")
    await ann.sees("#write-about", "Reply to talk-bob")
    await say(ann, "How are you?")
    await bob.sees(".quoted", "Hi Ann")
    await act(ann, "How are you?", "erase")
    await bob.sees(f"{ROWS} li:last-child", "This message was taken back.")
    await act(bob, "Hello Bob", "hide")
    await bob.sees_no(f"{ROWS} li:nth-child(3)")
    await ann.sees(ROWS, "Hello Bob")
    assert "Hello Bob" not in await bob.reads(ROWS)
    wrong = await look(ann, "messages")
    await ann.page.open(f"{ann.url}/messages")
    await ann.sees(f"{LIST} li", "talk-bob")
    wrong += await look(ann, "messages-list")
    assert not wrong, "\n".join(wrong)
    await ann.fill("#find-form [name=text]", "hell")
    await ann.press("#find-form [type=submit]")
    await ann.press("#found li button")
    await ann.sees(".message.fresh", "Hello Bob")


async def test_a_group_is_begun_led_and_left(theatre: Theatre) -> None:
    ann, bob = await messenger(theatre, "group-ann"), await messenger(theatre, "group-bob", "firefox")
    await theatre.person("group-eve")
    await ann.press("#new-group")
    await ann.fill("dialog[open] [name=title]", "Choir")
    await ann.fill("dialog[open] [name=names]", "group-bob, group-nobody")
    await ann.press("dialog[open] .yes")
    await ann.sees("#notices", "group-nobody: ")
    await ann.sees(TALK, "Choir")
    await say(ann, "Before you came")
    await bob.sees(f"{LIST} li", "You are invited")
    await bob.press(f"{LIST} li button")
    await bob.sees("#invited", "You are invited to Choir")
    await bob.press("#come-in")
    await bob.sees("#talk-facts", "2 members")
    assert "Before" not in await bob.reads(ROWS)
    await say(ann, "Welcome @group-bob")
    await bob.sees(ROWS, "Welcome")
    await say(bob, "Thanks")
    await ann.sees(ROWS, "Thanks")
    await ann.page.run("document.querySelector('#talk-menu').open = true")
    await ann.press("#talk-actions button:nth-child(3)")
    await ann.sees("dialog[open]", "group-bob")
    await ann.press("dialog[open] [aria-label='Let lead: group-bob']")
    await ann.sees("dialog[open]", "Leads")
    await ann.fill("dialog[open] [name=name]", "group-eve")
    await ann.press("dialog[open] .row button")
    await ann.sees("dialog[open]", "Invited")
    wrong = await look(ann, "messages-members")
    await ann.press("dialog[open] .yes")
    await ann.press("#talk-menu summary")
    await ann.press("#talk-actions .danger")
    await ann.sees("#no-talk")
    await bob.sees("#talk-facts", "1 member")
    assert not wrong, "\n".join(wrong)


async def test_a_tip_is_given_in_a_conversation(theatre: Theatre) -> None:
    await theatre.fill_wallet("tips-bob", "USD", "20")
    ann, bob = await messenger(theatre, "tips-ann"), await messenger(theatre, "tips-bob", "firefox")
    await write_to(bob, "tips-ann")
    await bob.press("#talk-tip")
    await bob.fill("dialog[open] [name=amount]", "5")
    await bob.fill("dialog[open] [name=message]", "For the song")
    await bob.press("dialog[open] .yes")
    await bob.sees(".message.tip", "Tip for tips-ann: 5.00 USD")
    await ann.sees(f"{LIST} li", "Tip for tips-ann")
    await ann.press(f"{LIST} li button")
    await ann.sees(".message.tip", "For the song")
    await bob.press("#talk-menu summary")
    await bob.press("#talk-actions button:nth-child(4)")
    await bob.sees("dialog[open]", "all of it goes back")
    await bob.fill("dialog[open] [name=amount]", "4")
    await bob.fill("dialog[open] [name=words]", "About the song")
    wrong = await look(bob, "messages-bid")
    await bob.press("dialog[open] .yes")
    await ann.sees(".message.bid", "Paid chat with tips-ann for 4.00 USD: asked for")
    await ann.press(".bid-accept")
    await bob.sees(".message.bid", "accepted, until")
    await bob.press(".bid-confirm")
    await ann.sees(".message.bid", "Paid chat with tips-ann for 4.00 USD: paid")
    balances = (await (await theatre.person("tips-bob")).ask("GET", "/me/wallet"))["balances"]
    assert next(each["available"] for each in balances if each["asset"] == "USD") == "1100"
    assert not wrong, "\n".join(wrong)


async def test_who_is_blocked_notices_nothing_and_is_not_heard(theatre: Theatre) -> None:
    ann, bob = await messenger(theatre, "block-ann"), await messenger(theatre, "block-bob", "firefox")
    await write_to(bob, "block-ann")
    await say(bob, "Hello")
    await ann.sees(f"{LIST} li", "Hello")
    await ann.press(f"{LIST} li button")
    await bob.sees(".mine .status", "Read")
    await ann.press("#talk-menu summary")
    await ann.press("#talk-actions .danger")
    await ann.sees("dialog[open]", "They are not told.")
    await ann.press("dialog[open] .yes")
    await ann.sees("#blocked", "You blocked block-bob")
    await say(bob, "Are you there?")
    await bob.sees(".mine:last-child .status", "Sent")
    await bob.sees_no("#blocked")
    await ann.press("#unblock")
    await ann.sees_no("#blocked")
    await say(bob, "Now?")
    await ann.sees(ROWS, "Now?")
    assert "Are you there?" not in await ann.reads(ROWS)


async def test_by_keyboard_alone(theatre: Theatre) -> None:
    ann = await messenger(theatre, "keys2-ann")
    bob = await theatre.person("keys2-bob")
    await ann.page.front()
    await tab_to(ann, "name")
    await ann.page.press("keys2-bob", "Enter")
    await ann.sees(TALK, "keys2-bob")
    await tab_to(ann, "write-text")
    await ann.page.press("Typed with care", "Enter")
    await ann.sees(ROWS, "Typed with care")
    await ann.sees(".mine .status", "Sent")
    (talk,) = (await bob.ask("GET", "/conversations"))["conversations"]
    assert talk["last"]["text"] == "Typed with care"
    assert await focus(ann) == "write-text"


async def test_after_a_lost_connection_and_a_killed_server_all_is_there_once_without_a_reload(
    tmp_path: Path, chromium: Browser, firefox: Browser
) -> None:
    server = Server(tmp_path)
    with running(server):
        async with open_theatre(server, chromium, firefox) as theatre:
            ann, bob = await messenger(theatre, "ann"), await messenger(theatre, "bob", "firefox")
            await write_to(ann, "bob")
            await say(ann, "Before")
            await bob.press(f"{LIST} li button")
            await bob.sees(ROWS, "Before")
            await ann.page.run("window.unreloaded = true")
            await bob.page.run("window.unreloaded = true")
            await say(ann, "Just before")
            await trio.to_thread.run_sync(server.kill)
            await ann.sees("#connection", "Connection lost")
            await ann.fill("#write-text", "Meanwhile")
            await ann.press("#write-send")
            await ann.sees(".waiting", "Sending")
            await trio.to_thread.run_sync(server.start)
            await bob.sees(ROWS, "Meanwhile")
            await ann.sees(".mine .status", "Read")
            await ann.sees_no(".waiting")
            for who in (ann, bob):
                shown = await who.reads(ROWS)
                assert [shown.count(text) for text in ("Before", "Just before", "Meanwhile")] == [1, 1, 1]
                assert await who.page.run("return window.unreloaded === true")


CHOOSE = """
  const [where, name, type, content, size] = values;
  const given = new DataTransfer();
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  given.items.add(new File([bytes, new Uint8Array(size)], name, {type}));
  const how = {clipboardData: given, dataTransfer: given, bubbles: true, cancelable: true};
  if (where === 'paste') document.querySelector('#write-text').dispatchEvent(new ClipboardEvent('paste', how));
  else if (where === 'drop') document.querySelector('#talk').dispatchEvent(new DragEvent('drop', how));
  else {
    const chooser = document.querySelector('#attach-files');
    chooser.files = given.files;
    chooser.dispatchEvent(new Event('change'));
  }
"""
DRAWN = "return [...document.querySelectorAll('.attachments img')].every(each => each.complete && each.naturalWidth)"
PLAYED = """
  const video = document.querySelector('.attachments video');
  video.muted = true;
  video.currentTime = 0.5;
  await video.play();
  await new Promise((done, failed) => {
    video.ontimeupdate = done;
    video.onerror = () => failed(video.error.message);
  });
  return [video.videoWidth, video.videoHeight, video.seekable.end(0) > 0.9];
"""
# Sends the first piece of a file, and no other until the page is loaded anew.
HOLD = """
  const {send} = XMLHttpRequest.prototype;
  let sent = 0;
  XMLHttpRequest.prototype.send = function (body) { if (sent++ === 0) send.call(this, body); };
"""
SOME_SENT = "return document.querySelector('#outgoing progress').value > 2e7"
BIG = 200_000_000  # bytes, in several requests


async def choose(visitor: Visitor, where: str, name: str, type: str, content: bytes, size: int = 0) -> None:
    await visitor.page.run(CHOOSE, where, name, type, base64.b64encode(content).decode(), size)


async def test_a_picture_and_a_large_video_are_sent_over_a_lost_connection_and_a_reload(
    tmp_path: Path, chromium: Browser, firefox: Browser
) -> None:
    server = Server(tmp_path)
    with running(server):
        async with open_theatre(server, chromium, firefox) as theatre:
            ann, bob = await messenger(theatre, "ann"), await messenger(theatre, "bob", "firefox")
            await write_to(ann, "bob")
            await choose(ann, "paste", "harbour.jpg", "image/jpeg", samples.placed_picture())
            await choose(ann, "drop", "notes.txt", "text/plain", b"Some notes\n" * 100)
            await ann.sees("#outgoing", "harbour.jpg")
            await choose(ann, "chooser", "tool.exe", "application/x-msdownload", b"MZ\x00\x01" * 400)
            await ann.sees("#outgoing .failed", "not taken")
            await ann.press("#outgoing .failed button")
            await say(ann, "Look at this")
            await ann.sees(".mine .attachments a.file", "notes.txt")
            await bob.sees(f"{LIST} li", "2 files · Look at this")
            await bob.press(f"{LIST} li button")
            await bob.sees(ROWS, "Look at this")
            assert await comes_true(lambda: bob.page.run(DRAWN))
            await ann.sees_no("#outgoing")
            await ann.page.run(HOLD)
            await choose(ann, "chooser", "evening.mp4", "video/mp4", samples.video(size=(320, 240)), BIG)
            await ann.fill("#write-text", "And the film")
            await ann.press("#write-send")
            assert await comes_true(
                lambda: ann.page.run("return document.querySelector('#outgoing progress').value > 2e7")
            )
            wrong = await look(ann, "messages-sending")
            await trio.to_thread.run_sync(server.stop)
            await ann.sees("#connection", "Connection lost")
            await trio.to_thread.run_sync(server.start)
            await ann.sees_no("#connection")
            await ann.page.open(await ann.page.run("return location.href"))
            await ann.sees(".mine:last-child .text", "And the film")
            await bob.sees(f"{ROWS} li:last-child", "And the film")
            assert await bob.page.run(PLAYED) == [320, 240, True]
            assert (await bob.reads(ROWS)).count("And the film") == 1
            wrong += await look(bob, "messages-files")
            await choose(bob, "chooser", "reply.jpg", "image/jpeg", samples.placed_picture())
            await say(bob, "The same harbour")
            await ann.sees(f"{ROWS} li:last-child .text", "The same harbour")
            assert await comes_true(lambda: ann.page.run(DRAWN))
            await act(ann, "And the film", "erase")
            await bob.sees_no(".attachments video")
            assert not wrong, "\n".join(wrong)

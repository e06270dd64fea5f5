"""Notices on a real device: Firefox subscribes at a click, decrypts what the server pushes, and shows it."""

from __future__ import annotations

from pathlib import Path

from tests.browser.autopush import autopush
from tests.browser.browsers import start_firefox
from tests.browser.servers import Server, running
from tests.browser.visitors import comes_true, open_theatre

CONFIG = """[push]
contact = "mailto:admin@example.org"
private = true
"""
SHOWN = """
  const registration = await navigator.serviceWorker.getRegistration('/');
  const shown = await registration.getNotifications();
  return shown.map(({title, body, tag, data}) => [title, body, tag, data.url]);
"""


async def test_a_closed_page_is_told_by_a_notice_that_says_who_and_not_what(tmp_path: Path) -> None:
    server = Server(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG)
    async with autopush() as service:
        with running(server), start_firefox(service.preferences) as firefox:
            async with open_theatre(server, firefox) as theatre:
                person = await theatre.person("notice-bob")
                ann = await theatre.person("notice-ann")
                bob = await theatre.visitor("firefox", person)
                await bob.page.open(f"{bob.url}/messages")
                await bob.press("#notices-button")
                await bob.sees("dialog[open]", "This device is not told.")
                await bob.press("#turn-device")
                await bob.sees("dialog[open]", "This device is told.")
                await bob.press("dialog[open] [name=tip]")
                await bob.press("dialog[open] .yes")
                await bob.sees_no("dialog[open]")
                assert (await person.ask("GET", "/me/push"))["kinds"]["tip"] is False
                talk = (await ann.ask("PUT", "/conversations/direct/notice-bob"))["id"]
                path = f"/conversations/{talk}/messages"
                await ann.ask("POST", path, {"text": "While you look", "client_txn": "1"})
                await bob.sees("#talks li", "While you look")
                await bob.page.open(f"{bob.url}/icon.svg")

                async def is_away() -> bool:
                    return "mesi_signalling_sessions_lost 1.0" in (await theatre.http.get("/metrics")).text

                assert await comes_true(is_away)
                await ann.ask("POST", path, {"text": "Meet me at the harbour", "client_txn": "2"})

                async def is_shown() -> bool:
                    return bool(await bob.page.run(SHOWN))

                assert await comes_true(is_shown)
                assert await bob.page.run(SHOWN) == [
                    ["notice-ann", "New message", f"talk.{talk}", f"/messages?c={talk}"]
                ]
                assert service.acknowledged == [100]  # delivered, and shown
                assert len(service.bodies) == 1
                await bob.page.open(f"{bob.url}/")
                await bob.press("#who button:last-child")
                await bob.sees("#who", "Log in")
                assert (await person.ask("GET", "/me/push"))["devices"] == []

"""What a decision takes down is shown to nobody any more, both sides hear why, and an appeal brings it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.money.databases import running
from tests.money.test_one_to_one_node import on
from tests.review.test_review_node import NO, Court, convene, open_court
from tests.server.nodes import Person, open_site, open_socket

DOWN = {**NO, "finding": "upheld", "takedown": True, "to_reporter": "it is gone", "to_respondent": "not here"}


class Talk:
    """A conversation of Ann and Bob in which Ann has written."""

    def __init__(self, court: Court, id: str) -> None:
        self.court, self.id, self.path = court, id, f"/conversations/{id}/messages"

    @classmethod
    async def begin(cls, court: Court, *texts: str) -> Talk:
        talk = cls(court, (await court.bob.ask("PUT", "/conversations/direct/ann"))["id"])
        for number, text in enumerate(texts):
            await court.ann.ask("POST", talk.path, {"text": text, "client_txn": f"t{number}"})
        return talk

    async def report(self, seq: int) -> Any:
        about = {"kind": "message", "conversation": self.id, "seq": seq}
        return await self.court.bob.ask("POST", "/reports", {"about": about, "reason": "harassment"})

    async def reads(self, seq: int) -> dict[str, Any]:
        shown = (await self.court.bob.ask("GET", self.path))["messages"]
        return next(message for message in shown if message["seq"] == seq)

    async def finds(self, text: str) -> list[int]:
        return [each["seq"] for each in (await self.court.bob.ask("GET", f"/messages?text={text}"))["messages"]]


async def test_a_message_is_removed_by_a_decision_and_comes_back_by_an_appeal(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_court(tmp_path / "node", place) as court:
        talk = await Talk.begin(court, "good day", "nasty words @bob", "goodbye")
        await court.bob.ask("PUT", f"{talk.path}/2/pin")
        filed = await talk.report(2)
        async with open_socket(court.site, court.bob) as bobs:
            await court.decide(filed["id"], DOWN)
            assert (await bobs.wait_for("case"))["state"] == "decided"
        shown = await talk.reads(2)
        assert (shown["text"], shown["taken_down"], shown["mentions"], shown["pinned_at"]) == ("", True, [], None)
        assert await talk.finds("nasty") == []
        for method, path, body in (
            ("PUT", f"{talk.path}/2", {"text": "nasty again"}),
            ("DELETE", f"{talk.path}/2", None),
        ):
            assert (await court.ann.ask(method, path, body, status=410))["code"] == "message_erased"
        heard = [(await who.ask("GET", f"/cases/{filed['id']}"))["decisions"][0] for who in (court.bob, court.ann)]
        assert [(each["takedown"], each["words"]) for each in heard] == [(True, "it is gone"), (True, "not here")]
        await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "it was a joke"})
        await court.decide(filed["id"], NO, by=1)
        shown = await talk.reads(2)
        assert (shown["text"], shown["taken_down"], shown["erased_at"]) == ("nasty words @bob", False, None)
        assert shown["mentions"] == [court.bob.id]
        assert await talk.finds("nasty") == [2]


async def test_copies_go_with_what_was_reported_and_come_back_with_it(tmp_path: Path, place: Path | str) -> None:
    async with open_court(tmp_path / "node", place) as court:
        talk = await Talk.begin(court, "nice")
        eve = await court.site.person("eve")
        talks = [(await eve.ask("PUT", f"/conversations/direct/{name}"))["id"] for name in ("bob", "max")]

        async def forward(who: Person, source: str, seq: int, to: str) -> int:
            body = {"conversation": source, "seq": seq, "client_txn": f"t{len(await texts())}"}
            return int((await who.ask("POST", f"/conversations/{to}/forwards", body))["seq"])

        async def texts() -> list[str]:
            shown = [(await eve.ask("GET", f"/conversations/{id}/messages"))["messages"] for id in talks]
            return ["-" if each["taken_down"] else each["text"] for page in shown for each in page]

        await forward(court.bob, talk.id, 1, talks[0])
        await court.ann.ask("PUT", f"{talk.path}/1", {"text": "nasty"})
        copy = await forward(court.bob, talk.id, 1, talks[0])
        filed = await talk.report(1)
        await court.ann.ask("PUT", f"{talk.path}/1", {"text": "nice again"})
        await forward(eve, talks[0], copy, talks[1])
        assert await texts() == ["nice", "nasty", "nasty"]
        await court.decide(filed["id"], DOWN)
        assert await texts() == ["nice", "-", "-"]
        await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "no"})
        await court.decide(filed["id"], NO, by=1)
        assert await texts() == ["nice", "nasty", "nasty"]
        assert (await court.ann.ask("GET", f"/cases/{filed['id']}"))["returned"] == "content"


async def test_what_two_cases_took_down_comes_back_when_neither_stands(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        talk = await Talk.begin(court, "nasty")
        first = await talk.report(1)
        await court.decide(first["id"], DOWN)
        second = await talk.report(1)
        assert second["id"] != first["id"]
        await court.decide(second["id"], DOWN)
        for filed, text in ((first, ""), (second, "nasty")):
            await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "no"})
            await court.decide(filed["id"], NO, by=1)
            assert (await talk.reads(1))["text"] == text


async def test_what_its_sender_took_back_before_does_not_come_back(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        talk = await Talk.begin(court, "nasty")
        filed = await talk.report(1)
        await court.ann.ask("DELETE", f"{talk.path}/1")
        await court.decide(filed["id"], DOWN)
        await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "no"})
        await court.decide(filed["id"], NO, by=1)
        shown = await talk.reads(1)
        assert (shown["text"], shown["taken_down"], shown["erased_at"] is None) == ("", False, False)


async def test_a_stream_that_is_taken_down_ends_for_everybody_also_when_its_owner_is_suspended(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_court(tmp_path / "node", place) as court:
        stream = await court.site.stream(court.ann)
        about = {"kind": "stream", "stream": stream}
        filed = await court.bob.ask("POST", "/reports", {"about": about, "reason": "violence"})
        async with open_socket(court.site, court.bob) as bobs:
            assert (await bobs.ask("join", stream=stream))["type"] == "ok"
            await court.decide(filed["id"], {**DOWN, "sanction": "suspension", "suspend_s": 60})
            assert (await bobs.wait_for("stream.ended"))["reason"] == "taken_down"
        assert (await court.bob.ask("GET", "/streams"))["streams"] == []
        assert "mesi_streams_taken_down_total 1.0" in (await court.site.http.get("/metrics")).text


async def test_a_stream_is_open_again_when_an_appeal_is_right_also_after_a_restart(
    tmp_path: Path, place: Path | str
) -> None:
    config = on(tmp_path, place)
    async with open_site(tmp_path / "node", config) as site:
        court = await convene(site)
        stream = await site.stream(court.ann)
        await court.ann.ask("PATCH", f"/streams/{stream}", {"title": "Another title"})
        about = {"kind": "stream", "stream": stream}
        filed = await court.bob.ask("POST", "/reports", {"about": about, "reason": "violence"})
        await court.decide(filed["id"], DOWN)
        gone = await court.ann.ask("GET", f"/streams/{stream}", status=410)
        assert gone["code"] == "stream_ended"
        await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "it was a play"})
        await court.decide(filed["id"], NO, by=1)
        card = (await court.ann.ask("GET", f"/streams/{stream}"))["card"]
        assert (card["title"], card["state"]) == ("Another title", "waiting")
        assert (await court.ann.ask("GET", f"/cases/{filed['id']}"))["returned"] == "stream"
        told = (await court.ann.ask("GET", f"/events?after=0&limit=200&subject={stream}"))["events"]
        assert told[-1]["type"] == "stream.reopened"
        assert "mesi_streams_reopened_total 1.0" in (await site.http.get("/metrics")).text
    async with open_site(tmp_path / "node", config) as site:
        ann = await site.person("ann")
        assert (await ann.ask("GET", f"/streams/{stream}"))["card"]["title"] == "Another title"
        await ann.ask("POST", f"/streams/{stream}/end")
        assert (await ann.ask("GET", f"/cases/{filed['id']}"))["returned"] == "stream_over"


async def test_a_stream_stays_over_whose_owner_has_another_one_by_then_and_one_that_ended_otherwise(
    tmp_path: Path,
) -> None:
    async with open_court(tmp_path) as court:
        for ends_itself in (False, True):
            stream = await court.site.stream(court.ann)
            about = {"kind": "stream", "stream": stream}
            filed = await court.bob.ask("POST", "/reports", {"about": about, "reason": "violence"})
            if ends_itself:
                await court.ann.ask("POST", f"/streams/{stream}/end")
            await court.decide(filed["id"], DOWN)
            other = None if ends_itself else await court.site.stream(court.ann)
            await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "no"})
            await court.decide(filed["id"], NO, by=1)
            assert (await court.ann.ask("GET", f"/streams/{stream}", status=410))["code"] == "stream_ended"
            assert (await court.ann.ask("GET", f"/cases/{filed['id']}"))["returned"] == "stream_over"
            if other is not None:
                await court.ann.ask("POST", f"/streams/{other}/end")


async def test_a_stream_that_was_taken_down_as_the_node_died_does_not_come_back(tmp_path: Path) -> None:
    async with open_site(tmp_path, on(tmp_path, "")) as site:
        court = await convene(site)
        stream = await court.site.stream(court.ann)
        filed = await court.bob.ask(
            "POST", "/reports", {"about": {"kind": "stream", "stream": stream}, "reason": "spam"}
        )
        await court.decide(filed["id"], DOWN)
    async with running(tmp_path / "mesi.sqlite") as store:

        def forget_the_end(connection: sa.Connection) -> None:
            connection.exec_driver_sql("UPDATE streams SET ended = NULL")

        await store.write(forget_the_end)
    async with open_site(tmp_path, on(tmp_path, "")) as site:
        bob = await site.person("bob")
        assert (await bob.ask("GET", "/streams"))["streams"] == []


async def test_of_a_profile_go_its_goals_and_menu_until_an_appeal_is_right(tmp_path: Path, place: Path | str) -> None:
    async with open_court(tmp_path / "node", place) as court:
        amount = {"asset": "USD", "units": "500"}
        goal = await court.ann.ask("POST", "/goals", {"title": "something nasty", "amount": amount})
        menu = await court.ann.ask("PUT", "/me/tip_menu", {"items": [{"label": "nasty, too", "amount": amount}]})

        async def shown() -> tuple[list[str], list[str]]:
            found = await court.bob.ask("GET", "/accounts/ann/goals")
            items = await court.bob.ask("GET", "/accounts/ann/tip_menu")
            return [each["id"] for each in found["goals"]], [each["id"] for each in items["items"]]

        whole = [goal["id"]], [menu["items"][0]["id"]]
        assert await shown() == whole
        filed = await court.report(court.bob, "ann")
        await court.decide(filed["id"], DOWN)
        assert await shown() == ([], [])
        await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "no"})
        await court.decide(filed["id"], NO, by=1)
        assert await shown() == whole


async def test_of_what_is_not_there_nothing_is_taken_down(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        filed = await court.report(court.bob, "nobody")
        await court.mods[0].ask("POST", f"/mod/cases/{filed['id']}/take")
        refused = await court.mods[0].ask("POST", f"/mod/cases/{filed['id']}/decide", DOWN, status=422)
        assert refused["code"] == "invalid_outcome"

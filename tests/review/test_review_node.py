"""Reports and cases on a whole node: who is told what, who sees what, and what a decision does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import sqlalchemy as sa
import trio
from sqlalchemy.exc import DBAPIError
from trio_websocket import ConnectionClosed

from server.review.filing import MAX_OPEN
from server.review.sanctions import STRIKES
from tests.money.databases import running
from tests.money.test_one_to_one_node import PRICE, books_are_right, on, open_salon
from tests.money.test_ticket_node import eventually
from tests.server.nodes import Person, Site, open_site, open_socket

NO: dict[str, Any] = {"finding": "not_upheld", "to_reporter": "nothing was wrong", "to_respondent": "nothing was wrong"}
FALSE = {**NO, "finding": "false_report", "strike": True}


class Court:
    """A site with Ann, Bob and two reviewers."""

    def __init__(self, site: Site, ann: Person, bob: Person, mods: list[Person]) -> None:
        self.site, self.ann, self.bob, self.mods = site, ann, bob, mods

    async def report(self, who: Person, name: str, reason: str = "harassment", status: int = 201) -> Any:
        body = {"about": {"kind": "account", "name": name}, "reason": reason, "words": "look"}
        return await who.ask("POST", "/reports", body, status=status)

    async def decide(self, case: str, outcome: dict[str, Any], by: int = 0) -> Any:
        await self.mods[by].ask("POST", f"/mod/cases/{case}/take")
        return await self.mods[by].ask("POST", f"/mod/cases/{case}/decide", outcome)


async def convene(site: Site) -> Court:
    ann, bob, *mods = [await site.person(name) for name in ("ann", "bob", "mia", "max")]
    root = Person("admin", "admin", await site.running.auth.admin_token(), site.http)
    for mod in mods:
        await root.ask("PUT", f"/admin/moderators/{mod.name}")
    assert [each["name"] for each in (await root.ask("GET", "/admin/moderators"))["moderators"]] == ["max", "mia"]
    return Court(site, ann, bob, mods)


@asynccontextmanager
async def open_court(folder: Path, place: Path | str = "") -> AsyncIterator[Court]:
    async with open_site(folder, on(folder, place)) as site:
        yield await convene(site)


async def test_what_a_block_cuts_short_is_frozen_decided_and_appealed_and_both_sides_are_told(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_salon(tmp_path / "node", place) as (salon, anns, bobs):
        court = await convene(salon.site)
        await salon.ask(salon.bob, {"seconds": 300, "max_price": PRICE})
        async with open_socket(salon.site, court.mods[0]) as mias, salon.call(anns, bobs):
            await trio.sleep(3)
            await salon.ann.ask("PUT", "/blocks/bob")
            told, settled = await bobs.wait_for("one_to_one.settled"), await bobs.wait_for("case")
            assert (told["reason"], settled["kind"]) == ("guest_ejected", "cut_short")
            assert (await anns.wait_for("case"))["case"] == (await mias.wait_for("review.waiting"))["case"]
        frozen = int(told["captured"])
        assert 0 < frozen < 600, "a minute costs 600"
        assert await salon.has(salon.bob) == (10_000 - frozen, 0)
        assert (await salon.has(salon.ann))[0] == 0
        await books_are_right(salon.site)
        case = settled["case"]
        seen = await salon.bob.ask("GET", f"/cases/{case}")
        assert (seen["role"], seen["state"], seen["stakes"][0]["frozen"]) == ("reporter", "open", True)
        assert "block" not in str(seen)
        assert (await salon.ann.ask("GET", f"/cases/{case}"))["role"] == "respondent"
        await court.decide(case, NO)
        assert (await bobs.wait_for("case"))["state"] == "decided"
        paid = (await salon.has(salon.ann))[0]
        assert paid > 0
        appealed = await salon.bob.ask("POST", f"/cases/{case}/appeal", {"words": "I was put out"})
        assert (appealed["state"], appealed["can_appeal"], appealed["appealed"]) == ("appealed", False, True)
        refused = await court.mods[0].ask("POST", f"/mod/cases/{case}/take", status=409)
        assert refused["code"] == "other_reviewer"
        words = {"to_reporter": "you are right", "to_respondent": "you cut it"}
        back = {"finding": "upheld", "refund_bps": 10_000, **words}
        closed = await court.decide(case, back, by=1)
        assert (closed["state"], [each["by"] for each in closed["decisions"]]) == ("closed", ["mia", "max"])
        assert (await salon.has(salon.bob))[0] == 10_000
        assert (await salon.has(salon.ann))[0] == 0
        heard = [(await who.ask("GET", f"/cases/{case}"))["decisions"][1]["words"] for who in (salon.bob, salon.ann)]
        assert heard == list(words.values())
        again = await court.mods[1].ask("POST", f"/mod/cases/{case}/decide", back, status=409)
        assert again["code"] == "case_conflict"


async def test_a_report_holds_what_the_server_knows_and_nobody_can_change_that_or_look_unseen(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        talk = await court.bob.ask("PUT", "/conversations/direct/ann")
        path = f"/conversations/{talk['id']}/messages"
        for number in range(3):
            await court.ann.ask("POST", path, {"text": f"nasty {number}", "client_txn": f"t{number}"})
        body = {"about": {"kind": "message", "conversation": talk["id"], "seq": 2}, "reason": "harassment"}
        filed = await court.bob.ask("POST", "/reports", body)
        await court.ann.ask("DELETE", f"{path}/2")
        eve = await court.site.person("eve")
        assert (await eve.ask("POST", "/reports", body, status=404))["code"] == "conversation_unknown"
        wrong = {**body, "about": {**body["about"], "seq": 99}}
        assert (await court.bob.ask("POST", "/reports", wrong, status=404))["code"] == "message_unknown"
        docket = await court.mods[0].ask("GET", f"/mod/cases/{filed['id']}")
        evidence = docket["evidence"]
        known = msgspec.json.decode(evidence["body"])
        assert [message["text"] for message in known["reported_messages"]] == ["nasty 0", "nasty 1", "nasty 2"]
        assert (docket["reporter"], docket["respondent"], evidence["intact"]) == ("bob", "ann", True)
        await court.mods[1].ask("GET", f"/mod/cases/{filed['id']}")
        await court.mods[1].ask("PUT", f"/mod/cases/{filed['id']}/hold")
        log = (await court.mods[0].ask("GET", f"/mod/cases/{filed['id']}/log"))["entries"]
        assert [(line["name"], line["did"]) for line in log] == [("mia", "looked"), ("max", "looked"), ("max", "held")]
        assert (await court.mods[1].ask("DELETE", f"/mod/cases/{filed['id']}/hold"))["legal_hold"] is False
    async with running(tmp_path / "mesi.sqlite") as store:
        for statement in ("UPDATE case_evidence SET body = ''", "DELETE FROM case_evidence", "DELETE FROM case_log"):

            def tamper(connection: sa.Connection, statement: str = statement) -> None:
                connection.exec_driver_sql(statement)

            with pytest.raises(DBAPIError, match="what is written there stays"):
                await store.write(tamper)


async def test_for_everybody_but_reviewers_there_is_nothing_at_their_addresses(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        filed = await court.report(court.bob, "ann")
        for method, path, body in (
            ("GET", "/mod/role", None),
            ("GET", "/mod/cases", None),
            ("GET", f"/mod/cases/{filed['id']}", None),
            ("POST", f"/mod/cases/{filed['id']}/take", None),
            ("POST", f"/mod/cases/{filed['id']}/decide", NO),
        ):
            shown = [await who.ask(method, path, body, status=404) for who in (court.bob, court.ann)]
            assert [each["code"] for each in shown] == ["not_found", "not_found"], path
        assert (await court.ann.ask("GET", f"/cases/{filed['id']}", status=404))["code"] == "case_unknown"
        assert (await court.ann.ask("GET", "/cases"))["cases"] == []
        await court.decide(filed["id"], NO)
        assert (await court.ann.ask("GET", "/cases"))["cases"] == [], "of what came to nothing, nobody is accused"
        assert (await court.bob.ask("GET", "/cases"))["cases"][0]["decisions"][0]["words"] == "nothing was wrong"
        mine = await court.report(court.bob, "mia")
        assert (await court.mods[0].ask("POST", f"/mod/cases/{mine['id']}/take", status=403))["code"] == "own_case"
        root = Person("admin", "admin", await court.site.running.auth.admin_token(), court.site.http)
        await court.mods[1].ask("POST", f"/mod/cases/{mine['id']}/take")
        await root.ask("DELETE", "/admin/moderators/max")
        await court.mods[1].ask("GET", "/mod/role", status=404)
        (waiting,) = (await root.ask("GET", "/mod/cases?state=open"))["cases"]
        assert (waiting["id"], waiting["reviewer"]) == (mine["id"], None)


async def test_who_is_blocked_reports_and_learns_nothing_by_it(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        await court.ann.ask("PUT", "/blocks/bob")
        stream = await court.site.stream(court.ann)
        answers = []
        for about in (
            {"kind": "account", "name": "ann"},
            {"kind": "account", "name": "nob"},
            {"kind": "stream", "stream": stream},
            {"kind": "stream", "stream": stream[:-4] + "0000"},
        ):
            body = {"about": about, "reason": "unfair_block", "words": "why?"}
            headers = {"Authorization": f"Bearer {court.bob.token}"}
            answer = await court.site.http.post("/api/v1/reports", json=body, headers=headers)
            answers.append(plain(answer, *about.values()))
        assert answers[0] == answers[1]
        assert answers[2] == answers[3]
        assert answers[0][0] == 201
        queue = (await court.mods[0].ask("GET", "/mod/cases"))["cases"]
        assert [each["respondent"] for each in queue] == ["ann", None, "ann", None]
        for case in queue:
            await court.decide(case["id"], NO)
        mine = (await court.bob.ask("GET", "/cases"))["cases"]
        assert {str(each["decisions"]).replace(str(each["decisions"][0]["at"]), "") for each in mine} == {
            str(mine[0]["decisions"]).replace(str(mine[0]["decisions"][0]["at"]), "")
        }


def plain(answer: httpx2.Response, *names: str) -> tuple[int, list[str], dict[str, Any]]:
    """Return an answer without what differs from one report to the next."""
    body = answer.json()
    for name in ("id", "number", "opened_at"):
        del body[name]
    assert body["about"].pop("id") in names
    assert body["about"].pop("label") in names
    return answer.status_code, sorted(answer.headers), body


async def test_one_report_about_the_same_waits_and_no_more_than_some_in_all(tmp_path: Path, place: Path | str) -> None:
    async with open_court(tmp_path / "node", place) as court:
        first = await court.report(court.bob, "ann")
        assert (await court.report(court.bob, "Ann"))["id"] == first["id"]
        assert (await court.report(court.bob, "ann", "unfair_block"))["id"] != first["id"]
        assert (await court.report(court.bob, "bob", status=422))["code"] == "self_report"
        for number in range(MAX_OPEN - 2):
            await court.report(court.bob, f"nobody{number}")
        assert (await court.report(court.bob, "one more", status=429))["code"] == "too_many_reports"
        assert (await court.report(court.bob, "ann"))["id"] == first["id"]
        page = await court.bob.ask("GET", "/cases?limit=3")
        rest = await court.bob.ask("GET", f"/cases?before={page['before']}&limit=200")
        assert (len(page["cases"]), len(rest["cases"])) == (3, MAX_OPEN - 3)
        waiting = await court.mods[0].ask("GET", "/mod/cases?state=open&limit=4")
        others = await court.mods[0].ask("GET", f"/mod/cases?state=open&limit=200&after={waiting['after']}")
        assert (len(waiting["cases"]), len(others["cases"]), others["after"]) == (4, MAX_OPEN - 4, None)
        assert not {each["id"] for each in waiting["cases"]} & {each["id"] for each in others["cases"]}
        assert "mesi_reports_filed_total 10.0" in (await court.site.http.get("/metrics")).text


async def test_a_suspension_cuts_at_once_ends_by_itself_and_can_be_contested_meanwhile(
    tmp_path: Path, place: Path | str
) -> None:
    async with open_court(tmp_path / "node", place) as court:
        first, second = [await court.report(court.bob, "ann", reason) for reason in ("spam", "unfair_block")]
        out = {**NO, "finding": "upheld", "sanction": "suspension"}
        async with open_socket(court.site, court.ann) as anns:
            await court.decide(first["id"], {**out, "suspend_s": 86_400})
            with pytest.raises(ConnectionClosed):
                await anns.wait_for("anything")
        assert (await court.ann.ask("GET", "/me", status=403))["code"] == "suspended"
        (case,) = (await court.ann.ask("GET", "/cases"))["cases"]
        assert (case["role"], case["words"], case["decisions"][0]["sanction"]) == ("respondent", "", "suspension")
        await court.decide(second["id"], {**out, "suspend_s": 1})
        await court.ann.ask("POST", f"/cases/{first['id']}/appeal", {"words": "it was not me"})
        await court.decide(first["id"], NO, by=1)

        async def is_back() -> bool:
            headers = {"Authorization": f"Bearer {court.ann.token}"}
            return (await court.site.http.get("/api/v1/me", headers=headers)).status_code == 200

        await eventually(is_back)


async def test_an_operator_s_own_suspension_is_not_ended_by_a_decision_s_end(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        root = Person("admin", "admin", await court.site.running.auth.admin_token(), court.site.http)
        out = {**NO, "finding": "upheld", "sanction": "suspension"}
        filed = await court.report(court.bob, "ann")
        await court.decide(filed["id"], {**out, "suspend_s": 86_400})
        await root.ask("PUT", "/admin/accounts/ann", {"suspended": True})
        await court.ann.ask("POST", f"/cases/{filed['id']}/appeal", {"words": "it was not me"})
        await court.decide(filed["id"], NO, by=1)
        assert (await court.ann.ask("GET", "/me", status=403))["code"] == "suspended"


async def test_who_reported_falsely_too_often_reports_no_more_for_a_while(tmp_path: Path) -> None:
    async with open_court(tmp_path) as court:
        for number in range(STRIKES):
            filed = await court.report(court.bob, f"nobody{number}")
            decided = await court.decide(filed["id"], FALSE)
            assert decided["decisions"][0]["outcome"]["strike"]
            assert (decided["reports"], decided["strikes"]) == (number + 1, number + 1)
        refused = await court.report(court.bob, "ann", status=403)
        assert refused["code"] == "reports_paused"
        assert refused["until"] > 0
        last = (await court.bob.ask("GET", "/cases"))["cases"][0]
        await court.bob.ask("POST", f"/cases/{last['id']}/appeal", {"words": "it was true"})
        await court.decide(last["id"], NO, by=1)
        await court.report(court.bob, "ann")

"""Files as evidence: kept while a case goes on or is held, shown to reviewers alone, and every look is written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.files import rows as files
from server.files import uses
from server.review import deciding, exhibits, filing, rows
from server.review.cases import Decide, Object, Outcome, RunOut, Take
from server.review.filing import OfMessage, Report
from tests.files.sending import get, send, settings_of
from tests.files.test_uses import collected, file_of, used
from tests.money.databases import AnyStore
from tests.money.test_one_to_one_node import on
from tests.review.test_review_node import NO, Court, convene
from tests.review.worlds import APPEAL_MS, TERMS
from tests.server.nodes import Person, open_site
from tests.talk.people import Talker, code, people

DAY_MS = 86_400_000
TEXT = b"what somebody was sent " * 40


async def report(bob: Talker, talk: str, seq: int, id: str = "case1") -> str:
    filed = await bob.store.write(
        filing.file, id, bob.id, Report(OfMessage(talk, seq), "harassment", ""), 1000, bob.now
    )
    return filed.case.id


async def close(talker: Talker, case: str) -> None:
    """Decide a case, and let the time for appeals go by."""
    outcome = Outcome("not_upheld", "no", "no")
    for command in (Take("mod"), Decide("mod", outcome, needs_second=False, appeal_ms=APPEAL_MS)):
        await talker.store.write(deciding.move, case, "mod", command, TERMS, talker.now)
    await talker.store.write(deciding.move, case, "", RunOut(), TERMS, talker.now + APPEAL_MS)


async def sent(ann: Talker, bob: Talker) -> str:
    talk = await ann.direct(bob.id)
    await file_of(ann)
    await ann.send(talk, "look", files=("f_1",))
    return talk


async def is_kept(store: AnyStore, now: int) -> bool:
    await collected(store, now + 2 * DAY_MS)
    found = await store.read(files.find, "f_1")
    return found is not None and found.state == "ready"


@pytest.mark.parametrize("held", [False, True])
async def test_a_case_keeps_what_its_sender_took_back_until_it_is_closed_and_nobody_holds_it(
    store: AnyStore, held: bool
) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await sent(ann, bob)
    case = await report(bob, talk, 1)
    assert await used(ann) > 0
    await ann.erase(talk, 1)
    assert await is_kept(store, ann.now)
    assert await used(ann) == 0, "who can't remove it does not pay for it"
    assert await code(ann.send(talk, "again", files=("f_1",))) == "file_unknown"
    assert await code(store.read(uses.require_seen, bob.id, "f_1", bob.now)) == "file_unknown"
    await store.write(rows.hold, case, held)
    await close(ann, case)
    assert await is_kept(store, ann.now) is held
    await store.write(rows.hold, case, False)
    await store.write(lambda connection: exhibits.let_go(connection, rows.find(connection, case)))
    assert not await is_kept(store, ann.now)
    assert await used(ann) == 0


async def test_a_file_that_a_message_still_shows_outlives_its_cases(store: AnyStore) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await sent(ann, bob)
    await close(ann, await report(bob, talk, 1))
    await close(ann, await report(bob, talk, 1, "case2"))
    assert await is_kept(store, ann.now)
    assert (await store.read(files.find, "f_1")).uses == 1
    await ann.erase(talk, 1)
    assert not await is_kept(store, ann.now)


async def test_a_file_that_was_taken_down_takes_no_space_until_it_is_back_and_goes_when_it_can_t_come_back(
    store: AnyStore,
) -> None:
    ann, bob = await people(store, "ann", "bob")
    talk = await sent(ann, bob)
    taken = await used(ann)
    for back in (True, False):
        case = await report(bob, talk, 1, f"case{back}")
        await decide(ann, case, "mod1", down=True)
        assert await used(ann) == 0
        await store.write(deciding.move, case, ann.id, Object(ann.id, "no"), TERMS, ann.now)
        await decide(ann, case, "mod2", down=not back)
        assert await used(ann) == (taken if back else 0)
        assert await is_kept(store, ann.now) is back
    assert [message.taken_down for message in await bob.messages(talk)] == [True]


async def decide(talker: Talker, case: str, by: str, *, down: bool) -> None:
    outcome = Outcome("upheld" if down else "not_upheld", "so", "so", takedown=down)
    await talker.store.write(deciding.move, case, by, Take(by), TERMS, talker.now)
    await talker.store.write(deciding.decide, case, by, outcome, APPEAL_MS, TERMS, talker.now)


async def test_reviewers_see_the_files_of_a_case_each_look_is_logged_and_nobody_else_sees_any(
    tmp_path: Path, place: Path | str
) -> None:
    config = msgspec.structs.replace(on(tmp_path, place), files=settings_of(tmp_path).files)
    async with open_site(tmp_path / "node", config) as site:
        court = await convene(site)
        talk = await court.bob.ask("PUT", "/conversations/direct/ann")
        path = f"/conversations/{talk['id']}/messages"
        file = await send(court.ann, TEXT, "words.txt")
        await court.ann.ask("POST", path, {"text": "", "client_txn": "t", "attachments": [file["id"]]})
        body = {"about": {"kind": "message", "conversation": talk["id"], "seq": 1}, "reason": "harassment"}
        filed = await court.bob.ask("POST", "/reports", body)
        await court.ann.ask("DELETE", f"{path}/1")
        docket = await court.mods[0].ask("GET", f"/mod/cases/{filed['id']}")
        (exhibit,) = msgspec.json.decode(docket["evidence"]["body"])["files"]
        assert (exhibit["seq"], exhibit["file"]["name"]) == (1, "words.txt")
        kept = f"/api/v1/mod/cases/{filed['id']}/files/{file['id']}"
        for who, status in ((court.bob, 404), (court.ann, 404), (court.mods[0], 200)):
            assert (await get(who, kept)).status_code == status
        assert (await get(court.mods[0], kept, range="bytes=5-13")).content == TEXT[5:14]
        for who, status in ((court.mods[1], 200), (court.bob, 404)):
            answer = await site.http.get(await ticketed(who, filed["id"], file["id"]))
            assert answer.status_code == status
            assert (answer.content == TEXT) is (status == 200)
        other = await court.report(court.bob, "ann")
        assert (await get(court.mods[0], kept.replace(filed["id"], other["id"]))).status_code == 404
        log = (await court.mods[0].ask("GET", f"/mod/cases/{filed['id']}/log"))["entries"]
        looks = [(line["name"], line["did"]) for line in log if line["did"] != "looked"]
        assert looks == [("mia", "saw file 1"), ("max", "saw file 1")]
        await decided_for_good(court, filed["id"])
        assert (await get(court.mods[0], kept)).status_code == 404


async def ticketed(who: Person, case: str, file: str) -> str:
    ticket: dict[str, Any] = await who.ask("POST", "/me/file_ticket")
    return f"/media/cases/{case}/{file}?ticket={ticket['ticket']}"


async def decided_for_good(court: Court, case: str) -> None:
    await court.decide(case, NO)
    await court.bob.ask("POST", f"/cases/{case}/appeal", {"words": "no"})
    await court.decide(case, NO, by=1)

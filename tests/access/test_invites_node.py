"""Invitations on a whole node: used once by each, the last use by one of two, and taken back while people watch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import trio

from server.access.tables import invites
from server.database.store import Store
from tests.access.test_access_node import Show, open_show
from tests.server.nodes import Person, small_config


async def invite(show: Show, **values: object) -> dict[str, Any]:
    return dict(await show.ann.ask("POST", f"/streams/{show.stream}/invites", values))


async def redeem(person: Person, code: str, status: int = 200) -> dict[str, Any]:
    return dict(await person.ask("POST", "/invites/redeem", {"code": code}, status=status))


async def test_an_invitation_lets_in_once_per_account_on_any_device(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        made = await invite(show, max_uses=1)
        for _ in range(3):
            assert await redeem(bob, made["code"]) == {"stream": show.stream, "state": "granted"}
        assert (await redeem(eve, made["code"], 404))["code"] == "invite_unknown"
        await show.sees(await show.watch(bob))
        await show.watch(bob)
        listed = (await show.ann.ask("GET", f"/streams/{show.stream}/invites"))["invites"]
        assert [(one["id"], one["uses"], "code" in one) for one in listed] == [(made["id"], 1, False)]


async def test_of_two_who_take_the_last_use_at_once_one_wins(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        people = [await show.site.person(f"p{number}") for number in range(12)]
        made = await invite(show, max_uses=5)
        answers: list[int] = []

        async def take(person: Person) -> None:
            answer = await show.site.http.post(
                "/api/v1/invites/redeem",
                json={"code": made["code"]},
                headers={"Authorization": f"Bearer {person.token}"},
            )
            answers.append(answer.status_code)

        async with trio.open_nursery() as nursery:
            for person in people:
                nursery.start_soon(take, person)
        assert sorted(answers) == [200] * 5 + [404] * 7


async def test_who_is_revoked_with_the_invitation_is_out_and_without_it_stays(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, eve, joe = [await show.site.person(name) for name in ("bob", "eve", "joe")]
        kept, taken = await invite(show, max_uses=2), await invite(show)
        await redeem(bob, kept["code"])
        await redeem(eve, taken["code"])
        bobs, eves = await show.watch(bob), await show.watch(eve)
        await show.sees(eves)
        await show.ann.ask("DELETE", f"/invites/{kept['id']}")
        await show.ann.ask("DELETE", f"/invites/{taken['id']}?eject=true")
        await show.sees_nothing_more(eves)
        await show.sees(bobs)
        assert await show.refused(eve) == "not_entitled"
        for person, code in ((joe, kept["code"]), (eve, taken["code"])):
            await redeem(person, code, 404)
        assert await redeem(bob, kept["code"]) == {"stream": show.stream, "state": "granted"}


async def test_an_invitation_may_need_the_streamers_yes(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        made = await invite(show, max_uses=1, needs_approval=True)
        anns, bobs = await show.socket(show.ann), await show.socket(bob)
        assert (await redeem(bob, made["code"]))["state"] == "pending"
        asked = await anns.wait_for("invite.requested")
        assert (asked["account"], asked["name"], asked["invite"]) == (bob.id, "bob", made["id"])
        assert await show.refused(bob) == "not_entitled"
        await redeem(eve, made["code"], 404)
        await show.ann.ask("POST", f"/invites/{made['id']}/deny", {"account": bob.id})
        await redeem(bob, made["code"], 404)
        assert (await redeem(eve, made["code"]))["state"] == "pending"
        await show.ann.ask("POST", f"/invites/{made['id']}/approve", {"account": eve.id})
        await show.ann.ask("POST", f"/invites/{made['id']}/approve", {"account": bob.id}, status=404)
        await show.sees(await show.watch(eve))
        uses = (await show.ann.ask("GET", f"/invites/{made['id']}/uses"))["uses"]
        assert {use["name"]: use["state"] for use in uses} == {"bob": "denied", "eve": "granted"}
        assert "access.granted" not in [event["type"] for event in bobs.events]


async def test_a_blocked_guest_is_answered_as_one_with_no_invitation_at_all(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        made = await invite(show)
        await show.ann.ask("PUT", "/blocks/bob")
        assert await redeem(bob, made["code"], 404) == await redeem(bob, "x" * 32, 404)
        assert await redeem(bob, made["code"], 404) == await redeem(bob, "\x00", 404)
        await show.ann.ask("DELETE", "/blocks/bob")
        assert (await redeem(bob, made["code"]))["state"] == "granted"


async def test_an_expired_invitation_and_one_to_an_ended_stream_lead_nowhere(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        made, late = await invite(show), await invite(show)
        store: Store = show.site.running.access._store
        await store.write(
            lambda connection: (
                connection.execute(sa.update(invites).where(invites.c.id == late["id"]).values(expires_at=1)).rowcount
            )
        )
        await redeem(bob, late["code"], 404)
        await show.ann.ask("POST", f"/streams/{show.stream}/end")
        await redeem(bob, made["code"], 404)


async def test_what_an_invitation_says_is_nowhere_in_the_database(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        made = await invite(show)
    assert len(made["code"]) == 32
    files = list(tmp_path.glob("mesi.sqlite*"))  # noqa: ASYNC240  (the node has ended)
    assert files
    for file in files:
        assert made["code"].encode() not in file.read_bytes()


async def test_whoever_tries_codes_is_slowed_down(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config = msgspec.structs.replace(
        config, rates=msgspec.structs.replace(config.rates, guess_burst=3, guess_per_s=0.1)
    )
    async with open_show(tmp_path, config=config) as show:
        bob = await show.site.person("bob")
        made = await invite(show)
        for number in range(3):
            await redeem(bob, f"guess {number}", 404)
        assert (await redeem(bob, made["code"], 429))["code"] == "rate_limited"
        assert 'mesi_requests_rate_limited_total{whose="guess"} 1.0' in (await show.site.http.get("/metrics")).text


@pytest.mark.parametrize(
    "values",
    [
        {"max_uses": 0},
        {"max_uses": 100_000},
        {"max_uses": True},
        {"expires_s": 59},
        {"expires_s": -1},
        {"expires_s": "60"},
        {"needs_approval": 1},
        {"code": "mine"},
    ],
)
async def test_an_invitation_that_makes_no_sense_is_refused(tmp_path: Path, values: dict[str, object]) -> None:
    async with open_show(tmp_path) as show:
        answer = await show.ann.ask("POST", f"/streams/{show.stream}/invites", values, status=422)
        assert answer["code"] == "invalid_request"


async def test_only_the_streamer_sees_and_makes_invitations(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        made = await invite(show)
        path = f"/streams/{show.stream}/invites"
        assert (await bob.ask("POST", path, {}, status=403))["code"] == "not_the_owner"
        assert (await bob.ask("GET", path, status=403))["code"] == "not_the_owner"
        foreign = await bob.ask("DELETE", f"/invites/{made['id']}", status=404)
        assert foreign == await bob.ask("DELETE", "/invites/i_0000000000000000", status=404)

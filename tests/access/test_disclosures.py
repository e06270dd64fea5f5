"""Disclosures: only what was asked for and granted, to one streamer, for a time; a no or silence gives money back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import trio

from server.access.tables import disclosure_log
from server.database.store import Store
from signalling.identifiers import AccountId, Actor
from signalling.refusals import Refused
from tests.access.test_kyf_node import ISSUER, prove
from tests.server.nodes import Person, Site, open_site, open_socket, small_config
from tests.server.test_node import wait_until


@asynccontextmanager
async def open_pair(folder: Path) -> AsyncIterator[tuple[Site, Person, Person]]:
    config = msgspec.structs.replace(small_config(folder), kyf_issuers=(ISSUER.pinned,))
    async with open_site(folder, config) as site:
        yield site, await site.person("ann"), await site.person("bob")


async def ask(ann: Person, status: int | None = None, **values: object) -> dict[str, Any]:
    body = {"name": "bob", "fields": ["age_over", "region"], "purpose": "meeting in person", **values}
    return dict(await ann.ask("POST", "/disclosures", body, status))


async def test_a_streamer_sees_what_was_granted_until_it_is_taken_back_and_every_look_is_logged(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as (site, ann, bob):
        eve = await site.person("eve")
        await prove(bob)
        async with open_socket(site, bob) as bobs, open_socket(site, ann) as anns:
            asked = await ask(ann)
            requested = await bobs.wait_for("kyf.requested")
            assert (requested["streamer"], requested["fields"], requested["purpose"]) == (
                "ann",
                ["age_over", "region"],
                "meeting in person",
            )
            path = f"/disclosures/{asked['id']}"
            assert (await ann.ask("GET", f"{path}/facts", status=404))["code"] == "disclosure_unknown"
            for stranger in (ann, eve):
                assert (await stranger.ask("POST", f"{path}/grant", status=404))["code"] == "disclosure_unknown"
            await bob.ask("POST", f"{path}/grant")
            assert (await anns.wait_for("kyf.disclosure"))["state"] == "granted"
            assert await ann.ask("GET", f"{path}/facts") == {"age_over": 18, "region": "FR"}
            await bob.ask("PUT", "/blocks/ann")
            await ann.ask("GET", f"{path}/facts", status=404)
            await bob.ask("DELETE", "/blocks/ann")
            for stranger in (bob, eve):
                assert (await stranger.ask("GET", f"{path}/facts", status=404))["code"] == "disclosure_unknown"
            await bob.ask("POST", f"{path}/revoke")
            assert (await anns.wait_for("kyf.disclosure"))["state"] == "revoked"
            await ann.ask("GET", f"{path}/facts", status=404)
            assert (await bob.ask("POST", f"{path}/grant", status=410))["code"] == "request_expired"
        store: Store = site.running.access._store
        did = await store.read(lambda connection: connection.execute(sa.select(disclosure_log.c.did)).scalars().all())
        assert did == ["asked", "granted", "looked", "revoked"]
        assert [one["state"] for one in (await bob.ask("GET", "/disclosures"))["disclosures"]] == ["revoked"]
        assert (await eve.ask("GET", "/disclosures"))["disclosures"] == []


async def test_a_refusal_and_silence_void_the_hold_and_a_consent_does_not(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as (site, ann, bob):
        voided: list[str] = []
        failing = [True]

        async def void(hold: str) -> None:
            if failing and failing.pop():
                raise OSError("the ledger does not answer")
            voided.append(hold)

        consent = site.running.consent
        consent._void_hold = void
        streamer, viewer = Actor(AccountId(ann.id), "ann"), Actor(AccountId(bob.id), "bob")

        async def asked(hold: str, deadline_s: int) -> str:
            made = await consent.ask(
                streamer, "bob", fields=("region",), purpose="p", deadline_s=deadline_s, keep_s=1, hold=hold
            )
            return made.id

        await consent.answer(viewer, await asked("refused", 60), False)
        granted = await asked("granted", 60)
        await consent.answer(viewer, granted, True)
        late = await asked("late", 0)
        with pytest.raises(Refused, match="request_expired"):
            await consent.answer(viewer, late, True)
        await wait_until(lambda: len(voided) == 2)
        assert sorted(voided) == ["late", "refused"]
        assert consent.failures == 1
        assert await consent.look(streamer, granted) == {"region": None}
        await trio.sleep(1.1)
        with pytest.raises(Refused, match="disclosure_unknown"):
            await consent.look(streamer, granted)


async def test_requests_that_make_no_sense_are_refused_with_their_codes(tmp_path: Path) -> None:
    async with open_pair(tmp_path) as (_, ann, bob):
        await ask(ann)
        assert (await ask(ann, 409))["code"] == "request_exists"
        assert (await ask(ann, 404, name="nobody"))["code"] == "account_unknown"
        assert (await ask(ann, 404, name="ann"))["code"] == "account_unknown"
        bad: list[dict[str, object]] = [
            {"fields": []},
            {"fields": ["password"]},
            {"purpose": ""},
            {"deadline_s": 59},
            {"deadline_s": 200_000},
            {"hold": "x"},
        ]
        for values in bad:
            assert (await ask(ann, 422, **values))["code"] == "invalid_request"
        await bob.ask("PUT", "/blocks/ann")
        assert (await ask(ann, 404))["code"] == "account_unknown"

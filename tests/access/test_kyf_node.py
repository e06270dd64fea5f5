"""What people must prove, on a whole node: at the door of every mode, to stream, and while they watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.client import publish
from server.config import KyfThresholds
from server.node import NodeFailed, run_node
from signalling.identifiers import AccountId, StreamId
from signalling.refusals import Refused
from tests.access.issuers import Issuer
from tests.access.test_access_node import Show, open_show
from tests.server.nodes import Person, open_site, open_socket, small_config
from tests.server.test_node import send_frames, wait_until

ISSUER = Issuer()


async def prove(person: Person, status: int | None = None, **values: Any) -> dict[str, Any]:
    nonce = (await person.ask("POST", "/kyf/nonces"))["nonce"]
    return dict(await person.ask("POST", "/kyf/claims", {"token": ISSUER.sign(ISSUER.claims(nonce, **values))}, status))


async def demand(show: Show, *kyf: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {show.ann.token}", "If-Match": "*"}
    rules = {"kyf": list(kyf)}
    answer = await show.site.http.put(f"/api/v1/streams/{show.stream}/rules", json=rules, headers=headers)
    assert answer.is_success, answer.text


@asynccontextmanager
async def open_kyf_show(folder: Path, mode: str = "public", **kyf: Any) -> AsyncIterator[Show]:
    config = msgspec.structs.replace(small_config(folder), kyf_issuers=(ISSUER.pinned,), kyf=KyfThresholds(**kyf))
    async with open_show(folder, mode, config=config) as show:
        yield show


async def test_who_proves_the_age_in_another_tab_is_let_in_without_asking_again(tmp_path: Path) -> None:
    async with open_kyf_show(tmp_path) as show:
        await demand(show, {"type": "kyf:age_over", "years": 18})
        bob = await show.site.person("bob")
        assert await show.refused(bob) == "kyf_required"
        socket = await show.socket(bob)
        required = await socket.wait_for("kyf.required")
        assert required["missing"][0]["clause"] == {"type": "kyf:age_over", "years": 18}
        state = await socket.wait_for("stream.state")
        assert (state["you"]["admitted"], state["you"]["reason"]) == (False, "kyf_required")
        assert (await socket.ask("chat", stream=show.stream, text="x", client_txn="1"))["code"] == "kyf_required"
        proven = await prove(bob)
        assert (proven["age_over"], proven["verified"], proven["region"]) == (18, True, "FR")
        assert (await socket.wait_for("access.granted"))["via"] == "public"
        assert await socket.wait_for("kyf.granted")
        await show.sees(await show.watch(bob))


async def test_a_proof_that_expires_cuts_its_holder_in_a_public_stream(tmp_path: Path) -> None:
    async with open_kyf_show(tmp_path) as show:
        await demand(show, {"type": "kyf:verified"})
        bob = await show.site.person("bob")
        await prove(bob, expires_s=3)
        bobs, socket = await show.watch(bob), await show.socket(bob)
        await show.sees(bobs)
        assert (await socket.wait_for("access.revoked"))["reason"] == "kyf_required"
        assert (await socket.wait_for("kyf.expired"))["missing"][0]["clause"] == {"type": "kyf:verified"}
        await show.sees_nothing_more(bobs)


async def test_an_uncertain_answer_replaces_a_certain_one_and_cuts(tmp_path: Path) -> None:
    async with open_kyf_show(tmp_path) as show:
        await demand(show, {"type": "kyf:age_over", "years": 18})
        bob = await show.site.person("bob")
        await prove(bob)
        bobs, socket = await show.watch(bob), await show.socket(bob)
        await show.sees(bobs)
        await prove(bob, outcome="UNCERTAIN")
        await show.sees_nothing_more(bobs)
        assert await socket.wait_for("kyf.denied")
        problem = await bob.ask("POST", f"/streams/{show.stream}/chat", {"text": "x", "client_txn": "1"}, status=403)
        assert problem["code"] == "kyf_required"


async def test_a_change_of_region_cuts_and_a_tightened_demand_does_too(tmp_path: Path) -> None:
    async with open_kyf_show(tmp_path) as show:
        await demand(show, {"type": "kyf:region", "outside": ["US"]})
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        for person in (bob, eve):
            await prove(person)
        bobs, eves = await show.watch(bob), await show.watch(eve)
        await prove(bob, region="US-CA")
        await show.sees_nothing_more(bobs)
        await show.sees(eves)
        await demand(show, {"type": "kyf:age_over", "years": 21})
        await show.sees_nothing_more(eves)


async def test_a_proof_counts_once_for_one_account_and_one_person(tmp_path: Path) -> None:
    async with open_kyf_show(tmp_path) as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        nonce = (await bob.ask("POST", "/kyf/nonces"))["nonce"]
        claims = ISSUER.claims(nonce)
        token = {"token": ISSUER.sign(claims)}
        assert (await eve.ask("POST", "/kyf/claims", token, status=401))["code"] == "claim_invalid"
        await bob.ask("POST", "/kyf/claims", token)
        assert (await bob.ask("POST", "/kyf/claims", token, status=409))["code"] == "proof_replayed"
        again = {"token": ISSUER.sign({**claims, "jti": "other"})}
        assert (await bob.ask("POST", "/kyf/claims", again, status=401))["code"] == "claim_invalid"
        eves = {**ISSUER.claims((await eve.ask("POST", "/kyf/nonces"))["nonce"]), "sub": claims["sub"]}
        refused = await eve.ask("POST", "/kyf/claims", {"token": ISSUER.sign(eves)}, status=409)
        assert refused["code"] == "subject_taken"
        stranger = {"token": Issuer().sign(ISSUER.claims(nonce))}
        assert (await bob.ask("POST", "/kyf/claims", stranger, status=401))["code"] == "claim_invalid"
        assert len((await bob.ask("GET", "/kyf/claims"))["proofs"]) == 1
        assert (await eve.ask("GET", "/kyf/claims"))["proofs"] == []


async def test_what_the_node_demands_holds_for_streamers_and_for_payments(tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        small_config(tmp_path), kyf_issuers=(ISSUER.pinned,), kyf=KyfThresholds(age_over=18)
    )
    async with open_site(tmp_path, config) as site:
        ann, bob = [await site.person(name) for name in ("ann", "bob")]
        refused = await ann.ask("POST", "/streams", {"title": "A stream"}, status=403)
        assert (refused["code"], refused["missing"][0]["clause"]["years"]) == ("kyf_required", 18)
        assert (await ann.ask("GET", "/kyf/requirements"))["everywhere"] == [{"type": "kyf:age_over", "years": 18}]
        await prove(ann, expires_s=4)
        stream = StreamId(await site.stream(ann))
        with pytest.raises(Refused, match="kyf_required"):
            await site.running.access.require_proven(stream, AccountId(bob.id))
        await prove(bob)
        await site.running.access.require_proven(stream, AccountId(bob.id))
        await wait_until(lambda: site.running.rooms.owners() == {})
        assert (await ann.ask("GET", f"/streams/{stream}", status=410))["code"] == "stream_ended"


async def test_a_key_that_is_none_stops_the_start_with_plain_words(tmp_path: Path) -> None:
    pinned = msgspec.structs.replace(ISSUER.pinned, algorithm="RS256")
    config = msgspec.structs.replace(small_config(tmp_path), kyf_issuers=(pinned,))
    with pytest.RaisesGroup(
        pytest.RaisesExc(NodeFailed, match="kyf_issuers in the configuration"), allow_unwrapped=True
    ):
        await run_node(config)


def listed(page: dict[str, Any]) -> list[str]:
    return [card["id"] for card in page["streams"]]


async def test_the_directory_hides_a_stream_from_those_whose_region_it_is_not_for_and_from_nobody_unproven(
    tmp_path: Path,
) -> None:
    async with open_kyf_show(tmp_path) as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        await prove(bob)
        await wait_until(lambda: show.site.running.rooms.live(None).streams != ())
        async with open_socket(show.site, bob) as socket:
            await socket.ask("watch_directory")
            assert listed(await socket.wait_for("directory.snapshot")) == [show.stream]
            await demand(show, {"type": "kyf:region", "outside": ["FR"]})
            assert listed(await bob.ask("GET", "/streams")) == []
            assert listed(await eve.ask("GET", "/streams")) == [show.stream]
            assert listed(await show.ann.ask("GET", "/streams")) == [show.stream]
            while (delta := await socket.wait_for("directory.delta"))["card"] is not None:
                pass  # of before
            assert delta["stream"] == show.stream
            await prove(bob, region="DE")
            assert listed(await socket.wait_for("directory.snapshot")) == [show.stream]
            await prove(bob, region="FR-75")
            assert listed(await socket.wait_for("directory.snapshot")) == []
            await demand(show)
            assert (await socket.wait_for("directory.delta"))["card"]["id"] == show.stream
            assert listed(await bob.ask("GET", "/streams")) == [show.stream]


async def test_the_directory_hides_what_the_node_or_the_stream_demands_and_does_so_after_a_restart(
    tmp_path: Path,
) -> None:
    config = msgspec.structs.replace(
        small_config(tmp_path), kyf_issuers=(ISSUER.pinned,), kyf=KyfThresholds(regions_outside=("US",))
    )
    async with open_site(tmp_path, config) as site:
        ann, bob, eve, joe = [await site.person(name) for name in ("ann", "bob", "eve", "joe")]
        for person, region in ((ann, "FR"), (bob, "US"), (eve, "DE")):
            await prove(person, region=region)
        stream = await site.stream(ann)
        headers = {"Authorization": f"Bearer {ann.token}", "If-Match": "*"}
        rules = {"kyf": [{"type": "kyf:region", "inside": ["FR", "US"]}]}
        assert (await site.http.put(f"/api/v1/streams/{stream}/rules", json=rules, headers=headers)).is_success
    async with open_site(tmp_path, config) as site:
        ann, bob, eve, joe = [await site.person(name) for name in ("ann", "bob", "eve", "joe")]
        async with publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher:
            await send_frames(publisher, 1)
            await wait_until(lambda: site.running.rooms.state(StreamId(stream)).picture == "live")  # type: ignore[union-attr]
            found = {person.name: listed(await person.ask("GET", "/streams")) for person in (ann, bob, eve, joe)}
        assert found == {"ann": [stream], "bob": [], "eve": [], "joe": [stream]}

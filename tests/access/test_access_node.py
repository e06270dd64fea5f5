"""Private streams on a whole node with real media: who loses the right gets not one packet more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from server.client import Publisher, SessionFailed, publish, watch
from signalling.identifiers import StreamId
from tests.server.nodes import Person, Site, Socket, open_site, open_socket
from tests.server.test_node import Viewer, send_frames, switch, wait_until


class Show:
    """A private stream of Ann's that is on, with people who watch it."""

    def __init__(self, site: Site, ann: Person, stream: str, publisher: Publisher, stack: AsyncExitStack) -> None:
        self.site, self.ann, self.stream, self.publisher, self.stack = site, ann, stream, publisher, stack
        self._sent = 0

    async def frames(self, count: int = 10) -> None:
        await send_frames(self.publisher, count, self._sent)
        self._sent += count

    async def watch(self, person: Person) -> Viewer:
        viewer = Viewer()
        url = self.site.url("whep", self.stream)
        await self.stack.enter_async_context(watch(self.site.http, url, person.token, ("video",), viewer.take))
        return viewer

    async def refused(self, person: Person) -> str:
        with pytest.RaisesGroup(pytest.RaisesExc(SessionFailed), allow_unwrapped=True) as caught:
            await self.watch(person)
        error: BaseException = caught.value
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, SessionFailed)
        return str(error.code)

    async def socket(self, person: Person) -> Socket:
        socket = await self.stack.enter_async_context(open_socket(self.site, person))
        assert (await socket.ask("join", stream=self.stream))["type"] == "ok"
        return socket

    async def sees_nothing_more(self, viewer: Viewer) -> None:
        before = len(viewer.frames)
        await self.frames(20)
        await trio.sleep(0.05)
        assert len(viewer.frames) == before

    async def sees(self, viewer: Viewer) -> None:
        await self.frames(20)
        await wait_until(lambda: viewer.frames[-1:] == [self._sent - 1])


@asynccontextmanager
async def open_show(folder: Path, mode: str = "private", **settings: Any) -> AsyncIterator[Show]:
    async with open_site(folder, **settings) as site, AsyncExitStack() as stack:
        ann = await site.person("ann")
        stream = await site.stream(ann, mode=mode)
        url = site.url("whip", stream)
        publisher = await stack.enter_async_context(publish(site.http, url, ann.token, ("video",)))
        show = Show(site, ann, stream, publisher, stack)
        await show.frames(1)
        yield show


async def admin(site: Site, method: str, path: str, body: object = None) -> None:
    root = Person("admin", "admin", await site.running.auth.admin_token(), site.http)
    await root.ask(method, f"/admin{path}", body)


async def test_who_unfollows_while_watching_gets_not_one_packet_more(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        assert await show.refused(bob) == "not_entitled"
        await bob.ask("PUT", "/follows/ann")
        await eve.ask("PUT", "/follows/ann")
        bobs, eves, socket = await show.watch(bob), await show.watch(eve), await show.socket(bob)
        await show.sees(bobs)
        await bob.ask("DELETE", "/follows/ann")
        await show.sees_nothing_more(bobs)
        revoked = await socket.wait_for("access.revoked")
        assert (revoked["reason"], revoked["readmit"]) == ("not_entitled", ["entitlement"])
        await bob.ask("PUT", "/follows/ann")
        granted = await socket.wait_for("access.granted")
        assert (granted["via"], granted["epoch"]) == ("follows", revoked["epoch"] + 1)
        await show.sees(await show.watch(bob))
        assert eves.frames == sorted(eves.frames)
        assert len(eves.frames) >= 40


async def test_a_refused_viewer_is_told_every_way_to_qualify(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        problem = await show.site.http.post(
            show.site.url("whep", show.stream),
            content="v=0\r\n",
            headers={"Authorization": f"Bearer {bob.token}", "Content-Type": "application/sdp"},
        )
        assert problem.status_code == 403
        ways = problem.json()["ways"]
        assert (ways["type"], [way["clause"]["type"] for way in ways["of"]]) == (
            "any_of",
            ["sub_tier", "follows", "invite"],
        )
        shown = await bob.ask("GET", f"/streams/{show.stream}/entitlement")
        assert (shown["entitled"], shown["ways"]) == (False, ways)


async def test_a_subscription_lapses_by_itself_while_its_holder_watches(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob = await show.site.person("bob")
        await show.ann.ask("PUT", "/subscribers/bob", {"tier": 2, "expires_s": 2})
        bobs, socket = await show.watch(bob), await show.socket(bob)
        await show.sees(bobs)
        assert (await socket.wait_for("access.revoked"))["reason"] == "not_entitled"
        await show.sees_nothing_more(bobs)
        assert (await bob.ask("GET", "/subscriptions"))["subscriptions"][0]["tier"] == 2


async def test_stricter_rules_put_out_whoever_does_not_meet_them_and_the_others_miss_nothing(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        for person in (bob, eve):
            await person.ask("PUT", "/follows/ann")
        await admin(show.site, "PUT", "/subscriptions/ann/eve", {"tier": 3, "expires_s": None})
        bobs, eves, socket = await show.watch(bob), await show.watch(eve), await show.socket(bob)
        await show.sees(bobs)
        rules = {"watch": {"type": "sub_tier", "at_least": 3}}
        headers = {"Authorization": f"Bearer {show.ann.token}", "If-Match": '"0"'}
        path = f"/api/v1/streams/{show.stream}/rules"
        answer = await show.site.http.put(path, json=rules, headers=headers)
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
        await show.sees_nothing_more(bobs)
        assert await socket.wait_for("access.revoked")
        assert (await socket.wait_for("access.rules_changed"))["version"] == 1
        await show.sees(eves)
        assert eves.frames == list(range(eves.frames[0], eves.frames[-1] + 1))
        again = await show.site.http.put(path, json=rules, headers=headers)
        assert (again.status_code, again.json()["code"], again.json()["version"]) == (412, "precondition_failed", 1)
        del headers["If-Match"]
        assert (await show.site.http.put(path, json=rules, headers=headers)).status_code == 428
        headers |= {"Authorization": f"Bearer {bob.token}", "If-Match": "*"}
        assert (await show.site.http.put(path, json=rules, headers=headers)).json()["code"] == "not_the_owner"


async def test_a_block_cuts_in_every_mode_and_cannot_be_told_from_a_stream_that_never_was(tmp_path: Path) -> None:
    async with open_show(tmp_path, "public") as show:
        bob = await show.site.person("bob")
        bobs, socket = await show.watch(bob), await show.socket(bob)
        await show.sees(bobs)
        await show.ann.ask("PUT", "/blocks/bob")
        await show.sees_nothing_more(bobs)
        assert (await socket.wait_for("access.revoked"))["reason"] == "stream_unknown"
        http, auth = show.site.http, {"Authorization": f"Bearer {bob.token}"}
        sdp = {**auth, "Content-Type": "application/sdp"}
        for ask in (
            lambda id: http.get(f"/api/v1/streams/{id}", headers=auth),
            lambda id: http.get(f"/api/v1/streams/{id}/rules", headers=auth),
            lambda id: http.get(f"/api/v1/streams/{id}/entitlement", headers=auth),
            lambda id: http.post(f"/api/v1/streams/{id}/one_to_one/requests", headers=auth, json={}),
            lambda id: http.post(f"/api/v1/streams/{id}/chat", headers=auth, json={"text": "x", "client_txn": "1"}),
            lambda id: http.post(f"/whep/{id}", headers=sdp, content="v=0\r\n"),
            lambda id: http.post(f"/whip/{id}", headers=sdp, content="v=0\r\n"),
        ):
            blocked, nowhere = await ask(show.stream), await ask("s_0000000000000000")
            assert (blocked.status_code, blocked.content) == (nowhere.status_code, nowhere.content)
            assert blocked.json()["code"] == "stream_unknown"
        blocked, nobody = [await http.put(f"/api/v1/follows/{name}", headers=auth) for name in ("ann", "nan")]
        assert (blocked.status_code, blocked.text) == (404, nobody.text.replace("nan", "ann"))
        assert (await socket.ask("join", stream=show.stream))["code"] == "stream_unknown"
        assert (await bob.ask("GET", "/streams"))["streams"] == []
        await show.ann.ask("POST", f"/streams/{show.stream}/end")
        await wait_until(lambda: show.site.running.rooms.owners() == {})
        assert (await bob.ask("GET", f"/streams/{show.stream}", status=404))["code"] == "stream_unknown"


async def test_blocks_hold_after_a_restart_and_until_both_took_theirs_back(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        ann, bob = [await site.person(name) for name in ("ann", "bob")]
        stream = await site.stream(ann)
        await ann.ask("PUT", "/blocks/bob")
        await bob.ask("PUT", "/blocks/ann")
        await ann.ask("DELETE", "/blocks/bob")
    async with open_site(tmp_path) as site:
        ann, bob = [await site.person(name) for name in ("ann", "bob")]
        assert (await bob.ask("GET", f"/streams/{stream}", status=404))["code"] == "stream_unknown"
        async with open_socket(site, bob) as socket:
            await bob.ask("DELETE", "/blocks/ann")
            changed = await socket.wait_for("block.changed")
            assert (changed["name"], changed["blocked"]) == ("ann", False)
        await bob.ask("GET", f"/streams/{stream}")


async def test_a_suspended_account_is_out_at_once_and_everywhere(tmp_path: Path) -> None:
    async with open_show(tmp_path, "public") as show:
        bob = await show.site.person("bob")
        bobs, socket = await show.watch(bob), await show.socket(bob)
        await show.sees(bobs)
        await admin(show.site, "PUT", "/accounts/bob", {"suspended": True})
        await show.sees_nothing_more(bobs)
        assert (await socket.wait_for("access.revoked"))["reason"] == "suspended"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.wait_for("anything")
        assert closed.value.reason is not None
        assert (closed.value.reason.code, closed.value.reason.reason) == (4403, "suspended")
        assert (await bob.ask("GET", "/me", status=403))["code"] == "suspended"
        assert await show.refused(bob) == "suspended"
        await admin(show.site, "PUT", "/accounts/ann", {"suspended": True})
        await wait_until(lambda: show.site.running.rooms.owners() == {})


async def test_a_restart_judges_anew_and_trusts_no_record(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        await show.ann.ask("PUT", "/subscribers/bob", {"tier": 1, "expires_s": 1})
        await show.ann.ask("PUT", f"/streams/{show.stream}/entitled/eve")
        await show.watch(bob)
        await show.watch(eve)
        stream = show.stream
    await trio.sleep(1)
    async with open_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        state = site.running.rooms.state(stream)  # type: ignore[arg-type]
        assert state is not None
        assert (state.verdicts, state.entitled) == ({}, {eve.id})
        async with publish(site.http, site.url("whip", stream), ann.token, ("video",)) as publisher:
            await send_frames(publisher, 1)
            with pytest.RaisesGroup(pytest.RaisesExc(SessionFailed, match="not_entitled"), allow_unwrapped=True):
                async with watch(site.http, site.url("whep", stream), bob.token):
                    pass
            async with watch(site.http, site.url("whep", stream), eve.token, ("video",)):
                pass


async def test_going_private_keeps_those_whom_the_rules_let_in(tmp_path: Path) -> None:
    async with open_show(tmp_path, "public") as show:
        bob, eve = [await show.site.person(name) for name in ("bob", "eve")]
        await bob.ask("PUT", "/follows/ann")
        bobs, eves = await show.watch(bob), await show.watch(eve)
        changed = await switch(show.ann, show.stream, "private")
        assert changed["removed"] == ["eve"]
        await show.sees(bobs)
        await show.sees_nothing_more(eves)


async def test_a_stream_says_before_anyone_joins_what_the_rules_would_say(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, path = await show.site.person("bob"), f"/streams/{show.stream}"
        you = (await bob.ask("GET", path))["you"]
        assert (you["admitted"], you["reason"], you["readmit"]) == (False, "not_entitled", ["entitlement"])
        await bob.ask("PUT", "/follows/ann")
        assert (await bob.ask("GET", path))["you"]["admitted"] is True
        await bob.ask("DELETE", "/follows/ann")
        assert (await bob.ask("GET", path))["you"]["admitted"] is False
        state = show.site.running.rooms.state(StreamId(show.stream))
        assert state is not None
        assert (state.present, state.verdicts) == (frozenset(), {})


async def test_the_entitlement_counts_tickets_the_streamers_choice_and_being_put_out(tmp_path: Path) -> None:
    async with open_show(tmp_path) as show:
        bob, of = await show.site.person("bob"), f"/streams/{show.stream}"

        async def asked() -> tuple[str, bool, str | None, str | None]:
            shown = await bob.ask("GET", f"{of}/entitlement")
            return shown["mode"], shown["entitled"], shown["via"], shown["denied"]

        assert await asked() == ("private", False, None, None)
        await show.ann.ask("PUT", f"{of}/entitled/bob")
        assert await asked() == ("private", True, "streamer", None)
        await switch(show.ann, show.stream, "paid")
        assert await asked() == ("paid", False, None, None)
        ways = (await bob.ask("GET", f"{of}/entitlement"))["ways"]
        assert ways == {"type": "lacking", "clause": {"type": "ticket"}}
        await show.ann.ask("PUT", f"{of}/tickets/bob")
        assert await asked() == ("paid", True, "ticket", None)
        await show.ann.ask("PUT", f"{of}/ejected/bob")
        assert await asked() == ("paid", False, None, "ejected")
        await switch(show.ann, show.stream, "public")
        assert await asked() == ("public", False, None, "ejected")
        await show.ann.ask("DELETE", f"{of}/ejected/bob")
        assert await asked() == ("public", True, "public", None)
        shown = await show.ann.ask("GET", f"{of}/entitlement")
        assert (shown["entitled"], shown["via"]) == (True, "owner")


async def test_a_profile_says_whether_one_follows_and_shows_the_stream_that_the_directory_would(tmp_path: Path) -> None:
    async with open_show(tmp_path, "private") as show:
        bob = await show.site.person("bob")
        assert await bob.ask("GET", "/profiles/ANN") == {
            "id": show.ann.id,
            "name": "ann",
            "follows_since": None,
            "stream": None,
        }
        await bob.ask("PUT", "/follows/ann")
        viewer = await show.watch(bob)
        await show.sees(viewer)
        seen = await bob.ask("GET", "/profiles/ann")
        assert seen["follows_since"] > 0
        await show.ann.ask("PUT", "/blocks/bob")
        refused = await bob.ask("GET", "/profiles/ann", status=404)
        assert refused["detail"] == (await bob.ask("GET", "/profiles/nan", status=404))["detail"].replace("nan", "ann")

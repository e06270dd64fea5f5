"""Files over HTTP: to those who may see them alone, in parts, and harmless in every browser."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx2
import trio
from PIL import Image

from tests.files import samples
from tests.files.sending import code_of, filing_site, get, send, until
from tests.server.nodes import Person

WORDS = bytes(range(32, 127)) * 10_000


async def attach(sender: Person, other: str, *files: str) -> str:
    talk = str((await sender.ask("PUT", f"/conversations/direct/{other}"))["id"])
    body = {"text": "", "client_txn": "t", "attachments": files}
    await sender.ask("POST", f"/conversations/{talk}/messages", body, 201)
    return talk


async def ticket_of(person: Person) -> str:
    return str((await person.ask("POST", "/me/file_ticket"))["ticket"])


async def by_ticket(http: httpx2.AsyncClient, file: str, ticket: str, **headers: str) -> httpx2.Response:
    return await http.get(f"/media/{file}", params={"ticket": ticket}, headers=headers)


async def test_a_file_is_served_to_those_who_read_its_message_until_it_is_taken_back(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        view = await send(ann, samples.picture("PNG", (900, 600)), "a picture.png")
        talk = await attach(ann, "bob", view["id"])
        path = f"/api/v1/files/{view['id']}"
        answer = await get(bob, path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
        assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''a%20picture.png"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        small = await get(bob, f"{path}/preview")
        assert Image.open(io.BytesIO(small.content)).size == (640, 427)
        for stranger in (path, f"{path}/preview", "/api/v1/files/none", "/api/v1/files/none/preview"):
            assert await code_of(await get(eve, stranger), 404) == "file_unknown"
        assert (await site.http.get(path)).status_code == 401
        again = await get(bob, path, if_none_match=answer.headers["ETag"])
        assert (again.status_code, again.content) == (304, b"")
        await ann.ask("DELETE", f"/conversations/{talk}/messages/1", None, 204)
        for who in (ann, bob):
            assert await code_of(await get(who, path), 404) == "file_unknown"
        gone = await get(bob, path, if_none_match=answer.headers["ETag"])
        assert gone.status_code == 404
        await until(lambda: not [path for path in (tmp_path / "files").rglob("*") if path.is_file()])


async def test_parts_of_a_file_are_served(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        view = await send(ann, WORDS, "words.txt")
        path, size = f"/api/v1/files/{view['id']}", len(WORDS)
        for asked, start, stop in (
            ("bytes=0-0", 0, 1),
            ("bytes=5-300004", 5, 300_005),
            (f"bytes={size - 3}-", size - 3, size),
            ("bytes=7-9999999999", 7, size),
            ("bytes=-4", size - 4, size),
            ("bytes=-99999999", 0, size),
        ):
            answer = await get(ann, path, range=asked)
            assert answer.status_code == 206
            assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
            assert answer.content == WORDS[start:stop]
        for asked in (f"bytes={size}-", "bytes=-0"):
            answer = await get(ann, path, range=asked)
            assert await code_of(answer, 416) == "range_not_satisfiable"
            assert answer.headers["Content-Range"] == f"bytes */{size}"
        for asked in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=a-b"):
            answer = await get(ann, path, range=asked)
            assert (answer.status_code, answer.content) == (200, WORDS)
        other = await get(ann, path, range="bytes=0-1", if_range='"another"')
        assert (other.status_code, len(other.content)) == (200, size)
        head = await ann.http.head(path, headers={"Authorization": f"Bearer {ann.token}"})
        assert (head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (str(size), "bytes")
        assert head.content == b""


async def test_what_browsers_could_run_is_only_to_be_saved(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann = await site.person("ann")
        view = await send(ann, b"<!doctype html><script>alert(document.domain)</script>", 'x"\r\nSet-Cookie: a.html')
        answer = await get(ann, f"/api/v1/files/{view['id']}")
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''x%27Set-Cookie%20a.html"
        assert "Set-Cookie" not in answer.headers


async def test_a_ticket_shows_what_its_holder_may_see_and_opens_nothing_else(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann, bob, eve = [await site.person(name) for name in ("ann", "bob", "eve")]
        view = await send(ann, samples.video(), "film.mp4")
        await attach(ann, "bob", view["id"])
        ticket = await ticket_of(bob)
        part = await by_ticket(site.http, view["id"], ticket, range="bytes=0-99")
        assert (part.status_code, len(part.content), part.headers["Content-Type"]) == (206, 100, "video/mp4")
        assert "Access-Control-Allow-Origin" not in part.headers
        small = await site.http.get(f"/media/{view['id']}/preview", params={"ticket": ticket})
        assert small.headers["Content-Type"] == "image/webp"
        assert await code_of(await by_ticket(site.http, view["id"], await ticket_of(eve)), 404) == "file_unknown"
        for wrong in ("", "x", bob.token, ticket[:-4] + "AAAA"):
            assert await code_of(await by_ticket(site.http, view["id"], wrong), 401) == "no_session"
        as_token = await site.http.get("/api/v1/me", headers={"Authorization": f"Bearer {ticket}"})
        assert await code_of(as_token, 401) == "no_session"


async def test_a_file_taken_back_ends_where_it_is_being_read(tmp_path: Path) -> None:
    async with filing_site(tmp_path, largest_mib=64) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        view = await send(ann, b"words " * 5_000_000, "long.txt")
        talk = await attach(ann, "bob", view["id"])
        headers = {"Authorization": f"Bearer {bob.token}"}
        with_error: list[Exception] = []
        async with bob.http.stream("GET", f"/api/v1/files/{view['id']}", headers=headers) as answer:
            parts = answer.aiter_raw(1000)
            await parts.__anext__()
            await ann.ask("DELETE", f"/conversations/{talk}/messages/1", None, 204)
            await until(lambda: not [path for path in (tmp_path / "files").rglob("*") if path.is_file()])
            try:
                with trio.fail_after(20):
                    async for _ in parts:
                        pass
            except httpx2.HTTPError as error:
                with_error.append(error)
        assert with_error


async def test_a_message_over_http_names_its_files(tmp_path: Path) -> None:
    async with filing_site(tmp_path) as site:
        ann, bob = await site.person("ann"), await site.person("bob")
        first, second = await send(ann, samples.picture()), await send(ann, b"words", "words.txt")
        talk = await attach(ann, "bob", first["id"], second["id"])
        (message,) = (await bob.ask("GET", f"/conversations/{talk}/messages"))["messages"]
        shown: list[dict[str, Any]] = message["attachments"]
        assert [each["type"] for each in shown] == ["image/png", "text/plain"]
        body = {"text": "", "client_txn": "x", "attachments": ["none"]}
        refused = await bob.ask("POST", f"/conversations/{talk}/messages", body, 404)
        assert refused["code"] == "file_unknown"
        upload = f"/api/v1/uploads/{first['id']}"
        headers = {"Authorization": f"Bearer {ann.token}", "Tus-Resumable": "1.0.0"}
        assert await code_of(await ann.http.delete(upload, headers=headers), 409) == "file_attached"
